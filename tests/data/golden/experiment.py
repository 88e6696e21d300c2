"""Experiments: effects, intervals, tests, power and RATE by scipy, statsmodels and brute force.

Where no library has the figure, it is computed from its definition by another way than the service:
the delta method by complex-step derivatives, the always-valid interval by integrating the mixture
likelihood ratio and finding the effects that it does not reject, shrunken effects by Henderson's
mixed model equations, RATE by averaging over all orders of tied rows. By hand, from the root:

    python3 tests/data/golden/experiment.py

Needs numpy, scipy 1.17 and statsmodels 0.15.
"""

import itertools
import json
import math
import warnings
from pathlib import Path

import numpy as np
import statsmodels.api as sm
from scipy import integrate, optimize, stats
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import power_proportions_2indep

HERE = Path(__file__).parent
rng = np.random.default_rng(8)


def gradient(function, at):
    """Complex-step derivatives: exact to the last digits."""
    result = []
    for i in range(len(at)):
        point = np.array(at, dtype=complex)
        point[i] += 1e-30j
        result.append(function(*point).imag / 1e-30)
    return np.array(result)


def student():
    rows = []
    for degrees in [1, 1.5, 2.7, 5, 12.3, 40, 150, 200, 999.9, 1000, 2500, 123456.7, 1e7, 1e9]:
        for t in [0.001, 0.3, 1.0, 1.959964, 3.3, 6.0, 12.0]:
            rows.append({"t": t, "degrees": degrees, "tail": float(2 * stats.t.sf(t, degrees))})
    return rows


def student_quantiles():
    rows = []
    for degrees in [1, 2.7, 12.3, 150, 250, 1000, 123456.7, 1e7]:
        for tail in [0.5, 0.1, 0.05, 0.01, 0.0005]:
            rows.append({"t": float(stats.t.isf(tail / 2, degrees)), "degrees": degrees, "tail": tail})
    return rows


def satterthwaite(variances, degrees):
    variances, degrees = np.array(variances), np.array(degrees)
    return float(variances.sum() ** 2 / (variances**2 / degrees).sum())


def effect(value, variance, degrees):
    error = math.sqrt(variance)
    half = stats.t.isf(0.025, degrees) * error
    return {
        "value": float(value),
        "standard_error": error,
        "degrees": float(degrees),
        "p_value": float(2 * stats.t.sf(abs(value / error), degrees)),
        "interval": [float(value - half), float(value + half)],
    }


def lift(means, variances, counts, shared=0.0):
    """Relative lift; `shared` is the covariance of the two means."""
    def function(treatment, control):
        return treatment / control - 1

    slopes = gradient(function, means)
    covariance = np.diag(variances) + shared
    parts = [slopes[0] ** 2 * variances[0], slopes[1] ** 2 * variances[1]]
    degrees = [counts[0] - 1, counts[1] - 1]
    if shared:
        parts.append(slopes.sum() ** 2 * shared)
        degrees.append(sum(counts) - 1)
    return effect(function(*means), slopes @ covariance @ slopes, satterthwaite(parts, degrees))


def ratio_rows(rows):
    """Linearised rows, by the derivatives of the ratio at the means."""
    means = rows[:, :2].mean(axis=0)
    slopes = gradient(lambda y, d: y / d, means)
    ratio = means[0] / means[1]
    return ratio + (rows[:, :2] - means) @ slopes


def compare(treatment, control):
    """Effects of two arrays of metric, denominator, covariate."""
    linear = [ratio_rows(rows) for rows in (treatment, control)]
    counts = [len(rows) for rows in linear]
    means = [rows.mean() for rows in linear]
    variances = [rows.var(ddof=1) / len(rows) for rows in linear]
    degrees = satterthwaite(variances, [counts[0] - 1, counts[1] - 1])
    result = {
        "difference": effect(means[0] - means[1], sum(variances), degrees),
        "lift": lift(means, variances, counts),
    }
    if np.all(treatment[:, 1] == 1) and np.all(control[:, 1] == 1):
        test = stats.ttest_ind(treatment[:, 0], control[:, 0], equal_var=False)
        low, high = test.confidence_interval(0.95)
        assert math.isclose(test.pvalue, result["difference"]["p_value"], rel_tol=1e-9)
        result["difference"] |= {
            "degrees": float(test.df), "p_value": float(test.pvalue), "interval": [float(low), float(high)]}
    covariates = np.r_[treatment[:, 2], control[:, 2]]
    if np.ptp(covariates) > 0:
        design = np.c_[np.repeat([1, 0], counts), np.repeat([0, 1], counts), covariates]
        fit = sm.OLS(np.concatenate(linear), design).fit()
        theta = fit.params[2]
        adjusted = [own - theta * rows[:, 2] for own, rows in zip(linear, (treatment, control))]
        at = theta * covariates.mean()
        means = [rows.mean() + at for rows in adjusted]
        reduced = [rows.var(ddof=1) / len(rows) for rows in adjusted]
        within = sum(((rows[:, 2] - rows[:, 2].mean()) ** 2).sum() for rows in (treatment, control))
        shared = theta**2 * within / (sum(counts) - 2) / sum(counts)
        degrees = satterthwaite(reduced, [counts[0] - 1, counts[1] - 1])
        result["adjusted"] = {
            "theta": float(theta),
            "difference": effect(means[0] - means[1], sum(reduced), degrees),
            "lift": lift(means, reduced, counts, shared),
            "variance_reduction": float(1 - sum(reduced) / sum(variances)),
        }
    return result


