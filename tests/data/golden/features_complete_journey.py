"""Computes the features of config/features.retail.toml with pandas.

Independent of the Rust code: every feature is written out below from its
meaning, over whole tables, with nothing incremental. By hand, from the root:

    python3 tests/data/golden/features_complete_journey.py

Needs pandas (values committed: pandas 3.1). Writes one row per household and
instant; an empty field is a missing value.
"""

from pathlib import Path

import pandas as pd

DATA = Path(__file__).parents[3] / "config" / "demo"
OUT = Path(__file__).parent / "features_complete_journey.csv.gz"
INSTANTS = ["2017-07-01T06:30:00Z", "2018-01-02T00:00:00Z"]
DAY = pd.Timedelta(days=1)


def main() -> None:
    orders = pd.read_csv(DATA / "baskets.csv.gz", dtype={"store_id": str})
    orders["at"] = pd.to_datetime(orders.pop("transaction_timestamp"), utc=True)
    coupons = pd.read_csv(DATA / "coupon_redemptions.csv")
    coupons["at"] = pd.to_datetime(coupons.pop("redemption_date"), utc=True)
    households = pd.Index(sorted(orders["household_id"].unique()), name="household_id")
    tables = []
    for text in INSTANTS:
        now = pd.Timestamp(text)
        table = features(orders[orders["at"] <= now], coupons[coupons["at"] <= now], households, now)
        table.insert(0, "now", text)
        tables.append(table)
    out = pd.concat(tables).reset_index()
    compression = {"method": "gzip", "mtime": 1}
    out.to_csv(OUT, index=False, float_format="%.13g", compression=compression)


def features(orders, coupons, households, now):
    def within(events, days):
        """The events of today (UTC) and the days - 1 days before."""
        return events[events["at"].dt.floor("D") > now.floor("D") - days * DAY]

    def by_household(events):
        return events.groupby("household_id")

    def counted(events):
        return by_household(events).size().reindex(households, fill_value=0)

    def summed(values, events):
        return values.groupby(events["household_id"]).sum().reindex(households, fill_value=0)

    year = within(orders, 365)
    paid = year[year["sales_value"] > 0]
    ever_paid = orders[orders["sales_value"] > 0]
    age_days = (now.floor("D") - ever_paid["at"].dt.floor("D")) / DAY
    instants = by_household(orders)["at"]

    f = pd.DataFrame(index=households)
    f["recency_days"] = (now - instants.max()) / DAY
    f["tenure_days"] = (now - instants.min()) / DAY
    f["orders"] = counted(orders)
    f["orders_90d"] = counted(within(orders, 90))
    f["orders_28d"] = counted(within(orders, 28))
    f["orders_365d"] = counted(year)
    f["spend_365d"] = summed(paid["sales_value"], paid)
    f["spend_recent"] = summed(ever_paid["sales_value"] * 0.5 ** (age_days / 30), ever_paid)
    f["basket_value"] = by_household(paid)["sales_value"].mean()
    f["basket_lines"] = by_household(year[year["lines"] > 0])["lines"].mean()
    f["basket_largest"] = by_household(paid)["sales_value"].max()
    f["discount_365d"] = summed(year["retail_disc"], year)
    f["list_value_365d"] = summed(year["sales_value"] + year["retail_disc"], year)
    f["discount_share"] = ratio(f["discount_365d"], f["list_value_365d"])
    f["coupon_orders_365d"] = counted(year[year["coupon_disc"] > 0])
    f["coupon_share"] = ratio(f["coupon_orders_365d"], f["orders_365d"])
    f["campaign_coupons_365d"] = counted(within(coupons, 365))
    f["stores_365d"] = by_household(year)["store_id"].nunique().reindex(households, fill_value=0)
    last = orders.sort_values(["at", "store_id"]).groupby("household_id")["store_id"].last()
    f["last_store"] = last.reindex(households)
    spans = by_household(year)["at"]
    f["gap_days"] = ratio((spans.max() - spans.min()) / DAY, spans.count() - 1)
    f["trips_112d"] = trips(orders, now, within, households)
    f["orders_112d"] = counted(within(orders, 112))
    f["order_trend"] = ratio(f["orders_28d"], f["orders_112d"])
    f["orders_per_trip"] = ratio(f["orders_112d"], f["trips_112d"])
    return f


def ratio(over, under):
    """Nothing where the denominator is zero."""
    return over / under.where(under != 0)


def trips(orders, now, within, households):
    """Runs of orders at most 240 minutes apart that end in the window."""
    ordered = orders.sort_values(["household_id", "at"])
    pause = ordered.groupby("household_id")["at"].diff()
    trip = (~(pause <= pd.Timedelta(minutes=240))).cumsum()
    ends = ordered.groupby(["household_id", trip.rename("trip")])["at"].max().reset_index()
    return within(ends, 112).groupby("household_id").size().reindex(households, fill_value=0)


if __name__ == "__main__":
    main()
