"""Poisson regression with row and column effects, by statsmodels.

For each case cells (row, column, regressor, count), and the coefficient of the regressor
with its standard error: a GLM with a dummy for each row and column, clustered by row
without statsmodels' correction, times the square root of rows / (rows - 1). Rows and
columns without a count, and rows with one cell, are left out first. By hand, from the
root:

    python3 tests/data/golden/fixed_effects_poisson.py

Needs numpy, pandas and statsmodels (values committed: statsmodels 0.15).
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.api as sm

HERE = Path(__file__).parent

rng = np.random.default_rng(7)


def draw(rows, columns, slope, level, present):
    cells = []
    of_row, of_column = rng.normal(level, 1, rows), rng.normal(0, 0.5, columns)
    for row in range(rows):
        for column in range(columns):
            if rng.random() > present:
                continue
            # Prices fall where demand is high, as promotions do.
            regressor = round(rng.normal(0, 0.3) - 0.2 * of_column[column], 6)
            mean = np.exp(of_row[row] + of_column[column] + slope * regressor)
            cells.append([row, column, regressor, int(rng.poisson(mean))])
    return cells


def fit(cells):
    table = pd.DataFrame(cells, columns=["row", "column", "regressor", "count"])
    while True:
        before = len(table)
        for part in ["row", "column"]:
            table = table[table.groupby(part)["count"].transform("sum") > 0]
        table = table[table.groupby("row")["count"].transform("size") > 1]
        if len(table) == before:
            break
    dummies = pd.get_dummies(table[["row", "column"]].astype(str), drop_first=False, dtype=float)
    design = dummies.drop(columns=[c for c in dummies if c.startswith("column_")][0])
    design.insert(0, "regressor", table["regressor"])
    model = sm.GLM(table["count"].astype(float), design, family=sm.families.Poisson())
    found = model.fit(
        tol=1e-14, maxiter=200, cov_type="cluster",
        cov_kwds={"groups": table["row"].to_numpy(), "use_correction": False},
    )
    rows = table["row"].nunique()
    return {
        "cells": cells,
        "slope": found.params["regressor"],
        "standard_error": found.bse["regressor"] * (rows / (rows - 1)) ** 0.5,
        "rows": rows,
        "columns": table["column"].nunique(),
    }


CASES = [(20, 30, -2.0, 1.0, 1.0), (40, 12, 0.5, -1.0, 0.6), (12, 52, -0.8, 3.0, 0.9), (60, 8, 0.0, -2.0, 0.5)]
(HERE / "fixed_effects_poisson.json").write_text(json.dumps([fit(draw(*case)) for case in CASES]) + "\n")
