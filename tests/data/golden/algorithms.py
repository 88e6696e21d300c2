"""What scikit-learn and SciPy say of two generated sets, for every algorithm.

The sets are those of kmeans.py. Mixtures start from named rows; labels are
one letter a row, noise is a dot. By hand, from the root, after kmeans.py:

    python3 tests/data/golden/algorithms.py

Needs scikit-learn (values committed: scikit-learn 1.9, SciPy 1.17).
"""

import json
from pathlib import Path

import numpy as np
from scipy.cluster.hierarchy import linkage
from sklearn.cluster import DBSCAN, HDBSCAN, AgglomerativeClustering, BisectingKMeans
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

HERE = Path(__file__).parent
WARD_ROWS = 400


def read(name):
    """As this program reads it: in float32."""
    rows = np.loadtxt(HERE / f"kmeans_{name}.csv.gz", delimiter=",", skiprows=1)
    return rows.astype(np.float32).astype(float)


def letters(labels):
    return "".join("." if label < 0 else chr(ord("a") + label) for label in labels)


def mixture(rows, covariance, clusters):
    initial = np.random.default_rng(clusters).choice(len(rows), clusters, replace=False)
    variances = rows.var(axis=0)
    precisions = {"diag": np.tile(1 / variances, (clusters, 1)), "full": np.tile(np.diag(1 / variances), (clusters, 1, 1))}
    fitted = GaussianMixture(
        clusters,
        covariance_type=covariance,
        weights_init=np.full(clusters, 1 / clusters),
        means_init=rows[initial],
        precisions_init=precisions[covariance],
    ).fit(rows)
    return {
        "initial_rows": initial.tolist(),
        "shares": fitted.weights_.tolist(),
        "means": fitted.means_.tolist(),
        "covariances": fitted.covariances_.reshape(clusters, -1).tolist(),
        "log_likelihood": fitted.score(rows) * len(rows),
        "bic": fitted.bic(rows),
        "aic": fitted.aic(rows),
        "iterations": fitted.n_iter_,
        "labels": letters(fitted.predict(rows)),
    }


def ward(rows):
    rows = rows[:WARD_ROWS]
    cut = AgglomerativeClustering(8, linkage="ward").fit(rows)
    return {"heights": linkage(rows, "ward")[:, 2].tolist(), "labels_8": letters(cut.labels_)}


def density(rows, eps):
    return {
        "eps": eps,
        "dbscan": letters(DBSCAN(eps=eps, min_samples=10).fit(rows).labels_),
        "hdbscan": letters(HDBSCAN(min_cluster_size=40, copy=True).fit(rows).labels_),
        "hdbscan_untied": letters(HDBSCAN(min_cluster_size=40, min_samples=1, copy=True).fit(rows).labels_),
    }


def axes(rows):
    components = PCA(0.9).fit(rows)
    shrunk = LedoitWolf().fit(rows)
    return {
        "components": components.components_.tolist(),
        "variances": components.explained_variance_.tolist(),
        "shares": components.explained_variance_ratio_.tolist(),
        "kept_at_half": int(PCA(0.5).fit(rows).n_components_),
        "shrinkage": shrunk.shrinkage_,
        "mahalanobis": shrunk.mahalanobis(rows[:5]).tolist(),
    }


def main():
    golden = {}
    for name, clusters, eps in [("blobs", 6, 2.5), ("sheared", 10, 1.5)]:
        rows = read(name)
        golden[name] = {
            "clusters": clusters,
            "diag": mixture(rows, "diag", clusters),
            "full": mixture(rows, "full", clusters),
            "ward": ward(rows),
            "density": density(rows, eps),
            "bisecting_inertia": float(np.median([BisectingKMeans(clusters, random_state=seed).fit(rows).inertia_ for seed in range(10)])),
            "axes": axes(rows),
        }
    (HERE / "algorithms.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
