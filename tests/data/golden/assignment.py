"""SciPy's answers to assignment problems: python3 assignment.py > assignment.json

SciPy 1.x, NumPy's generator with a fixed seed. Totals are exact: whole numbers
below 2^53. Where all costs differ widely the choice itself is unique too.
"""

import json
import sys

import numpy
from scipy.optimize import linear_sum_assignment

rng = numpy.random.default_rng(20261124)
problems = []


def add(name, costs):
    rows, columns = linear_sum_assignment(costs)
    problems.append(
        {
            "name": name,
            "costs": costs.tolist(),
            "pairs": [[int(row), int(column)] for row, column in zip(rows, columns)],
            "total": int(costs[rows, columns].sum()),
        }
    )


for rows, columns in [(1, 1), (1, 5), (5, 1), (2, 2), (4, 4), (7, 3), (3, 7), (12, 12), (24, 17)]:
    shape = (rows, columns)
    add(f"wide {rows} x {columns}", rng.integers(-(10**9), 10**9, shape))
    # Small ones, with many ties: only the total is certain.
    add(f"tied {rows} x {columns}", rng.integers(0, 4, shape))
add("all equal", numpy.full((6, 6), 7))
add("a staircase", numpy.add.outer(numpy.arange(8), numpy.arange(8)) ** 2)
json.dump(problems, sys.stdout, separators=(",", ":"))
print()
