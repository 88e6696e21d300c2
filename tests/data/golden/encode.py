"""Encodes generated columns with scikit-learn, NumPy and SciPy.

Each case names the steps of one `Encoding`, in segmentd's order: impute,
winsorise, transform, scale. `fit` is what the encoder is fitted on, `probe`
what it then encodes (values beyond the fitted range and missing ones
included), `expected` one row of columns a probe. By hand, from the root:

    python3 tests/data/golden/encode.py

Needs scikit-learn and SciPy (values committed: scikit-learn 1.9, SciPy 1.17).
"""

import json
from pathlib import Path

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

OUT = Path(__file__).with_name("encode.json")
SCALERS = {"standard": StandardScaler, "robust": RobustScaler, "min-max": MinMaxScaler}


def number_case(fit, probe, missing="median", flag=False, winsorise=None, transform="none", scale="none"):
    """Fits each step on the output of the one before, as a scikit-learn pipeline does."""
    column, probes = fit.reshape(-1, 1), probe.reshape(-1, 1)
    was_missing = np.isnan(probes).astype(float)
    if isinstance(missing, str):
        imputer = SimpleImputer(strategy=missing)
    else:
        imputer = SimpleImputer(strategy="constant", fill_value=float(missing))
    column, probes = imputer.fit_transform(column), imputer.transform(probes)
    if winsorise is not None:
        low, high = np.quantile(column, winsorise, method="linear")
        column, probes = column.clip(low, high), probes.clip(low, high)
    out = {}
    if transform == "log1p":
        column, probes = np.log1p(column), np.log1p(probes)
    elif transform == "yeo-johnson":
        power = PowerTransformer(method="yeo-johnson", standardize=False)
        column, probes = power.fit_transform(column), power.transform(probes)
        out["lambda"] = float(power.lambdas_[0])
    if scale != "none":
        scaler = SCALERS[scale]()
        scaler.fit(column)
        probes = scaler.transform(probes)
    columns = [probes, was_missing] if flag else [probes]
    return out | {
        "missing": missing,
        "missing_flag": flag,
        "winsorise": winsorise,
        "transform": transform,
        "scale": scale,
        "fit": numbers(fit),
        "probe": numbers(probe),
        "expected": np.hstack(columns).tolist(),
    }


def category_case(fit, probe, floor):
    encoder = OneHotEncoder(
        min_frequency=floor, handle_unknown="infrequent_if_exist", sparse_output=False
    )
    encoder.fit(np.array(fit, dtype=object).reshape(-1, 1))
    expected = encoder.transform(np.array(probe, dtype=object).reshape(-1, 1))
    return {"floor": floor, "fit": fit, "probe": probe, "expected": expected.tolist()}


def numbers(column):
    return [None if np.isnan(x) else float(x) for x in column]


def main():
    rng = np.random.default_rng(20170101)
    skewed = np.round(rng.lognormal(3.0, 1.2, 120), 2)
    gaps = skewed.copy()
    gaps[rng.choice(120, 17, replace=False)] = np.nan
    signed = np.round(rng.standard_t(3, 120) * 20 - 5, 3)
    counts = rng.poisson(0.4, 120).astype(float)
    left = 1.0 - np.round(rng.beta(2, 9, 120), 4)
    negative = -np.round(rng.gamma(1.5, 30, 120), 3) - 0.001
    constant = np.full(40, 0.1)
    probe = np.array([0.0, 0.5, 7.25, 33.3, 180.0, 4000.0, np.nan])
    signed_probe = np.array([-900.0, -12.5, -1e-3, 0.0, 1e-3, 12.5, 900.0, np.nan])

    cases = [number_case(gaps, probe, missing=m, flag=f) for m in ("mean", "median", -1.5) for f in (False, True)]
    for column, probes in [(gaps, probe), (signed, signed_probe), (counts, probe), (left, probe[:3])]:
        for scale in ("standard", "robust", "min-max"):
            cases.append(number_case(column, probes, scale=scale))
        cases.append(number_case(column, probes, winsorise=[0.01, 0.99], scale="standard"))
        cases.append(number_case(column, probes, transform="yeo-johnson", scale="standard"))
    cases += [
        number_case(gaps, probe, missing="mean", flag=True, winsorise=[0.0, 0.95], transform="log1p", scale="robust"),
        number_case(gaps, probe, winsorise=[0.05, 1.0], transform="log1p", scale="min-max"),
        number_case(gaps, probe, missing=0, winsorise=[0.02, 0.98], transform="yeo-johnson", scale="robust"),
        number_case(skewed / 1e4, probe / 1e4, transform="yeo-johnson", scale="standard"),
        number_case(skewed * 1e4, probe * 1e4, transform="yeo-johnson", scale="standard"),
        number_case(negative, -probe[1:], transform="yeo-johnson", scale="standard"),
        *[number_case(constant, np.array([0.1, 0.4, np.nan]), scale=s) for s in SCALERS],
    ]

    channels = rng.choice(["web", "app", "store", "phone", "fax"], 200, p=[0.5, 0.3, 0.14, 0.04, 0.02]).tolist()
    asked = ["web", "fax", "app", "phone", "store", "carrier pigeon", "Web", ""]
    categories = [category_case(channels, asked, floor) for floor in (0.05, 0.1, 0.3)]
    # A category exactly at the floor stays.
    categories.append(category_case(["a"] * 90 + ["b"] * 5 + ["c"] * 4 + ["d"], ["a", "b", "c", "d", "e"], 0.05))
    OUT.write_text(json.dumps({"numbers": cases, "categories": categories}, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