def draw(kind, count, shift):
    before = rng.gamma(2.0, 20.0, count).round(3)
    if kind == "proportion":
        return np.c_[rng.random(count) < 0.2 + shift, np.ones(count), np.zeros(count)].astype(float)
    if kind == "mean":
        return np.c_[(0.7 * before + rng.normal(30 + shift, 15, count)).round(3), np.ones(count), before]
    visits = rng.poisson(3, count) + 1.0
    orders = rng.binomial(visits.astype(int), np.clip(0.1 + shift + before / 400, 0, 1))
    return np.c_[orders, visits, before].astype(float)


def comparisons():
    cases = []
    for kind, counts, shift in [
        ("mean", (80, 120), 4.0), ("mean", (15, 300), 0.0), ("proportion", (400, 350), 0.08),
        ("ratio", (150, 200), 0.05), ("ratio", (300, 60), -0.02),
    ]:
        treatment, control = draw(kind, counts[0], shift), draw(kind, counts[1], 0.0)
        cases.append({"kind": kind, "treatment": treatment.tolist(), "control": control.tolist()}
                     | compare(treatment, control))
    return cases


def always_valid():
    """Effects that the mixture likelihood ratio does not reject at the level alpha."""
    cases = []
    for value, error, customers, alpha, tuned in [
        (0.3, 0.1, 400, 0.05, 5000), (-2.0, 1.3, 12000, 0.05, 5000), (0.0, 0.02, 800, 0.1, 2000),
        (0.05, 0.01, 100000, 0.01, 20000), (1.0, 0.5, 5000, 0.05, 5000),
    ]:
        twice = -2 * math.log(alpha)
        precision = (twice + math.log(twice + 1)) / tuned
        # The variance of one observation is error² customers; effects are mixed in that unit.
        mixture = math.sqrt(precision * customers) * error

        def ratio(null):
            def weighted(step):
                true = null + mixture * step
                exponent = ((value - null) ** 2 - (value - true) ** 2) / (2 * error**2)
                return math.exp(exponent - step * step / 2) / math.sqrt(2 * math.pi)

            center = (value - null) / mixture * mixture**2 / (mixture**2 + error**2)
            width = error / math.sqrt(mixture**2 + error**2)
            parts = np.linspace(center - 12 * width, center + 12 * width, 13)
            return sum(integrate.quad(weighted, a, b, epsabs=0, epsrel=1e-13)[0]
                       for a, b in zip(parts, parts[1:]))

        def excess(distance):
            return math.log(ratio(value - distance)) + math.log(alpha)

        half = optimize.brentq(excess, 0.1 * error, 20 * error, xtol=1e-15, rtol=1e-14)
        cases.append({
            "value": value, "standard_error": error, "customers": customers, "alpha": alpha,
            "tuned_customers": tuned, "interval": [value - half, value + half],
            "p_value": min(1.0, 1 / ratio(0.0)),
        })
    return cases


def sample_ratios():
    cases = []
    for counts, shares in [
        ([5000, 5000], [0.5, 0.5]), ([5000, 5400], [0.5, 0.5]), ([820, 1590, 790], [0.25, 0.5, 0.25]),
        ([100, 910], [0.1, 0.9]), ([7, 30], [0.3, 0.7]),
    ]:
        found = stats.chisquare(counts, np.array(shares) * sum(counts))
        cases.append({"counts": counts, "shares": shares, "chi_square": float(found.statistic),
                      "p_value": float(found.pvalue)})
    return cases


def p_value_adjustments():
    cases = []
    for count in [1, 4, 9, 30]:
        values = np.r_[rng.random(count) ** 3, [0.02, 0.02]].round(6)
        cases.append({"p_values": values.tolist(),
                      "adjusted": multipletests(values, method="fdr_bh")[1].tolist()})
    return cases


