"""Evidently's DataDriftPreset on the rows that the benchmark sends.

Argument: a letter for each column, n of numbers and c of categories. On standard
input frames of a line `COMMAND ROWS` and float64 columns, one after the other;
categories are numbers, and NaN is missing:

    reference   what later frames are compared with  -> 0
    tests       the tests that the preset chooses by default, without its drawings
                -> for each column 1 where it drifts
    preset      the whole preset -> seconds, then the same for each column
"""

import sys
import time

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.legacy.calculations.stattests import get_stattest
from evidently.legacy.core import ColumnType
from evidently.presets import DataDriftPreset

KINDS = sys.argv[1]
NAMES = [f"f{place}" for place in range(len(KINDS))]
NUMBERS = [name for name, kind in zip(NAMES, KINDS) if kind == "n"]
TEXTS = [name for name, kind in zip(NAMES, KINDS) if kind == "c"]
LABELS = np.array([f"c{code}" for code in range(64)], dtype=object)
DEFINITION = DataDefinition(numerical_columns=NUMBERS, categorical_columns=TEXTS)


def read(rows):
    columns = {}
    for name, kind in zip(NAMES, KINDS):
        values = np.frombuffer(sys.stdin.buffer.read(8 * rows), "<f8")
        columns[name] = values if kind == "n" else LABELS[values.astype(int)]
    return pd.DataFrame(columns)


def tests(now, before):
    for name, kind in zip(NAMES, KINDS):
        old, new = before[name].dropna(), now[name].dropna()
        column = ColumnType.Numerical if kind == "n" else ColumnType.Categorical
        yield int(get_stattest(old, new, column, None)(old, new, column, None).drifted)


def preset(now, before):
    now = Dataset.from_pandas(now, data_definition=DEFINITION)
    before = Dataset.from_pandas(before, data_definition=DEFINITION)
    started = time.perf_counter()
    found = Report([DataDriftPreset()]).run(now, before).dict()
    yield time.perf_counter() - started
    drifts = {}
    for metric in found["metrics"][1:]:
        config, value = metric["config"], float(metric["value"])
        # The KS and chi-square tests give p-values, all others distances.
        is_p = "p_value" in metric["metric_name"]
        drifts[config["column"]] = int(value < config["threshold"] if is_p else value >= config["threshold"])
    yield from (drifts[name] for name in NAMES)


reference = None
while line := sys.stdin.buffer.readline():
    command, rows = line.split()
    frame = read(int(rows))
    if command == b"reference":
        reference, answer = frame, [0]
    else:
        answer = (tests if command == b"tests" else preset)(frame, reference)
    print(*answer, flush=True)
