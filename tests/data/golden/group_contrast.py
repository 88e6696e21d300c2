"""Standard errors of the difference of a group from all rows, by statsmodels.

For each case the rows, the number of rows at the beginning that are the group, the
difference of means in standard deviations of all rows (numpy, denominator n), and its
standard error: that of statsmodels' CompareMeans with unequal variances for the group and
the other rows, times the share of the other rows, in the same unit. By hand, from the root:

    python3 tests/data/golden/group_contrast.py

Needs numpy and statsmodels (values committed: statsmodels 0.15).
"""

import json
from pathlib import Path

import numpy as np
from statsmodels.stats.weightstats import CompareMeans

HERE = Path(__file__).parent

rng = np.random.default_rng(1)
cases = []
for group, others, shift, spread in [(40, 160, 1.0, 1.0), (10, 90, -2.0, 0.2), (150, 50, 0.1, 4.0), (2, 30, 0.0, 1.0)]:
    rows = np.r_[rng.normal(shift, spread, group), rng.normal(0, 1, others)].round(6)
    here, rest = rows[:group], rows[group:]
    error = CompareMeans.from_data(here, rest).std_meandiff_separatevar
    cases.append({
        "rows": rows.tolist(),
        "group": group,
        "difference": (here.mean() - rows.mean()) / rows.std(),
        "standard_error": others / len(rows) * error / rows.std(),
    })
(HERE / "group_contrast.json").write_text(json.dumps(cases) + "\n")
