"""Statistics of drift, by SciPy where it has them and by definition where not.

Histograms are made here and written out with what the tests must find: special
functions and tails, PSI with its mean by chance and its interval, chi-square,
Jensen-Shannon, KS and Wasserstein on bins, exact tests of rates, unseen values,
Welch's test within a segment, Benjamini-Hochberg.
By hand, from the root:

    python3 tests/data/golden/drift.py

Needs SciPy (values committed: scipy 1.17).
"""

import json
from pathlib import Path

import numpy as np
from scipy import special, stats
from scipy.spatial.distance import jensenshannon

HERE = Path(__file__).parent
LEAST_EXPECTED = 10


def pool(before, now, ordered):
    """Cells in which the smaller sample expects at least ten rows."""
    n, m = sum(before), sum(now)
    expected = lambda cell: (cell[0] + cell[1]) * min(n, m) / (n + m)
    cells, rest = [], [0, 0]
    pairs = [list(pair) for pair in zip(before, now)]
    if not ordered:
        cells = sorted((p for p in pairs if expected(p) >= LEAST_EXPECTED), key=lambda p: -sum(p))
        pairs = [p for p in pairs if expected(p) < LEAST_EXPECTED]
        pairs = [[sum(p[0] for p in pairs), sum(p[1] for p in pairs)]]
    for pair in pairs:
        rest = [rest[0] + pair[0], rest[1] + pair[1]]
        if expected(rest) >= LEAST_EXPECTED:
            cells.append(rest)
            rest = [0, 0]
    cells[-1] = [cells[-1][0] + rest[0], cells[-1][1] + rest[1]]
    return np.array(cells, float)


def psi(cells):
    n, m = cells.sum(0)
    p, q = np.maximum(cells[:, 0], 0.5) / n, np.maximum(cells[:, 1], 0.5) / m
    value = ((q - p) * np.log(q / p)).sum()
    pooled = cells.sum(1) / cells.sum()
    degrees = len(cells) - 1
    mean = degrees * (1 / n + 1 / m) + ((1 - pooled) / pooled).sum() * (1 / n**2 + 1 / m**2) / 2
    chance_deviation = mean * np.sqrt(2 / degrees)
    deviation = np.hypot(chance_deviation, np.sqrt(delta_variance(p, q, n, m)))
    half = stats.norm.ppf(0.975) * deviation
    return {
        "value": value,
        "by_chance": mean,
        "chance_deviation": chance_deviation,
        "excess": max(0, value - mean),
        "interval": [max(0, value - mean - half), max(0, value - mean + half)],
        "p_value": stats.chi2.sf(value * degrees / mean, degrees),
        "bins": len(cells),
    }


def delta_variance(p, q, n, m):
    """Of the index by the delta method, its slopes taken numerically."""
    index = lambda p, q: ((q - p) * np.log(q / p)).sum()
    def variance(of, shares, rows):
        steps = np.diag(1e-6 * shares)
        slopes = [(of(shares + step) - of(shares - step)) / (2 * step.sum()) for step in steps]
        mean, square = np.dot(shares, slopes), np.dot(shares, np.square(slopes))
        return max(0, square - mean**2) / rows
    return variance(lambda x: index(x, q), p, n) + variance(lambda x: index(p, x), q, m)


def moved(cuts, before, now):
    """The integral of |F − G| and of F − G between the outermost cuts."""
    inner = np.cumsum(before)[:-1] / sum(before), np.cumsum(now)[:-1] / sum(now)
    difference = inner[0] - inner[1]
    points = np.union1d(np.linspace(cuts[0], cuts[-1], 200_001), cuts)
    values = np.interp(points, cuts, difference)
    # Where the sign changes, the trapezoids of |F − G| cross zero: the grid is fine enough.
    return {
        "distance": np.trapezoid(np.abs(values), points),
        "shift": np.trapezoid(values, points),
        "scipy": from_points(cuts, before, now),
    }


def from_points(cuts, before, now):
    """SciPy's distance between 500 points a bin, the outer bins on their cuts."""
    edges = np.r_[cuts[0], cuts, cuts[-1]]
    points = np.concatenate([a + (b - a) * (np.arange(500) + 0.5) / 500 for a, b in zip(edges, edges[1:])])
    weight = lambda counts: np.repeat(np.array(counts) / 500, 500)
    return stats.wasserstein_distance(points, points, weight(before), weight(now))


