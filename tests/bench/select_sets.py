"""Writes the second collection of labelled sets for the bench group `select`.

usage: select_sets.py FOLDER OUT

FOLDER is `src/main/resources/datasets` of the repository deric/clustering-benchmark at GitHub.
OUT gets `artificial/NAME.data.gz` and `artificial/NAME.labels0.gz`, and the same under
`real-world`. Selected, without running any algorithm, is every set

- that is not among those of the first collection (by the names below),
- with a nominal class of at least two values, and otherwise numbers,
- of 100 to 20,000 complete rows.

The columns of real-world sets, which have different units, are standardised. The class `noise`
becomes the label 0, as in the first collection.
"""

import csv
import gzip
import pathlib
import statistics
import sys

# Sets of the first collection: gagolews/clustering-data-v1.
FIRST_COLLECTION = {
    "3-spiral", "R15", "aggregation", "compound", "D31", "flame", "jain", "pathbased",
    "s-set1", "s-set2", "s-set3", "s-set4",
    "atom", "chainlink", "engytime", "golfball", "hepta", "lsun", "target", "tetra",
    "twodiamonds", "wingnut",
    "cluto-t4-8k", "cluto-t5-8k", "cluto-t7-10k", "cluto-t8-8k",
    "ecoli", "glass", "iono", "iris", "segment", "sonar", "wdbc", "wine", "yeast",
}  # fmt: skip
ROWS = range(100, 20_001)
NUMERIC = {"numeric", "real", "integer"}


def read(path):
    """Names and types of the attributes, and the rows, of an ARFF file."""
    attributes, rows, in_data = [], [], False
    for line in path.read_text(encoding="latin-1").splitlines():
        line = line.strip()
        if not line or line.startswith("%"):
            continue
        if in_data:
            rows.append([cell.strip() for cell in next(csv.reader([line], quotechar="'"))])
        elif line.lower().startswith("@attribute"):
            name, kind = line[len("@attribute") :].strip().split(None, 1)
            attributes.append((name.strip("'\"").lower(), kind.strip().lower()))
        elif line.lower().startswith("@data"):
            in_data = True
    return attributes, rows


def standardised(rows):
    columns = list(zip(*rows))
    spreads = [statistics.pstdev(column) for column in columns]
    means = [statistics.fmean(column) for column in columns]
    kept = [at for at, spread in enumerate(spreads) if spread > 0]
    return [[(row[at] - means[at]) / spreads[at] for at in kept] for row in rows]


def labelled(path):
    """The numbers and labels of a set, or the reason why it is not taken."""
    if path.stem in FIRST_COLLECTION:
        return None, "in the first collection"
    attributes, rows = read(path)
    classes = [at for at, (name, _) in enumerate(attributes) if name == "class"]
    if len(classes) != 1 or not attributes[classes[0]][1].startswith("{"):
        return None, "no nominal class"
    at = classes[0]
    if any(kind.split()[0] not in NUMERIC for i, (_, kind) in enumerate(attributes) if i != at):
        return None, "columns that are no numbers"
    rows = [row for row in rows if len(row) == len(attributes) and "?" not in row]
    if len(rows) not in ROWS:
        return None, f"{len(rows)} complete rows"
    names = sorted({row[at] for row in rows} - {"noise"})
    if len(names) < 2:
        return None, "one class"
    labels = [0 if row[at] == "noise" else 1 + names.index(row[at]) for row in rows]
    numbers = [[float(cell) for i, cell in enumerate(row) if i != at] for row in rows]
    if path.parent.name == "real-world":
        numbers = standardised(numbers)
    return (numbers, labels), None


def write(path, lines):
    with gzip.open(path, "wt") as file:
        file.writelines(line + "\n" for line in lines)


folder, out = map(pathlib.Path, sys.argv[1:])
for kind in ("artificial", "real-world"):
    (out / kind).mkdir(parents=True, exist_ok=True)
    for path in sorted((folder / kind).glob("*.arff")):
        taken, reason = labelled(path)
        if reason:
            print(f"{kind}/{path.stem}: not taken, {reason}")
            continue
        numbers, labels = taken
        name = out / kind / path.stem
        write(f"{name}.data.gz", (" ".join(map(repr, row)) for row in numbers))
        write(f"{name}.labels0.gz", map(str, labels))
