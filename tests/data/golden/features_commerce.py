"""Computes the features of features_commerce.toml with pandas, on made-up orders.

By hand, from the root:

    python3 tests/data/golden/features_commerce.py

Writes features_commerce_events.ndjson (in no order), features_commerce_rates.csv and
features_commerce_values.csv. The rules of orders are replaced by those of the column
`rules`. An empty field is a missing value.
"""

import json
import math
import random
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
ZONE = "Europe/London"
CUSTOMERS = 14
# Before and after midnights in London and in UTC, and on both days of changes of the clock.
INSTANTS = [
    "2024-03-31T00:30:00Z",
    "2024-03-31T23:10:00Z",
    "2024-07-10T23:15:00Z",
    "2024-07-11T00:15:00Z",
    "2024-10-27T23:45:00Z",
]
CATEGORIES = ["Games", "Books", "Toys", "Garden", "Food"]
RULES = [("replace", "ignore"), ("add", "newest"), ("replace", "newest"), ("add", "ignore")]


def main() -> None:
    rates = make_rates()
    rates.to_csv(HERE / "features_commerce_rates.csv", index=False)
    events = make_events()
    with open(HERE / "features_commerce_events.ndjson", "w") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)
    table = pd.DataFrame(events)
    table["at"] = pd.to_datetime(table["timestamp"], utc=True)
    table["day"] = local_day(table["at"])
    table["rate"] = [
        rate_of(rates, row.properties.get("currency"), row.day) for row in table.itertuples()
    ]
    rows = []
    for repeated, unmatched in RULES:
        for text in INSTANTS:
            now = pd.Timestamp(text)
            # A state knows nothing before its newest event.
            for customer, mine in table[table["at"] <= now].groupby("customer_id"):
                head = {"customer": customer, "now": text, "rules": f"{repeated} {unmatched}"}
                rows.append({**head, **values(mine, now, repeated, unmatched)})
    values_table = pd.DataFrame(rows)
    values_table.to_csv(HERE / "features_commerce_values.csv", index=False, float_format="%.15g")


def make_rates():
    rng = random.Random(7)
    rows = []
    for currency, level in [("EUR", 0.86), ("USD", 0.79), ("JPY", 0.0053)]:
        for day in pd.date_range("2023-10-01", "2024-10-31", freq="9D"):
            rate = round(level * rng.uniform(0.95, 1.05), 4 if level > 0.1 else 6)
            rows.append({"date": f"{day:%Y-%m-%d}", "currency": currency, "rate": rate})
    rng.shuffle(rows)
    return pd.DataFrame(rows)


