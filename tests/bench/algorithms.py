"""Fits one of scikit-learn's algorithms to raw float32 rows, or scores the groups
that they were made in, and prints the seconds.

    algorithms.py METHOD ROWS GROUPS COLUMNS
"""

import sys
import time

import numpy as np
from sklearn.cluster import HDBSCAN, AgglomerativeClustering
from sklearn.metrics import davies_bouldin_score, silhouette_score
from sklearn.mixture import GaussianMixture

METHODS = {
    "gmm_diag": lambda: GaussianMixture(16, covariance_type="diag", random_state=0),
    "gmm_full": lambda: GaussianMixture(16, covariance_type="full", random_state=0),
    "hdbscan": lambda: HDBSCAN(min_cluster_size=50, copy=True),
    "ward": lambda: AgglomerativeClustering(16, linkage="ward"),
}
SCORES = {"silhouette": silhouette_score, "davies_bouldin": davies_bouldin_score}

method, path, groups, columns = sys.argv[1:]
# What scikit-learn computes in; the conversion is not timed.
rows = np.fromfile(path, "<f4").reshape(-1, int(columns)).astype(float)
groups = np.fromfile(groups, "<u4")
algorithm = METHODS[method]() if method in METHODS else None
started = time.perf_counter()
if algorithm:
    algorithm.fit(rows)
else:
    SCORES[method](rows, groups)
print(time.perf_counter() - started)