def shrink(effects, variances, between):
    """Best linear unbiased predictions by Henderson's mixed model equations.

    The variance has the term of Morris (1983) for the unknown variance between groups.
    """
    count = len(effects)
    weights = np.diag(1 / variances)
    ones = np.ones((count, 1))
    system = np.block([[ones.T @ weights @ ones, ones.T @ weights],
                       [weights @ ones, weights + np.eye(count) / between]])
    inverse = np.linalg.inv(system)
    solved = inverse @ np.concatenate([ones.T @ weights @ effects, weights @ effects])
    predicted = solved[0] + solved[1:]
    errors = inverse[0, 0] + 2 * inverse[0, 1:] + np.diag(inverse)[1:]
    return predicted, np.sqrt(errors + 2 / max(count - 3, 1) * (effects - predicted) ** 2)


def heterogeneity():
    cases = []
    for effects, errors in [
        ([0.1, 0.4, -0.2, 0.9], [0.1, 0.15, 0.2, 0.25]),
        ([0.30, 0.32, 0.28], [0.1, 0.2, 0.3]),
        (rng.normal(2, 1, 12).round(4).tolist(), rng.uniform(0.2, 1.5, 12).round(4).tolist()),
        ([5.0, 1.0], [0.5, 1.0]),
    ]:
        found = combine_effects(np.array(effects), np.array(errors) ** 2, method_re="dl")
        test = found.test_homogeneity()
        between = max(0.0, float(found.tau2))
        case = {
            "effects": effects, "errors": errors, "q": float(found.q), "p_value": float(test.pvalue),
            "i_squared": max(0.0, float(found.i2)), "between_variance": between,
        }
        if between > 0:
            shrunken, error = shrink(np.array(effects), np.array(errors) ** 2, between)
            case |= {"mean": float(found.mean_effect_re), "mean_error": float(found.sd_eff_w_re),
                     "shrunken": shrunken.tolist(), "shrunken_errors": error.tolist()}
        else:
            mean, error = float(found.mean_effect_fe), float(found.sd_eff_w_fe)
            morris = 2 / max(len(effects) - 3, 1) * (np.array(effects) - mean) ** 2
            case |= {"mean": mean, "mean_error": error, "shrunken": [mean] * len(effects),
                     "shrunken_errors": np.sqrt(error**2 + morris).tolist()}
        cases.append(case)
    return cases


def segments():
    """Effect of each segment minus that of all others."""
    own, cases = [], []
    for count, shift in [(60, 0.0), (200, 6.0), (90, 12.0)]:
        own.append((draw("mean", count, shift), draw("mean", count + 20, 0.0)))
    for index in range(len(own)):
        rest = [np.concatenate([rows[side] for other, rows in enumerate(own) if other != index])
                for side in (0, 1)]
        columns = [own[index][0], own[index][1], rest[0], rest[1]]
        values = [rows[:, 0] for rows in columns]
        variances = [rows.var(ddof=1) / len(rows) for rows in values]
        value = values[0].mean() - values[1].mean() - values[2].mean() + values[3].mean()
        degrees = satterthwaite(variances, [len(rows) - 1 for rows in values])
        cases.append(effect(value, sum(variances), degrees))
    adjusted = multipletests([case["p_value"] for case in cases], method="fdr_bh")[1]
    return {
        "segments": [{"treatment": a.tolist(), "control": b.tolist()} for a, b in own],
        "differences": cases, "adjusted": adjusted.tolist(),
    }


def power_of_means():
    cases = []
    for difference, deviation, customers, ratio, alpha in [
        (0.5, 3.0, 400, 1.0, 0.05), (-1.0, 20.0, 5000, 0.5, 0.01), (2.0, 10.0, 150, 3.0, 0.1),
        (0.1, 1.0, 50, 1.0, 0.05),
    ]:
        plan = NormalIndPower(ddof=0)
        size = abs(difference) / deviation
        power = plan.power(size, customers, alpha, ratio=ratio)

        def missing(ln_count):
            return plan.power(size, math.exp(ln_count), alpha, ratio=ratio) - 0.8

        needed = math.exp(optimize.brentq(missing, 0, 30, xtol=1e-15, rtol=1e-14))
        assert math.isclose(needed, plan.solve_power(size, None, alpha, 0.8, ratio), rel_tol=1e-4)
        detectable = optimize.brentq(
            lambda one: plan.power(one / deviation, customers, alpha, ratio=ratio) - 0.8,
            1e-9, 100 * deviation, xtol=1e-15, rtol=1e-14)
        cases.append({"difference": difference, "deviation": deviation, "customers": customers,
                      "ratio": ratio, "alpha": alpha, "power": float(power), "needed": needed,
                      "detectable": detectable})
    return cases


