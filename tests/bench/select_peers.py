"""The peers of the bench group `select`: adjusted Rand index of scikit-learn's
KMeans and GaussianMixture (full covariances) with the true number of groups, and of HDBSCAN with
its defaults.

Arguments: data and labels of each set, in turn. Prints [[kmeans, mixture, hdbscan], …].
"""

import json
import sys

import numpy as np
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

# Rows that a mixture is fitted to, as in segmentd's comparison.
ROWS = 20_000

found = []
for data, labels in zip(sys.argv[1::2], sys.argv[2::2]):
    rows, true = np.loadtxt(data), np.loadtxt(labels).astype(int)
    kmeans = KMeans(len(set(true)), n_init=10, random_state=0).fit_predict(rows)
    # One scale for all columns: the covariance floor is an absolute number.
    scaled = (rows - rows.mean(axis=0)) / np.sqrt(rows.var(axis=0).mean())
    mixture = GaussianMixture(len(set(true)), reg_covar=1e-4, random_state=0)
    sample = np.random.default_rng(0).permutation(len(scaled))[:ROWS]
    mixture = mixture.fit(scaled[sample]).predict(scaled)
    # copy is asked for by this release, and changes nothing here.
    hdbscan = HDBSCAN(copy=True).fit_predict(rows)
    found.append([adjusted_rand_score(true, labels) for labels in (kmeans, mixture, hdbscan)])
print(json.dumps(found))