def make_events():
    rng = random.Random(20241027)
    events = []

    def add(customer, at, name, properties):
        stamp = at.floor("ms").strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        properties = {key: value for key, value in properties.items() if value is not None}
        events.append(
            {
                "type": "track",
                "name": name,
                "customer_id": customer,
                "message_id": f"e{len(events)}",
                "timestamp": stamp,
                "properties": properties,
            }
        )

    for number in range(CUSTOMERS):
        customer = f"c{number}"
        at = pd.Timestamp("2023-11-20", tz="UTC") + pd.Timedelta(days=rng.uniform(0, 90))
        end = pd.Timestamp("2024-10-27T22:00:00Z")
        order = 0
        while at < end:
            # Many orders around midnight in London and in UTC.
            if rng.random() < 0.5:
                at = at.floor("D") + pd.Timedelta(minutes=rng.choice([-1, 0, 1, 59, 60, 61, 1379, 1380, 1381]))
            order += 1
            order_id = None if rng.random() < 0.1 else f"{customer}-o{order}"
            currency = rng.choice([None, "GBP", "EUR", "USD", "usd", "JPY", "EUR"])
            products = [
                {
                    "product_id": str(rng.randrange(40)),
                    "category": rng.choice(CATEGORIES + [None]),
                    "price": round(rng.uniform(0.5, 60), 2),
                    "quantity": rng.choice([1, 1, 1, 2, 3, 12, None]),
                }
                for _ in range(rng.choice([0, 1, 1, 2, 3, 5, 11]))
            ]
            products = [{k: v for k, v in p.items() if v is not None} for p in products]
            total = round(sum(p["price"] * p.get("quantity", 1) for p in products), 2)
            sent = rng.choices(["total", "revenue", "both", "none"], [60, 25, 10, 5])[0]
            money = {
                "total": total if sent in ("total", "both") else None,
                "revenue": round(total * 0.9, 2) if sent in ("revenue", "both") else None,
                "currency": currency,
                "order_id": order_id,
            }
            add(customer, at, "Order Completed", {**money, "products": products})
            later = at + pd.Timedelta(hours=rng.choice([0, 1, 7, 30, 500]))
            fate = rng.choices(
                ["kept", "refunded", "part", "cancelled", "updated", "twice", "unknown", "bare"],
                [50, 10, 12, 8, 8, 4, 5, 3],
            )[0]
            if fate == "refunded":
                add(customer, later, "Order Refunded", money)
            elif fate == "part":
                part = round(total / rng.choice([2, 3, 7]), 2)
                back = {"order_id": order_id, "currency": currency, "total": part}
                add(customer, later, "Order Refunded", back)
            elif fate == "cancelled":
                add(customer, later, "Order Cancelled", {**money, "total": rng.choice([total, None])})
            elif fate == "updated":
                add(customer, later, "Order Updated", {**money, "total": round(total * 1.5, 2)})
            elif fate == "twice":
                add(customer, later, "Order Completed", {**money, "products": products})
            elif fate == "unknown":
                back = {"order_id": f"{customer}-x{order}", "total": rng.choice([total, 15.5, 400])}
                add(customer, later, "Order Refunded", back)
            elif fate == "bare":
                add(customer, later, "Order Refunded", {"order_id": order_id})
            if rng.random() < 0.05:
                add(customer, later, "Order Completed", {"order_id": f"C{order}", "total": -total})
            at += pd.Timedelta(hours=rng.choice([1, 5, 24, 72, 200, 400, 900]))
        # A whole account sent back.
        if number == 3:
            for event in [e for e in events if e["customer_id"] == customer]:
                if event["name"] == "Order Completed" and "order_id" in event["properties"]:
                    back = {"order_id": event["properties"]["order_id"]}
                    add(customer, pd.Timestamp("2024-10-27T21:00:00Z"), "Order Cancelled", back)
    events = [e for e in events if pd.Timestamp(e["timestamp"]) < pd.Timestamp(INSTANTS[-1])]
    rng.shuffle(events)
    return events


def local_day(at):
    """Days since 1970-01-01 on the calendar of London."""
    return (at.dt.tz_convert(ZONE).dt.tz_localize(None).dt.floor("D") - pd.Timestamp(0)).dt.days


def rate_of(rates, currency, day):
    if currency is None or currency == "GBP":
        return 1.0
    mine = rates[rates["currency"] == currency.upper()].sort_values("date")
    date = (pd.Timestamp(0) + pd.Timedelta(days=day)).strftime("%Y-%m-%d")
    return mine[mine["date"] <= date]["rate"].iloc[-1]


def values(events, now, repeated, unmatched):
    today = local_day(pd.Series([now])).iloc[0]
    amount = [
        p.get("total", p.get("revenue", math.nan)) * rate
        for p, rate in zip(events["properties"], events["rate"])
    ]
    events = events.assign(
        amount=amount, order=[p.get("order_id") for p in events["properties"]]
    )
    completed = events[events["name"] == "Order Completed"]
    refunded = events[events["name"] == "Order Refunded"]
    signed = pd.concat([completed, refunded.assign(amount=-refunded["amount"])])
    orders = standing(events, repeated, unmatched)
    valued = orders[orders["value"] > 1e-9]
    repeat = orders.iloc[1:]
    lines = elements(completed)
    games = lines[lines["category"] == "Games"]

    def within(table, days):
        return table[today - table["day"] < days]

    def fading(table, half_life):
        return 0.5 ** ((today - table["day"]) / half_life)

    signed_30d = within(signed, 30)["amount"].sum()
    totals = [p.get("total", math.nan) for p in completed["properties"]]
    totals = completed.assign(total=totals * completed["rate"])
    first = totals[totals["total"].notna()].sort_values(["at", "total"])
    first = first[first["at"] == first["at"].min()]["total"].max() if len(first) else math.nan
    net = signed["amount"].sum()
    gap = (orders["at"].max() - orders["at"].min()) / pd.Timedelta(days=1)
    priced = lines[lines["value"].notna()]
    return {
        "always": len(events),
        "net_orders": len(orders),
        "net_orders_90d": len(within(orders, 90)),
        "net_orders_fading": fading(orders, 20).sum(),
        "net_spend": valued["value"].sum(),
        "net_spend_90d": within(valued, 90)["value"].sum(),
        "net_spend_fading": (valued["value"] * fading(valued, 30)).sum(),
        "net_mean": valued["value"].mean(),
        "net_least_180d": within(valued, 180)["value"].min(),
        "net_most": valued["value"].max(),
        "order_recency": (now - orders["at"].max()) / pd.Timedelta(days=1),
        "order_tenure": (now - orders["at"].min()) / pd.Timedelta(days=1),
        "order_gap": gap / (len(orders) - 1) if len(orders) > 1 else math.nan,
        "repeat_orders": len(repeat),
        "repeat_spend_365d": within(repeat, 365)["value"].sum(),
        "signed_spend": net,
        "signed_spend_30d": max(signed_30d, 0),
        "signed_orders": len(completed) - len(refunded),
        "first_total": first,
        "beyond_first": max(net - first, 0),
        "item_value": lines["value"].sum(),
        "games_value_90d": within(games, 90)["value"].sum(),
        "games_fading": fading(games, 45).sum(),
        "item_lines": sum(len(p["products"]) for p in completed["properties"] if "products" in p),
        "categories": lines["category"].nunique(),
        "games_share": len(games) / len(lines) if len(lines) else math.nan,
        "games_value_share": games["value"].sum() / priced["value"].sum()
        if len(priced)
        else math.nan,
        "dearest_30d": within(lines, 30)["price"].max(),
        "mean_price": lines["price"].mean(),
        "large_60d": int((within(totals, 60)["total"] >= 50).sum()),
    }