def power_of_proportions():
    cases = []
    for difference, rate, customers, ratio, alpha in [
        (0.02, 0.1, 3000, 1.0, 0.05), (-0.03, 0.2, 2500, 0.5, 0.01), (0.004, 0.02, 20000, 2.0, 0.05),
        (0.2, 0.5, 60, 1.0, 0.1),
    ]:
        # In statsmodels, the second group is the reference; here it is the control.
        def power(diff, count):
            return float(power_proportions_2indep(
                diff, rate, count * ratio, ratio=1 / ratio, alpha=alpha, return_results=False))

        needed = math.exp(optimize.brentq(
            lambda ln_count: power(difference, math.exp(ln_count)) - 0.8, 0, 30, xtol=1e-15, rtol=1e-14))
        detectable = optimize.brentq(
            lambda one: power(one, customers) - 0.8, 1e-9, 1 - rate - 1e-9, xtol=1e-15, rtol=1e-14)
        cases.append({"difference": difference, "rate": rate, "customers": customers, "ratio": ratio,
                      "alpha": alpha, "power": power(difference, customers), "needed": needed,
                      "detectable": detectable})
    return cases


def rate(scores, power):
    """RATE of rows in the order of their priority, without ties; weights q ** power."""
    ranks = np.arange(1, len(scores) + 1)
    curve = np.cumsum(scores) / ranks - np.mean(scores)
    return np.mean(curve * (ranks / len(scores)) ** power)


def rank_weighted_small():
    """The mean over all orders of the rows within their ties."""
    cases = []
    for sizes in [[1, 1, 1, 1], [3, 2, 3], [5, 1], [4], [2, 2, 2, 2], [1, 5, 2]]:
        groups = [rng.normal(len(sizes) - index, 2, size).round(4) for index, size in enumerate(sizes)]
        orders = [list(itertools.permutations(group)) for group in groups]
        rows = [np.concatenate(order) for order in itertools.product(*orders)]
        cases.append({
            "groups": [group.tolist() for group in groups],
            "autoc": float(np.mean([rate(one, 0) for one in rows])),
            "qini": float(np.mean([rate(one, 1) for one in rows])),
        })
    return cases


def effect_scores(outcomes, treated, probability):
    mean_treated, mean_control = outcomes[treated].mean(), outcomes[~treated].mean()
    weights = np.where(treated, 1 / probability, -1 / (1 - probability))
    residuals = outcomes - np.where(treated, mean_treated, mean_control)
    return mean_treated - mean_control + weights * residuals


def sequential_folds():
    """Folds ranked by the means of all earlier folds; the sum of scores is linear within ties."""
    count, probability = 900, 0.4
    groups = rng.integers(0, 5, count)
    treated = rng.random(count) < probability
    outcomes = (rng.normal(10, 3, count) + treated * (groups - 1.5)).round(3)
    folds = rng.integers(0, 3, count)
    scores = effect_scores(outcomes, treated, probability)
    rates = {0: 0.0, 1: 0.0}
    for fold in (1, 2):
        inside, earlier = folds == fold, folds < fold
        means = [scores[earlier & (groups == group)].mean() for group in range(5)]
        order = np.argsort(means)[::-1]
        sums = [scores[inside & (groups == group)].sum() for group in order]
        sizes = [(inside & (groups == group)).sum() for group in order]
        ranks = np.arange(1, inside.sum() + 1)
        ends = np.concatenate([[0], np.cumsum(sizes)])
        curve = np.interp(ranks, ends, np.concatenate([[0], np.cumsum(sums)])) / ranks
        curve -= scores[inside].mean()
        for power in rates:
            share = inside.sum() / (folds > 0).sum()
            rates[power] += share * np.mean(curve * (ranks / len(ranks)) ** power)
    return {
        "outcomes": outcomes.tolist(), "treated": treated.tolist(), "groups": groups.tolist(),
        "folds": folds.tolist(), "probability": probability, "scores": scores.tolist(),
        "autoc": float(rates[0]), "qini": float(rates[1]),
    }


warnings.filterwarnings("ignore")
golden = {
    "student": student(),
    "student_quantiles": student_quantiles(),
    "comparisons": comparisons(),
    "always_valid": always_valid(),
    "sample_ratios": sample_ratios(),
    "p_value_adjustments": p_value_adjustments(),
    "heterogeneity": heterogeneity(),
    "segments": segments(),
    "power_of_means": power_of_means(),
    "power_of_proportions": power_of_proportions(),
    "rank_weighted": rank_weighted_small(),
    "sequential_folds": sequential_folds(),
}
(HERE / "experiment.json").write_text(json.dumps(golden) + "\n")