def histograms():
    rng = np.random.default_rng(5)
    yield "same_shares", [100, 200, 300, 400], [10, 20, 30, 40]
    yield "moved_up", [1000] * 10, [40, 60, 80, 90, 100, 110, 120, 130, 130, 140]
    yield "spread_out", [1000] * 10, [300, 200, 100, 50, 20, 20, 50, 100, 200, 300]
    yield "chance", [1000] * 10, rng.multinomial(700, [0.1] * 10).tolist()
    yield "sparse", [5000, 300, 12, 5, 3, 0, 1], [480, 30, 4, 0, 2, 6, 0]
    yield "empty_now", [500, 500, 500], [0, 300, 300]
    yield "large", rng.multinomial(400_000, [0.1] * 10).tolist(), rng.multinomial(1_000_000, [0.1] * 10).tolist()


def comparisons():
    for name, before, now in histograms():
        cuts = np.cumsum([0.5 + 1.5 * i for i in range(len(before) - 1)])
        ordered, unordered = pool(before, now, True), pool(before, now, False)
        test = stats.chi2_contingency(unordered.T, correction=False)
        n, m = sum(before), sum(now)
        steps = np.abs(np.cumsum(before) / n - np.cumsum(now) / m)[:-1]
        yield name, {
            "cuts": cuts.tolist(),
            "before": before,
            "now": now,
            "ordered": psi(ordered),
            "unordered": psi(unordered),
            "chi_square": {"statistic": test.statistic, "degrees": test.dof, "p_value": test.pvalue},
            "jensen_shannon": jensenshannon(before, now, base=2),
            "ks": {"distance": steps.max(), "p_value": special.kolmogorov(steps.max() * np.sqrt(n * m / (n + m)))},
            "moved": moved(cuts, before, now),
        }


def rates():
    for a, n, b, m in [(0, 5000, 3, 900), (50, 5000, 9, 900), (700, 5000, 60, 900), (0, 5000, 0, 900),
                       (5000, 5000, 890, 900), (40_000, 400_000, 101_000, 1_000_000), (3, 40, 25, 60)]:
        drawn = stats.hypergeom(n + m, a + b, m)
        yield {"reference": [a, n], "current": [b, m],
               "p_value": min(1.0, 2 * min(drawn.sf(b - 1), drawn.cdf(b)))}


def outliers():
    for found, scored, alpha, held_out in [(10, 1000, 0.01, 4000), (21, 1000, 0.01, 4000), (0, 500, 0.01, 4000),
                                           (12_000, 1_000_000, 0.01, 80_000), (40, 1000, 0.01, 199), (60, 1000, 0.05, 2000)]:
        k = int(np.floor(alpha * (held_out + 1) * (1 + 1e-12)))
        # SciPy's sf is 1 − cdf, which leaves few digits of a small tail.
        tail = stats.betabinom(scored, k, held_out + 1 - k).logpmf(np.arange(found, scored + 1))
        yield {"found": found, "scored": scored, "alpha": alpha, "held_out": held_out,
               "p_value": np.exp(special.logsumexp(tail))}


def unseen():
    """The share of rows with a value that training never had: beta-binomial, with the beta
    distribution of the probability beyond the ends of a sample (Wilks), or with the mean and
    variance of the probability of the values that a sample missed (Good, Robbins)."""
    cases = [("range", 0, 0, 20_000, 3, 400), ("range", 0, 0, 1000, 5, 10_000), ("range", 0, 0, 10**6, 10, 1000),
             ("values", 0, 0, 20_000, 400, 400), ("values", 0, 0, 500, 2, 50), ("values", 40, 15, 5000, 30, 2000),
             ("values", 900, 300, 1000, 60, 200), ("values", 3, 0, 10**6, 0, 200)]
    for kind, once, twice, before, found, rows in cases:
        if kind == "range":
            a, b = 2, before - 1
        elif once == 0:
            a, b = 1, before
        else:
            mean, variance = once / before, (once + 2 * twice) / before**2
            sample = mean / variance
            a, b = 1 + mean * sample, max(1, sample - mean * sample)
        tail = stats.betabinom(rows, a, b).logpmf(np.arange(found, rows + 1))
        yield {"kind": kind, "once": once, "twice": twice, "before": before, "found": found, "rows": rows,
               "expected": stats.beta(a, b).mean(), "p_value": min(1.0, np.exp(special.logsumexp(tail)))}


