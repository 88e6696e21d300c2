"""Answers the benchmark's commands with scikit-learn, faiss and numpy.

One command a line on standard input, one line of numbers as the answer:

    rows PATH COLUMNS            reads float32 rows -> how many
    centres PATH                 reads the centres to assign to -> how many
    lloyd|elkan|faiss K SEED T   fits with T threads -> seconds, inertia
    predict|search T             assigns all rows -> seconds
    sgemm T                      -> GFLOP/s of a large float32 product
"""

import sys
import time

import faiss
import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits


def inertia(x, centres, labels):
    total = 0.0
    for at in range(0, len(x), 65536):
        piece = x[at : at + 65536].astype("f8")
        total += float(np.square(piece - centres[labels[at : at + 65536]]).sum())
    return total


def fit(method, x, k, seed):
    started = time.perf_counter()
    if method == "faiss":
        # All rows: by default faiss would train on a sample of them.
        found = faiss.Kmeans(x.shape[1], k, niter=25, seed=seed, max_points_per_centroid=len(x))
        found.train(x)
        seconds = time.perf_counter() - started
        labels = found.index.search(x, 1)[1][:, 0]
        return seconds, inertia(x, found.centroids.astype("f8"), labels)
    found = KMeans(k, algorithm=method, n_init=1, random_state=seed).fit(x)
    seconds = time.perf_counter() - started
    return seconds, inertia(x, found.cluster_centers_.astype("f8"), found.labels_)


def sgemm():
    a = np.ones((2048, 2048), "f4")
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - started)
    return 2 * 2048**3 / sorted(seconds)[2] / 1e9


def timed(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


x = kmeans = index = None
for line in sys.stdin:
    command, *rest = line.split()
    if command == "rows":
        x = np.fromfile(rest[0], "<f4").reshape(-1, int(rest[1]))
        answer = [len(x)]
    elif command == "centres":
        centres = np.fromfile(rest[0], "<f4").reshape(-1, x.shape[1])
        kmeans = KMeans(len(centres), init=centres, n_init=1, max_iter=1)
        kmeans.fit(x[: 4 * len(centres)])
        kmeans.cluster_centers_ = centres
        index = faiss.IndexFlatL2(x.shape[1])
        index.add(centres)
        answer = [len(centres)]
    else:
        threads = int(rest[-1])
        faiss.omp_set_num_threads(threads)
        with threadpool_limits(threads):
            if command == "sgemm":
                answer = [sgemm()]
            elif command == "predict":
                kmeans._n_threads = threads
                answer = [timed(lambda: kmeans.predict(x))]
            elif command == "search":
                answer = [timed(lambda: index.search(x, 1))]
            else:
                answer = fit(command, x, int(rest[0]), int(rest[1]))
    print(*answer, flush=True)
