"""Clusters a generated set with scikit-learn's mini-batch k-means.

The set has twelve groups of uneven size and width, with the group of each row
as one letter. For it: the centres and counts after consecutive batches from
named rows (`partial_fit`), and the inertia and the adjusted Rand index of ten
seeds with scikit-learn's defaults. For the sets of kmeans.py: the inertia of
ten seeds. By hand, from the root, after kmeans.py:

    python3 tests/data/golden/minibatch.py

Needs scikit-learn (values committed: scikit-learn 1.9).
"""

import gzip
import io
import json
from pathlib import Path

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

HERE = Path(__file__).parent
SIZES = [1500, 1000, 800, 600, 500, 400, 350, 300, 200, 150, 120, 80]
BATCH = 500


def groups():
    widths = np.linspace(0.6, 1.6, len(SIZES))
    return make_blobs(SIZES, 5, cluster_std=widths, center_box=(-8, 8), random_state=21)


def read(name):
    """As this program reads it: in float32."""
    rows = np.loadtxt(HERE / f"{name}.csv.gz", delimiter=",", skiprows=1)
    return rows.astype(np.float32).astype(float)


def write(name, rows):
    text = io.StringIO()
    header = ",".join(f"x{column}" for column in range(rows.shape[1]))
    np.savetxt(text, rows, fmt="%.3f", delimiter=",", header=header, comments="")
    (HERE / f"{name}.csv.gz").write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def steps(rows, clusters):
    """The centres after every batch, without reassignment, which is random."""
    initial = sorted(np.random.default_rng(clusters).choice(len(rows), clusters, replace=False).tolist())
    fitted = MiniBatchKMeans(clusters, init=rows[initial], n_init=1, reassignment_ratio=0)
    after = []
    for first in range(0, len(rows), BATCH):
        fitted.partial_fit(rows[first : first + BATCH])
        after.append({"centres": fitted.cluster_centers_.tolist(), "counts": fitted._counts.tolist()})
    return {"initial_rows": initial, "batch": BATCH, "after": after}


def fits(rows, clusters):
    return [MiniBatchKMeans(clusters, n_init=3, random_state=seed).fit(rows) for seed in range(10)]


def main():
    rows, truth = groups()
    write("minibatch_groups", rows)
    rows = read("minibatch_groups")
    golden = {"truth": "".join(chr(ord("a") + group) for group in truth), "steps": steps(rows, len(SIZES)), "sets": {}}
    for name, clusters in [("minibatch_groups", len(SIZES)), ("kmeans_blobs", 6), ("kmeans_sheared", 10)]:
        fitted = fits(read(name), clusters)
        golden["sets"][name] = {"clusters": clusters, "inertia": [float(fit.inertia_) for fit in fitted]}
        if name == "minibatch_groups":
            golden["adjusted_rand"] = [float(adjusted_rand_score(truth, fit.labels_)) for fit in fitted]
    (HERE / "minibatch.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
