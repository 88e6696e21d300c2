"""Lifts of segments over all customers and the variance that segments explain, by statsmodels.

The lift is the ratio of two means over overlapping rows. The rows of all customers and, once more,
those of the segment are stacked: a Poisson regression with a logarithmic link on a constant and on
membership of the second part has the logarithm of the lift as its coefficient, and errors clustered
by customer account for the customers in both parts. Explained shares and p-values are the adjusted
R-squared and the F test of a regression on the segments, or on the previous orders. By hand, from the root:

    python3 tests/data/golden/backtest.py

Needs numpy and statsmodels (values committed: statsmodels 0.15).
"""

import json
from pathlib import Path

import numpy as np
import statsmodels.api as sm

HERE = Path(__file__).parent


def lift(outcome, member):
    rows = np.arange(len(outcome))
    both = np.r_[outcome, outcome[member]]
    part = np.r_[np.zeros(len(outcome)), np.ones(member.sum())]
    fit = sm.GLM(both, sm.add_constant(part), family=sm.families.Poisson()).fit(
        cov_type="cluster",
        cov_kwds={"groups": np.r_[rows, rows[member]], "use_correction": False},
        tol=1e-14,
        maxiter=200,
    )
    low, high = fit.conf_int()[1]
    return {"ratio": np.exp(fit.params[1]), "interval": [np.exp(low), np.exp(high)]}


def case(outcome, segment, previous):
    segments = range(segment.max() + 1)
    dummies = sm.add_constant((segment[:, None] == np.array(segments)[None, 1:]).astype(float))
    fit = sm.OLS(outcome, dummies).fit()
    alone = sm.OLS(outcome, sm.add_constant(previous)).fit()
    return {
        "outcome": outcome.tolist(),
        "segment": segment.tolist(),
        "lifts": [lift(outcome, segment == one) for one in segments],
        "explained_share": fit.rsquared_adj,
        "p_value": fit.f_pvalue,
        "previous": previous.tolist(),
        "explained_by_previous": alone.rsquared_adj,
    }


rng = np.random.default_rng(30)
cases = []
for rows, rates in [(300, [0.1, 0.4, 0.8]), (120, [0.5, 0.5]), (400, [0.02, 0.3, 0.3, 0.95])]:
    segment = np.sort(rng.integers(0, len(rates), rows))
    ordered = (rng.random(rows) < np.array(rates)[segment]).astype(float)
    orders = ordered * (1 + rng.poisson(3 * np.array(rates)[segment]))
    spend = (orders * rng.lognormal(3, 1.1, rows)).round(2)
    previous = rng.poisson(4 * np.array(rates)[segment])
    cases += [case(outcome, segment, previous) for outcome in (ordered, orders, spend)]
(HERE / "backtest.json").write_text(json.dumps(cases) + "\n")
