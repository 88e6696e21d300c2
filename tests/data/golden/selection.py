"""Golden values of the criteria that selection ranks candidates by.

    pip install numpy==2.4.6 scikit-learn==1.9.1 networkx==3.6.1
    pip install git+https://github.com/FelSiq/DBCV  # dbcv 0.1.1
    python tests/data/golden/selection.py

Density-based validation is that of the package dbcv with the spanning tree of the authors' own program
(github.com/pajaskowiak/dbcv), of Euclidean distances as in their paper. Modularity is networkx' on the directed graph of scikit-learn's nearest neighbours, with
each noise row as a community of its own. Writes selection.json beside this file.
"""

import json
from pathlib import Path

import networkx as nx
import numpy as np
from dbcv import dbcv
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 10
here = Path(__file__).parent
rng = np.random.default_rng(23)


def blobs():
    centres = np.array([[0, 0, 0], [6, 0, 0], [0, 7, 2]])
    labels = np.repeat([0, 1, 2], [80, 40, 60])
    return centres[labels] + rng.normal(size=(180, 3)), labels


def rings():
    angles = rng.uniform(0, 2 * np.pi, 200)
    labels = np.repeat([0, 1], 100)
    radii = np.where(labels == 0, 1.0, 4.0) + 0.1 * rng.normal(size=200)
    return np.c_[radii * np.cos(angles), radii * np.sin(angles)], labels


def noisy():
    rows, labels = blobs()
    labels = labels.copy()
    labels[::9] = -1
    return rows, labels


def wide():
    labels = np.repeat([0, 1], 60)
    return 3.0 * labels[:, None] + rng.normal(size=(120, 40)), labels


def cut_through():
    rows = rng.uniform(size=(150, 2))
    return rows, (rows[:, 0] > 0.4).astype(int)


def modularity(rows, labels):
    near = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(rows).kneighbors(rows)[1][:, 1:]
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(rows)))
    graph.add_edges_from((row, int(other)) for row, others in enumerate(near) for other in others)
    groups = [set(np.flatnonzero(labels == label).tolist()) for label in set(labels) - {-1}]
    groups += [{int(row)} for row in np.flatnonzero(labels == -1)]
    return nx.community.modularity(graph, groups)


found = {}
for make in (blobs, rings, noisy, wide, cut_through):
    rows, labels = make()
    # The product has rows in single precision.
    rows = rows.astype(np.float32).astype(float)
    found[make.__name__] = {
        "rows": [[float(np.float32(x)) for x in row] for row in rows],
        "labels": labels.tolist(),
        "density_validation": dbcv(
            rows, labels, metric="euclidean", enable_dynamic_precision=True, use_original_mst_implementation=True
        ),
        "modularity": float(modularity(rows, labels)),
    }
    print(make.__name__, found[make.__name__]["density_validation"], found[make.__name__]["modularity"])
(here / "selection.json").write_text(json.dumps(found) + "\n")
