"""Scores partitions with scikit-learn: quality and agreement.

Small sets are made here and written out with their labels, edge cases among
them; for each the scores of sklearn.metrics on float64. A score that
scikit-learn refuses (one segment, as many segments as rows) is null. By hand,
from the root:

    python3 tests/data/golden/quality.py

Needs scikit-learn (values committed: scikit-learn 1.9).
"""

import json
from pathlib import Path

import numpy as np
from sklearn import metrics
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.mixture import GaussianMixture

HERE = Path(__file__).parent


def sets():
    rows, true = make_blobs(300, 3, centers=5, cluster_std=1.5, random_state=1)
    for clusters in (2, 5, 9):
        yield f"blobs_{clusters}", rows, KMeans(clusters, n_init=1, random_state=clusters).fit_predict(rows), true
    rng = np.random.default_rng(2)
    yield "random_labels", rows, rng.integers(0, 4, len(rows)), true
    few = rows[:40]
    yield "one_segment", few, np.zeros(40, int), true[:40]
    yield "as_many_segments_as_rows", few, np.arange(40), true[:40]
    yield "two_segments_of_one_row", few, np.r_[np.zeros(38, int), 1, 2], true[:40]
    yield "duplicates", np.repeat(few[:5], 8, axis=0), np.repeat(np.arange(5), 8), np.repeat(np.arange(5), 8)
    yield "duplicates_parted", np.repeat(few[:5], 8, axis=0), np.arange(40) % 3, np.repeat(np.arange(5), 8)
    constant = few.copy()
    constant[:, 1] = 7.0
    yield "constant_column", constant, KMeans(3, n_init=1, random_state=0).fit_predict(constant), true[:40]
    yield "one_row", few[:1], np.zeros(1, int), np.zeros(1, int)
    yield "all_noise", few, np.full(40, -1), true[:40]
    noisy = KMeans(4, n_init=1, random_state=0).fit_predict(rows)
    noisy[::7] = -1
    yield "some_noise", rows, noisy, true


def score(function, rows, labels):
    known = labels >= 0
    try:
        return float(function(rows[known], labels[known]))
    except ValueError:
        return None


def main():
    golden = {}
    for name, rows, labels, true in sets():
        rows = rows.astype(np.float32).astype(float)
        known = rows[labels >= 0], labels[labels >= 0]
        within = sum(((known[0][known[1] == s] - known[0][known[1] == s].mean(0)) ** 2).sum() for s in set(known[1]))
        golden[name] = {
            "rows": rows.tolist(),
            "labels": labels.tolist(),
            "true": true.tolist(),
            "silhouette": score(metrics.silhouette_score, rows, labels),
            "davies_bouldin": score(metrics.davies_bouldin_score, rows, labels),
            "calinski_harabasz": score(metrics.calinski_harabasz_score, rows, labels),
            "inertia": float(within),
            "adjusted_rand": metrics.adjusted_rand_score(true, labels),
        }
    rows, _ = make_blobs(200, 2, centers=3, random_state=4)
    mixture = GaussianMixture(3, covariance_type="diag", random_state=0).fit(rows)
    criteria = {
        "log_likelihood": float(mixture.score(rows) * len(rows)),
        "parameters": int(mixture._n_parameters()),
        "rows": len(rows),
        "bic": float(mixture.bic(rows)),
        "aic": float(mixture.aic(rows)),
    }
    (HERE / "quality.json").write_text(json.dumps({"partitions": golden, "criteria": criteria}) + "\n")


if __name__ == "__main__":
    main()
