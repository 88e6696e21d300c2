"""Detectors of drift, by SciPy and River.

Hours counted by bin with the z of Mann and Whitney, e-values by their integral, the
sums of Shiryaev and Roberts, and streams of values with the steps at which River's
Page-Hinkley and ADWIN tell a change, and what they hold after it. By hand, from the
root, in an environment that has both:

    python3 tests/data/golden/detectors.py

Needs SciPy and River (values committed: scipy 1.17, river 0.26).
"""

import json
from pathlib import Path

import numpy as np
from river.drift import ADWIN, PageHinkley
from scipy import integrate, stats

HERE = Path(__file__).parent
LIMIT = 50.0
# What is held is written out after each so many steps.
EVERY = 20


def expanded(counts):
    return np.repeat(np.arange(len(counts)), counts)


def ranks():
    rng = np.random.default_rng(8)
    even = [1 / 20] * 20
    tilted = np.linspace(0.5, 1.5, 20) / 20
    hours = [
        (rng.multinomial(400, even), rng.multinomial(40, even)),
        (rng.multinomial(400, even), rng.multinomial(300, tilted)),
        (rng.multinomial(5000, tilted), rng.multinomial(900, even)),
        ([0, 0, 31, 0, 9], [1, 0, 30, 2, 0]),
        ([40, 0], [38, 1]),
        ([12, 7, 9], [0, 0, 500]),
    ]
    for earlier, now in hours:
        found = stats.mannwhitneyu(expanded(now), expanded(earlier), method="asymptotic", use_continuity=False)
        sign = np.sign(found.statistic - sum(earlier) * sum(now) / 2)
        yield {"earlier": list(map(int, earlier)), "now": list(map(int, now)),
               "z": sign * stats.norm.isf(found.pvalue / 2)}


def e_value(p):
    """The mean of all κ p^(κ − 1), by quadrature."""
    return integrate.quad(lambda k: k * p ** (k - 1), 0, 1, epsabs=0, epsrel=1e-12, limit=500)[0]


def streams():
    rng = np.random.default_rng(21)
    normal = lambda steps: rng.standard_normal(steps).round(4)
    yield "no_change", normal(600)
    yield "shift", np.r_[normal(300), 0.8 + normal(300)]
    yield "shift_down", np.r_[normal(200), normal(400) - 1.2]
    yield "slow_ramp", normal(800) + np.linspace(0, 2.5, 800).round(4)
    yield "wider", np.r_[normal(300), 3 * normal(400)]
    yield "there_and_back", np.r_[normal(150), 2 + normal(150), normal(150), 2 + normal(150)]


def shiryaev_roberts(z):
    """Alarms, the sums, and the powers of ten of the plain martingale."""
    alarms, sums, log10s = [], [], []
    total, log10 = 0.0, 0.0
    for step, p in enumerate(2 * stats.norm.sf(np.abs(z))):
        e = e_value(p)
        total = (total + 1) * e
        log10 += np.log10(e)
        sums.append(total)
        log10s.append(log10)
        if total >= LIMIT:
            alarms.append(step)
            total = 0.0
    return {"alarms": alarms, "sums": sums[::EVERY], "log10": log10s[::EVERY]}


def page_hinkley(values, slack, limit, kept):
    detector = PageHinkley(min_instances=30, delta=slack, threshold=limit, alpha=kept, mode="both")
    alarms = []
    for step, x in enumerate(values):
        detector.update(float(x))
        if detector.drift_detected:
            alarms.append(step)
    height = max(detector._sum_increase - detector._min_increase, detector._max_decrease - detector._sum_decrease)
    return {"slack": slack, "limit": limit, "kept": kept, "alarms": alarms, "height": height}


def adwin(values, delta):
    detector = ADWIN(delta=delta, clock=1)
    alarms, widths, means = [], [], []
    for step, x in enumerate(values):
        detector.update(float(x))
        if detector.drift_detected:
            alarms.append(step)
        widths.append(int(detector.width))
        means.append(detector.estimation)
    return {"delta": delta, "alarms": alarms, "widths": widths[::EVERY], "means": means[::EVERY]}


def main():
    golden = {
        "ranks": list(ranks()),
        "beyond": [[z, float(np.log(2) + stats.norm.logsf(z))] for z in (0.0, 0.3, 1.0, 2.5, 8.0, 27.0, 29.0, 45.0, 300.0)],
        "below": [[z, stats.norm.cdf(z)] for z in (-9.0, -2.5, -0.1, 0.0, 0.7, 3.0, 8.0)],
        "e_values": [[p, e_value(p)] for p in (1e-9, 1e-4, 0.01, 0.2, 0.5, 0.9, 0.9985, 0.9995, 1.0)],
        "limit": LIMIT,
        "every": EVERY,
        "streams": {
            name: {
                "values": z.tolist(),
                "shiryaev_roberts": shiryaev_roberts(z),
                "page_hinkley": [
                    page_hinkley(z, *rules)
                    for rules in [(0.005, 50.0, 1 - 0.0001), (0.125, 30.0, 1.0), (0.25, 8.0, 0.999)]
                ],
                "adwin": [adwin(stats.norm.cdf(z), delta) for delta in (0.002, 0.3)],
            }
            for name, z in streams()
        },
    }
    text = json.dumps(golden, default=lambda x: x.item(), allow_nan=False)
    (HERE / "detectors.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
