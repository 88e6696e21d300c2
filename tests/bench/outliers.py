"""Splits every labelled set of a folder, for the program, and judges the split
by scikit-learn's detectors as they come.

usage: outliers.py FOLDER OUT

FOLDER holds .npz files with X and y (1 = outlier). For each set and seed OUT gets
SET.SEED.csv, a row each: 1 where the row is to be judged and 0 where it is to be
learned from, y, and the columns. The areas under the ROC curve of the peers go to
stdout as JSON: {set: {detector: [one a seed]}}.
"""

import json
import pathlib
import sys

import numpy as np
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor

SEEDS = 3
LEARNED = 0.7


def standard(learned, judged):
    spread = learned.std(axis=0)
    spread[spread < 1e-12] = 1
    return [(part - learned.mean(axis=0)) / spread for part in (learned, judged)]


def peers(learned, judged, seed):
    forest = IsolationForest(random_state=seed).fit(learned)
    neighbours = LocalOutlierFactor(novelty=True).fit(learned)
    centres = KMeans(8, random_state=seed).fit(learned)
    return {
        "isolation_forest": -forest.score_samples(judged),
        "local_outlier_factor": -neighbours.score_samples(judged),
        "nearest_of_8_centres": centres.transform(judged).min(axis=1),
    }


def main(folder, out):
    areas = {}
    for path in sorted(pathlib.Path(folder).glob("*.npz")):
        archive = np.load(path)
        rows, y = archive["X"].astype(float), archive["y"].astype(int)
        for seed in range(SEEDS):
            order = np.random.RandomState(seed).permutation(len(rows))
            learned, judged = np.split(order, [int(LEARNED * len(rows))])
            is_judged = np.zeros(len(rows))
            is_judged[judged] = 1
            table = np.column_stack([is_judged, y, rows])
            np.savetxt(out / f"{path.stem}.{seed}.csv", table, delimiter=",", fmt="%.17g")
            found = peers(*standard(rows[learned], rows[judged]), seed)
            for name, scores in found.items():
                one = areas.setdefault(path.stem, {}).setdefault(name, [])
                one.append(roc_auc_score(y[judged], scores))
    json.dump(areas, sys.stdout)


main(sys.argv[1], pathlib.Path(sys.argv[2]))
