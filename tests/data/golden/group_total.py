"""Shares of groups in a total, their means and their concentration, by statsmodels and numpy.

The share is a mean of 0 and 1 weighted by the amounts: statsmodels' WLS on a constant with
robust errors (HC1) gives its linearised standard error. The mean and its error are those of
DescrStatsW. The part of the largest fifth is numpy's linear interpolation of the cumulated
amounts. By hand, from the root:

    python3 tests/data/golden/group_total.py

Needs numpy and statsmodels (values committed: statsmodels 0.15).
"""

import json
from pathlib import Path

import numpy as np
from statsmodels.regression.linear_model import WLS
from statsmodels.stats.weightstats import DescrStatsW

HERE = Path(__file__).parent

rng = np.random.default_rng(2)
cases = []
for rows, group in [(200, 40), (57, 31), (500, 30), (90, 89)]:
    amounts = rng.lognormal(3, 1.2, rows).round(2)
    amounts[::9] = 0
    member = np.r_[np.ones(group), np.zeros(rows - group)]
    fit = WLS(member, np.ones(rows), weights=amounts).fit(cov_type="HC1")
    here = DescrStatsW(amounts[:group])
    falling = np.sort(amounts[:group])[::-1]
    top = np.interp(0.2 * group, np.arange(group + 1), np.r_[0, falling.cumsum()])
    cases.append({
        "amounts": amounts.tolist(),
        "group": group,
        "share": fit.params[0],
        "share_error": fit.bse[0],
        "mean": here.mean,
        "mean_error": here.std_mean,
        "top_fifth_share": top / falling.sum(),
    })
(HERE / "group_total.json").write_text(json.dumps(cases) + "\n")
