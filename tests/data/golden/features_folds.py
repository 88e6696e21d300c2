"""Computes the features of features_folds.toml with pandas, on made-up events.

By hand, from the root:

    python3 tests/data/golden/features_folds.py

Writes features_folds_events.csv (in no order) and features_folds_values.csv.
An empty field is an absent property, or a missing value.
"""

import hashlib
import math
import random
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
DAY = pd.Timedelta(days=1)
# Customer, first day, number of events: all end before the first instant.
CUSTOMERS = [
    ("a", "2023-11-28", 160),
    ("b", "2024-01-26", 60),
    ("c", "2024-02-26", 7),
    ("d", "2024-02-29", 1),
    ("e", "2024-01-07", 90),
]
INSTANTS = ["2024-02-29T20:00:00Z", "2024-03-08T17:45:30.5Z"]


def main() -> None:
    events = made_up()
    events.to_csv(HERE / "features_folds_events.csv", index=False)
    events["at"] = pd.to_datetime(events["at"], utc=True, format="ISO8601")
    assert events["at"].max() < pd.Timestamp(INSTANTS[0])
    rows = []
    for text in INSTANTS:
        for customer, mine in events.groupby("customer"):
            rows.append({"customer": customer, "now": text, **values(mine, pd.Timestamp(text))})
    pd.DataFrame(rows).to_csv(HERE / "features_folds_values.csv", index=False, float_format="%.15g")


def made_up():
    rng = random.Random(20240301)
    rows = []
    for customer, first_day, count in CUSTOMERS:
        at = pd.Timestamp(first_day, tz="UTC") + pd.Timedelta(hours=rng.uniform(0, 20))
        for _ in range(count):
            at += pd.Timedelta(minutes=rng.choice([1, 29, 30, 31, 300, 1440, 1441, 3000]))
            # Some a day's end or beginning, to the millisecond; some at one instant.
            stamp = rng.choice([at, at, at, at.floor("D"), at.ceil("D") - pd.Timedelta(milliseconds=1)])
            kind = rng.choices(["track", "page", "screen", "identify"], [60, 20, 10, 10])[0]
            row = {"customer": customer, "at": stamp, "kind": kind, "name": ""}
            if kind == "identify":
                row["tier"] = rng.choice(["gold", "silver", None])
                row["score"] = rng.choice([1.5, -2, None])
            else:
                row["name"] = rng.choice(["Buy", "Buy", "Look"])
                row["amount"] = rng.choice([None, round(rng.uniform(-20, 90), 2)])
                row["tax"] = rng.choice([None, round(rng.uniform(0, 9), 2)])
                row["item"] = f"item-{int(rng.paretovariate(0.4)) % 500}"
                row["channel"] = rng.choice(["web", "app", "store", None])
                row["gift"] = rng.choice(["true", "false", None])
            rows.append(row)
    rng.shuffle(rows)
    table = pd.DataFrame(rows)
    # Whole milliseconds, as the service keeps them.
    table["at"] = table["at"].dt.floor("ms").dt.strftime("%Y-%m-%dT%H:%M:%S.%f").str[:-3] + "Z"
    return table


def values(e, now):
    behaviour = e[e["kind"] != "identify"]
    buys = behaviour[(behaviour["kind"] == "track") & (behaviour["name"] == "Buy")]

    def within(table, days):
        return table[table["at"].dt.floor("D") > now.floor("D") - days * DAY]

    def weight(table, half_life):
        return 0.5 ** ((now.floor("D") - table["at"].dt.floor("D")) / DAY / half_life)

    def share(table, channels, by=None):
        by = pd.Series(1.0, table.index) if by is None else by
        by = by.dropna()
        return over(by[table["channel"].loc[by.index].isin(channels)].sum(), by.sum())

    def mean_gap(table):
        n = len(table)
        return over((table["at"].max() - table["at"].min()) / DAY, n - 1) if n > 1 else math.nan

    priced = buys[buys["amount"].notna()]
    seen = behaviour[behaviour["channel"].isin(["web", "store"])]
    screens = behaviour[behaviour["kind"] == "screen"]
    pages = int((behaviour["kind"] == "page").sum())
    buys_named = int((behaviour["name"] == "Buy").sum())
    per_page = over(buys_named, pages)
    last = priced.sort_values(["at", "amount"])["amount"]
    gifts = (buys["gift"] == "true") & (buys["amount"] > 0) & (buys["amount"] < 50)
    return {
        "events": len(behaviour),
        "events_1d": len(within(behaviour, 1)),
        "pages": pages,
        "buys_named": buys_named,
        "buys_decayed": weight(buys, 7).sum(),
        "amount": buys["amount"].sum(),
        "amount_30d": within(buys, 30)[["amount", "tax"]].sum().sum(),
        # At 40 half-lives of half a day, nothing older than 20 days counts.
        "amount_decayed": (within(priced, 21)["amount"] * weight(within(priced, 21), 0.5)).sum(),
        "mean": priced["amount"].mean(),
        "mean_decayed": over(
            (priced["amount"] * weight(priced, 10.5)).sum(), weight(priced, 10.5).sum()
        ),
        "least": priced["amount"].min(),
        "least_20d": within(priced, 20)["amount"].min(),
        "most": priced["amount"].max(),
        "most_3d": within(priced, 3)["amount"].max(),
        "last_amount": last.iloc[-1] if len(last) else math.nan,
        "items": distinct(buys["item"]),
        "items_14d": distinct(within(buys, 14)["item"]),
        "web_share": share(buys, ["web", "app"]),
        "web_share_30d": share(within(buys, 30), ["web", "app"]),
        "web_share_decayed": share(buys, ["web", "app"], weight(buys, 7)),
        "web_tax": share(buys, ["web"], buys["tax"]),
        "web_tax_30d": share(within(buys, 30), ["web"], within(buys, 30)["tax"]),
        "web_tax_decayed": share(buys, ["web"], buys["tax"] * weight(buys, 7)),
        "gifts": int(gifts.sum()),
        "recency": (now - seen["at"].max()) / DAY,
        "tenure": (now - screens["at"].min()) / DAY,
        "gap": mean_gap(buys),
        "gap_20d": mean_gap(within(buys, 20)),
        "sessions": sessions(behaviour, 30, None, now),
        "sessions_30d": sessions(behaviour, 1440, 30, now),
        "per_page": per_page,
        "of_ratio": over(per_page, buys["amount"].sum()),
        "tier": newest(e, "tier"),
        "score": newest(e, "score"),
    }


def over(part, whole):
    return part / whole if whole != 0 else math.nan


def distinct(items):
    """Exact up to 16; beyond, 16 over the 17th smallest hash as a share of all."""
    hashes = sorted(
        int.from_bytes(hashlib.sha256(item.encode()).digest()[:8], "big") for item in set(items)
    )
    return len(hashes) if len(hashes) <= 16 else 16 / ((hashes[16] + 1) / 2**64)


def sessions(table, gap_minutes, days, now):
    at = table["at"].sort_values()
    number = (~(at.diff() <= pd.Timedelta(minutes=gap_minutes))).cumsum()
    ends = at.groupby(number).max()
    if days is not None:
        ends = ends[ends.dt.floor("D") > now.floor("D") - days * DAY]
    return len(ends)


def newest(table, trait):
    known = table[(table["kind"] == "identify") & table[trait].notna()]
    known = known.sort_values(["at", trait])[trait]
    return known.iloc[-1] if len(known) else math.nan


if __name__ == "__main__":
    main()
