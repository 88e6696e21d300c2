"""Fits one of scikit-learn's algorithms to raw float32 rows and prints the seconds.

    algorithms.py METHOD PATH COLUMNS
"""

import sys
import time

import numpy as np
from sklearn.cluster import HDBSCAN, AgglomerativeClustering
from sklearn.mixture import GaussianMixture

METHODS = {
    "gmm_diag": lambda: GaussianMixture(16, covariance_type="diag", random_state=0),
    "gmm_full": lambda: GaussianMixture(16, covariance_type="full", random_state=0),
    "hdbscan": lambda: HDBSCAN(min_cluster_size=50, copy=True),
    "ward": lambda: AgglomerativeClustering(16, linkage="ward"),
}

method, path, columns = sys.argv[1:]
# What scikit-learn computes in; the conversion is not timed.
rows = np.fromfile(path, "<f4").reshape(-1, int(columns)).astype(float)
algorithm = METHODS[method]()
started = time.perf_counter()
algorithm.fit(rows)
print(time.perf_counter() - started)
