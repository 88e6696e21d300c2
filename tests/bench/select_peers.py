"""The peers of the bench group `select`: adjusted Rand index of scikit-learn's
KMeans with the true number of groups, and of HDBSCAN with its defaults.

Arguments: data and labels of each set, in turn. Prints [[kmeans, hdbscan], …].
"""

import json
import sys

import numpy as np
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.metrics import adjusted_rand_score

found = []
for data, labels in zip(sys.argv[1::2], sys.argv[2::2]):
    rows, true = np.loadtxt(data), np.loadtxt(labels).astype(int)
    kmeans = KMeans(len(set(true)), n_init=10, random_state=0).fit_predict(rows)
    # copy is asked for by this release, and changes nothing here.
    hdbscan = HDBSCAN(copy=True).fit_predict(rows)
    found.append([adjusted_rand_score(true, kmeans), adjusted_rand_score(true, hdbscan)])
print(json.dumps(found))