def dispersions():
    """Hours of counts: Dirichlet-multinomial, and with the shares of a level that wanders."""
    rng = np.random.default_rng(31)
    level = np.cumsum(rng.normal(0, 0.1, 40))
    tilt = np.exp(np.outer(level, np.linspace(-1, 1, 5)))
    cases = {
        "independent": rng.multinomial(80, [0.4, 0.3, 0.2, 0.1], 24),
        "two cells": rng.binomial(60, 0.1, (30, 1)) * [[1, 0]] + [[0, 60]],
        "overdispersed": np.array([rng.multinomial(100, rng.dirichlet([8, 6, 4, 2])) for _ in range(24)]),
        "a wandering level": np.array([rng.multinomial(200, shares / shares.sum()) for shares in tilt]),
        "an empty cell": np.insert(rng.multinomial(50, [0.5, 0.3, 0.2], 12), 1, 0, axis=1),
    }
    for name, counts in cases.items():
        counts = counts[:, counts.sum(axis=0) > 0] if name != "an empty cell" else counts
        used = counts[:, counts.sum(axis=0) > 0].astype(float)
        cells, steps = used.sum(axis=0), len(used) - 1
        residuals = used - np.outer(used.sum(axis=1), cells / cells.sum())
        differences = np.diff(residuals, axis=0) / np.sqrt(cells)
        effects = np.linalg.eigvalsh(differences.T @ differences * (steps + 1) / (2 * steps))
        degrees = 2 * steps**2 / (3 * steps - 1)
        squared = ((effects**2).sum() - effects.sum() ** 2 / degrees) * degrees**2 / ((degrees - 1) * (degrees + 2))
        free = used.shape[1] - 1
        spread = np.clip(free * squared / effects.sum() ** 2, 1, free)
        yield {"name": name, "blocks": counts.tolist(), "factor": effects.sum() / free * spread, "degrees": degrees,
               "share": 1 / spread, "index": stats.chisquare(counts.sum(axis=0)).statistic / (counts.shape[1] - 1)}


def fishers():
    for degrees in (1, 2.5, 9, 40):
        for other_degrees in (4, 15.6, 120, 2000):
            for x in (0, 0.3, 1, 2.7, 12):
                yield x, degrees, other_degrees, stats.f.sf(x, degrees, other_degrees)


def students():
    """Student's distribution, beyond both tails."""
    for degrees in (1.5, 3, 29, 30.7, 214.2, 1999, 2e4, 3.3e5, 1e7):
        for t in (0, 0.01, 1.1, 1.8, 2.5, 4.0, 7.5, 12.0):
            yield [t, degrees, 2 * stats.t.sf(t, degrees)]


def shifts():
    """Welch's test of rows told in spreads of the training rows, those that are spread
    less taken to be spread as they were."""
    rng = np.random.default_rng(8)
    for trained, rows, mean, spread, was_spread in [
            (400, 30, 0.0, 1.0, True), (400, 120, 0.5, 1.0, True), (5000, 30, -0.3, 0.4, True), (45, 900, 0.2, 1.6, True),
            (100_000, 40_000, 0.01, 1.1, True), (800, 300, 1.5, 2.5, True), (300, 60, 0.4, 0.8, False), (2000, 50, 0.0, 0.0, True)]:
        z = rng.normal(mean, spread, rows)
        deviation = max(1.0, z.std(ddof=1))
        test = stats.ttest_ind_from_stats(z.mean(), deviation, rows, 0.0, float(was_spread), trained, equal_var=False)
        yield {"trained": trained, "was_spread": was_spread, "rows": rows, "sum": z.sum(), "squares": (z**2).sum(),
               "d": z.mean(), "p_value": test.pvalue}


def main():
    arguments = [0.01, 0.3, 0.5, 1.0, 1.5, 2.0, 4.5, 9.0, 14.9, 30.0, 170.5, 1e4, 1e7]
    gammas = [(0.5, 0.01), (0.5, 3.0), (1.0, 1.0), (4.5, 2.0), (4.5, 12.0), (4.5, 60.0), (31.5, 30.0), (127.5, 200.0)]
    p_values = [0.001, 0.2, 0.01, 0.04, 0.041, 0.9, 0.03, 0.001, 1.0, 0.5]
    golden = {
        "ln_gamma": [[x, special.gammaln(x)] for x in arguments],
        "gamma_above": [[a, x, special.gammaincc(a, x)] for a, x in gammas],
        "kolmogorov": [[x, special.kolmogorov(x)] for x in (0.2, 0.5, 0.83, 0.99, 1.0, 1.36, 2.0, 4.0)],
        "comparisons": dict(comparisons()),
        "rates": list(rates()),
        "outliers": list(outliers()),
        "unseen": list(unseen()),
        "student": list(students()),
        "fisher": list(fishers()),
        "dispersions": list(dispersions()),
        "shifts": list(shifts()),
        "benjamini_hochberg": {"p_values": p_values, "adjusted": stats.false_discovery_control(p_values).tolist()},
    }
    text = json.dumps(golden, default=lambda x: x.item(), indent=1)
    (HERE / "drift.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
