"""Clusters three data sets with scikit-learn's k-means.

Two sets are generated and written as `float32`; the third is the retail
features of the Complete Journey households at one instant, encoded here with
scikit-learn as config/features.retail.toml declares them. For each set:
Lloyd's algorithm from named rows as initial centres (labels, inertia,
iterations), and the best inertia of ten starts of scikit-learn's own. By
hand, from the root, after features_complete_journey.py:

    python3 tests/data/golden/kmeans.py

Needs scikit-learn and pandas (values committed: scikit-learn 1.9).
"""

import gzip
import io
import json
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import RobustScaler, StandardScaler

HERE = Path(__file__).parent
INSTANT = "2018-01-02T00:00:00Z"


def blobs():
    """Six overlapping round clusters of different spread."""
    rows, _ = make_blobs(3000, 8, centers=6, cluster_std=[0.8, 1.0, 1.5, 2.0, 2.5, 3.0], center_box=(-4, 4), random_state=11)
    return rows


def sheared():
    """Long parallel clusters on a uniform floor: no clear number of clusters."""
    rng = np.random.default_rng(12)
    rows, _ = make_blobs(1400, 4, centers=5, random_state=12)
    shear = rng.normal(size=(4, 4)) + np.eye(4)
    return np.vstack([rows @ shear, rng.uniform(-12, 12, size=(600, 4))])


def retail():
    """The features file's encodings, step by step with scikit-learn."""
    table = pd.read_csv(HERE / "features_complete_journey.csv.gz")
    table = table[table["now"] == INSTANT].sort_values("household_id")
    declared = tomllib.loads((HERE.parents[2] / "config/features.retail.toml").read_text())
    columns = []
    for feature in declared["feature"]:
        encoding = feature.get("encoding")
        if encoding is None:
            continue
        column = table[[feature["name"]]].to_numpy(float)
        was_missing = np.isnan(column)
        missing = feature.get("missing", "median")
        if isinstance(missing, str):
            column = SimpleImputer(strategy=missing).fit_transform(column)
        else:
            column = np.where(was_missing, missing, column)
        if "winsorise" in encoding:
            column = column.clip(*np.quantile(column, encoding["winsorise"]))
        if encoding.get("transform") == "log1p":
            column = np.log1p(column)
        scaler = {"standard": StandardScaler, "robust": RobustScaler}[encoding.get("scale", "standard")]
        columns.append(scaler().fit_transform(column) * encoding.get("weight", 1))
        if encoding.get("missing_flag"):
            columns.append(was_missing.astype(float))
    return np.hstack(columns)


def lloyd(rows, initial, tolerance):
    """scikit-learn's answer from the given initial centres, on float64."""
    rows = rows.astype(float)
    centres = rows[initial] if isinstance(initial, list) else initial
    fitted = KMeans(len(centres), init=centres, n_init=1, tol=tolerance, max_iter=300, algorithm="lloyd").fit(rows)
    # Labels as letters: one character a row.
    labels = "".join(chr(ord("a") + label) for label in fitted.labels_)
    return {"tolerance": tolerance, "labels": labels, "inertia": fitted.inertia_, "iterations": fitted.n_iter_}


def main():
    golden = {}
    for name, rows, clusters in [("blobs", blobs(), 6), ("sheared", sheared(), 10), ("retail", retail(), 6)]:
        rows = rows.astype(np.float32)
        if name != "retail":
            write(HERE / f"kmeans_{name}.csv.gz", rows)
        rng = np.random.default_rng(clusters)
        runs = []
        for tolerance in (1e-4, 1e-4, 0.0):
            initial = sorted(rng.choice(len(rows), clusters, replace=False).tolist())
            runs.append({"initial_rows": initial} | lloyd(rows, initial, tolerance))
        # One centre, then two, so far away that no row is theirs at first.
        for away in (1, 2):
            centres = rows[runs[0]["initial_rows"]].astype(float)
            centres[1 : 1 + away] += 1000.0
            runs.append({"initial_centres": centres.tolist()} | lloyd(rows, centres, 1e-4))
        best = KMeans(clusters, n_init=10, random_state=0).fit(rows.astype(float)).inertia_
        golden[name] = {"clusters": clusters, "best_of_10": best, "runs": runs}
    (HERE / "kmeans.json").write_text(json.dumps(golden) + "\n")


def write(path, rows):
    text = io.StringIO()
    # Nine digits name every float32 exactly.
    header = ",".join(f"x{column}" for column in range(rows.shape[1]))
    np.savetxt(text, rows, fmt="%.9g", delimiter=",", header=header, comments="")
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


if __name__ == "__main__":
    main()