def elements(completed):
    """One row a product, with prices in pounds."""
    rows = [
        {
            "day": row.day,
            "category": product.get("category"),
            "price": product["price"] * row.rate,
            "value": product["price"] * row.rate * product.get("quantity", math.nan),
        }
        for row in completed.itertuples()
        for product in row.properties.get("products", [])
    ]
    return pd.DataFrame(rows, columns=["day", "category", "price", "value"])


def standing(events, repeated, unmatched):
    """The orders that were not taken back, oldest first, with their net values."""
    steps = {
        "Order Completed": "placed",
        "Order Updated": "placed",
        "Order Refunded": "returned",
        "Order Cancelled": "cancelled",
    }
    events = events.assign(step=events["name"].map(steps))
    events.loc[(events["step"] == "placed") & (events["amount"] < 0), "step"] = "returned"
    events = events.assign(amount=events["amount"].abs())
    events["order"] = events["order"].where(events["order"].notna(), events["message_id"])
    events = events.sort_values(["at", "amount"])
    orders, returns = [], []
    for _, mine in events.groupby("order"):
        placed = mine[mine["step"] == "placed"]
        returned = mine[mine["step"] == "returned"]
        if placed.empty:
            returns.append(mine[mine["amount"].notna()])
            continue
        known = placed["amount"].dropna()
        value = math.nan
        if len(known):
            value = known.sum() if repeated == "add" else known.iloc[-1]
        is_cancelled = (mine["step"] == "cancelled").any() or returned["amount"].isna().any()
        back = returned["amount"].sum()
        if is_cancelled or (back > 0 and value - back < 1e-9):
            continue
        row = {"at": placed["at"].min(), "day": placed["day"].min(), "value": value - back}
        orders.append(row)
    orders = pd.DataFrame(orders, columns=["at", "day", "value"])
    orders = orders.astype({"at": "datetime64[ns, UTC]", "day": int, "value": float})
    orders = orders.sort_values(["at", "value"], ignore_index=True)
    if unmatched == "newest" and returns:
        for back in pd.concat(returns).sort_values(["at", "amount"]).itertuples():
            take(orders, back)
    return orders[orders["value"] != -1]


def take(orders, back):
    """Takes a return from an order of its value, else from the newest; -1 is no order."""
    left = back.amount
    earlier = orders.index[(orders["at"] <= back.at) & (orders["value"] != -1)]
    later = orders.index[(orders["at"] > back.at) & (orders["value"] != -1)]
    same = [i for i in earlier if abs(orders.at[i, "value"] - left) < 1e-9 and left > 0]
    if same:
        orders.at[same[-1], "value"] = -1
        return
    for i in [*reversed(earlier), *later]:
        own = orders.at[i, "value"]
        if left < 1e-9 or not own > 1e-9:
            continue
        if own > left + 1e-9:
            orders.at[i, "value"] = own - left
            return
        left -= own
        orders.at[i, "value"] = -1


if __name__ == "__main__":
    main()
