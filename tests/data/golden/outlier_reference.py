"""Golden values of the surprise part of the outlier reference.

    pip install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
    python tests/data/golden/outlier_reference.py

The dependence tree of Chow and Liu (1968) by scikit-learn's mutual information and SciPy's minimum
spanning tree. Writes outlier_reference.json beside this file: the rows, and for each column and edge
the surprise in the unit of the measure.
"""

import json
from pathlib import Path

import numpy as np
from scipy.sparse.csgraph import minimum_spanning_tree
from sklearn.metrics import mutual_info_score

ROWS, BINS, GROUPS = 600, 32, 4
MINIMUM_INFORMATION, PAIR_WEIGHT, SMOOTHING_ROWS = 0.1, 0.5, 8
here = Path(__file__).parent
rng = np.random.default_rng(41)


def make_rows():
    a = rng.normal(size=ROWS)
    b = 0.9 * a + 0.4 * rng.normal(size=ROWS)
    count = rng.poisson(np.exp(0.8 * a))
    parabola = b**2 + 0.3 * rng.normal(size=ROWS)
    alone = rng.uniform(-1, 1, size=ROWS)
    flag = (rng.uniform(size=ROWS) < np.where(alone > 0, 0.2, 0.05)).astype(float)
    near_flag = np.where(rng.uniform(size=ROWS) < 0.02, 1 - flag, flag)
    rows = np.column_stack([a, b, np.minimum(count, 6), parabola, alone, flag, near_flag])
    return np.round(rows, 4).astype(np.float32)


def bins_of(rows):
    exact = rows.astype(float)
    low = (exact.mean(0) - 4 * exact.std(0)).astype(np.float32)
    per_unit = (BINS / (8 * exact.std(0))).astype(np.float32)
    return np.clip(np.floor((rows - low) * per_unit), 0, BINS - 1).astype(int)


def group_table(counts):
    """Each group takes bins until it has its share of the rows that are left."""
    table, group, left, taken = [], 0, int(counts.sum()), 0
    for count in counts.tolist():
        table.append(group)
        taken += count
        if taken > 0 and group < GROUPS - 1 and taken * (GROUPS - group) >= left:
            group, left, taken = group + 1, left - taken, 0
    return np.array(table)


def pair_table(first, second):
    table = np.zeros((GROUPS, GROUPS))
    np.add.at(table, (first, second), 1)
    share = np.outer(table.sum(1), table.sum(0)) / ROWS**2
    smoothed = (table + SMOOTHING_ROWS * share) / (ROWS + SMOOTHING_ROWS)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(share > 0, -PAIR_WEIGHT * np.log(smoothed / share), 0.0)


def main():
    rows = make_rows()
    bins = bins_of(rows)
    columns = rows.shape[1]
    counts = np.stack([np.bincount(column, minlength=BINS) for column in bins.T]).astype(float)
    neighbours = np.pad(counts, ((0, 0), (1, 1)), mode="edge")
    smoothed = neighbours[:, :-2] / 4 + counts / 2 + neighbours[:, 2:] / 4
    surprise = -np.log((smoothed + 1) / (ROWS + BINS))
    tables = np.stack([group_table(column) for column in counts])
    groups = np.stack([tables[column][bins[:, column]] for column in range(columns)])
    information = np.array([[mutual_info_score(x, y) for y in groups] for x in groups])
    tree = minimum_spanning_tree(-np.triu(information, 1)).tocoo()
    edges = sorted(
        sorted((int(a), int(b)))
        for a, b, length in zip(tree.row, tree.col, tree.data)
        if -length > MINIMUM_INFORMATION
    )
    pairs = [pair_table(groups[a], groups[b]) for a, b in edges]
    total = sum(surprise[column][bins[:, column]] for column in range(columns))
    total += sum(table[groups[a], groups[b]] for (a, b), table in zip(edges, pairs))
    mean = np.maximum(total / columns, 0)
    unit = np.quantile(mean, 0.9) - np.quantile(mean, 0.5)
    golden = {
        "rows": [[round(float(x), 4) for x in row] for row in rows],
        "groups": tables.ravel().tolist(),
        "edges": edges,
        "surprise": (surprise / columns / unit).ravel().tolist(),
        "pair_surprise": (np.array(pairs) / columns / unit).ravel().tolist(),
        "measured": (mean / unit).tolist(),
    }
    (here / "outlier_reference.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


main()
