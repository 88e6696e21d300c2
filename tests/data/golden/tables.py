"""Writes made-up tables of known formats, and computes features of them with pandas.

By hand, from the root:

    python3 tests/data/golden/tables.py

Writes tests/data/tables: one table per mapping of config/mappings, in the form in which the
format's owner publishes or exports it, and expected.csv with one line per format and customer.
Only pandas reads the tables here, and no mapping is read.
"""

import gzip
import json
import random
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent.parent / "tables"
VALUES = ["orders", "revenue", "refunds", "refunded", "views", "items", "last_order_ms"]


def main() -> None:
    HERE.mkdir(exist_ok=True)
    rows = []
    for name, (write, read) in FORMATS.items():
        path = write(random.Random(name))
        for customer, values in sorted(read(path).items()):
            rows.append({"format": name, "file": path.name, "customer": customer, **values})
    pd.DataFrame(rows).to_csv(HERE / "expected.csv", index=False, float_format="%.12g")


def millis(time) -> int:
    return int(pd.Timestamp(time).value // 1_000_000)


def summary(orders, refunds=None, views=None) -> dict:
    """orders: customer, total, at, items; refunds: customer, total; views: customers."""
    customers = set(orders["customer"])
    customers |= set(refunds["customer"]) if refunds is not None else set()
    customers |= set(views) if views is not None else set()
    found = {}
    for customer in customers:
        mine = orders[orders["customer"] == customer]
        back = refunds[refunds["customer"] == customer] if refunds is not None else mine[:0]
        found[customer] = {
            "orders": len(mine),
            "revenue": round(float(mine["total"].sum()), 6),
            "refunds": len(back),
            "refunded": round(float(back["total"].sum()), 6),
            "views": sum(1 for viewer in views if viewer == customer) if views is not None else 0,
            "items": int(mine["items"].sum()),
            "last_order_ms": millis(mine["at"].max()) if len(mine) else "",
        }
    return found


def price(rng) -> float:
    return round(rng.uniform(0.5, 90), 2)


# UCI Online Retail: Windows-1252, CRLF, month first, cancellations, rows without a customer.
def write_online_retail(rng):
    lines = ["InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"]
    at = pd.Timestamp("2011-03-26 08:26")
    for number in range(60):
        at += pd.Timedelta(minutes=rng.randrange(1, 300))
        customer = rng.choice(["12346", "17850", "13047", "15311", ""])
        is_back = customer and rng.random() < 0.2
        invoice = f"{'C' if is_back else ''}{536365 + number}"
        for _ in range(rng.randrange(1, 4)):
            quantity = rng.randrange(1, 13) * (-1 if is_back else 1)
            name = rng.choice(["WHITE METAL LANTERN", "Discount £10", '"CHERRY" JAR, 5" HIGH', "CAFÉ SET "])
            name = '"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name
            date = f"{at.month}/{at.day}/{at.year} {at.hour}:{at.minute:02}"
            cell = f"{customer}" if customer else ""
            lines.append(f"{invoice},85{rng.randrange(100, 999)}A,{name},{quantity},{date},{price(rng)},{cell},United Kingdom")
    path = HERE / "online-retail.csv"
    path.write_bytes("\r\n".join(lines + [""]).encode("windows-1252"))
    return path


def read_online_retail(path):
    rows = pd.read_csv(path, encoding="windows-1252", dtype={"CustomerID": str, "InvoiceNo": str})
    rows = rows.dropna(subset=["CustomerID"])
    rows["amount"] = rows["Quantity"] * rows["UnitPrice"]
    local = pd.to_datetime(rows["InvoiceDate"], format="%m/%d/%Y %H:%M")
    rows["at"] = local.dt.tz_localize("Europe/London", ambiguous=False, nonexistent="shift_forward")
    invoices = rows.groupby("InvoiceNo").agg(
        customer=("CustomerID", "first"), total=("amount", "sum"), at=("at", "first"), items=("Quantity", "sum")
    ).reset_index()
    is_back = invoices["InvoiceNo"].str.startswith("C")
    return summary(invoices[~is_back], invoices[is_back].assign(total=lambda x: -x["total"]))


# Olist: three tables; a customer has an id per order, and one id across orders.
def write_olist(rng):
    orders, items, customers = [], [], []
    for number in range(40):
        order, customer = f"e481f51cbdc54678b7cc49136f2d{number:04}", f"9ef432eb625129730{number:04}"
        status = rng.choice(["delivered", "delivered", "shipped", "canceled", "unavailable"])
        at = f"2017-10-{rng.randrange(10, 28)} {rng.randrange(10, 20)}:56:{rng.randrange(10, 60)}"
        orders.append([order, customer, status, at, at, "", "", "2017-11-20 00:00:00"])
        customers.append([customer, rng.choice(["u7c1", "u7c2", "u7c3"]), "03149", "sao paulo", "SP"])
        for item in range(rng.randrange(0, 4)):
            items.append([order, item + 1, f"p{rng.randrange(99)}", "s1", at, price(rng), 8.72])
    names = "order_id customer_id order_status order_purchase_timestamp order_approved_at order_delivered_carrier_date order_delivered_customer_date order_estimated_delivery_date"
    pd.DataFrame(orders, columns=names.split()).to_csv(HERE / "olist_orders_dataset.csv", index=False)
    names = "customer_id customer_unique_id customer_zip_code_prefix customer_city customer_state"
    pd.DataFrame(customers, columns=names.split()).to_csv(HERE / "olist_customers_dataset.csv", index=False, quoting=1)
    names = "order_id order_item_id product_id seller_id shipping_limit_date price freight_value"
    path = HERE / "olist_order_items_dataset.csv"
    pd.DataFrame(items, columns=names.split()).to_csv(path, index=False)
    return path


def read_olist(path):
    rows = pd.read_csv(path).merge(pd.read_csv(HERE / "olist_orders_dataset.csv"), on="order_id")
    rows = rows.merge(pd.read_csv(HERE / "olist_customers_dataset.csv"), on="customer_id")
    rows = rows[~rows["order_status"].isin(["canceled", "unavailable"])]
    rows["at"] = pd.to_datetime(rows["order_purchase_timestamp"]).dt.tz_localize("America/Sao_Paulo")
    orders = rows.groupby("order_id").agg(
        customer=("customer_unique_id", "first"), total=("price", "sum"), at=("at", "first"), items=("price", "size")
    )
    return summary(orders)


# REES46: " UTC" at the end of times; equal rows are real.
def write_rees46(rng):
    rows = []
    at = pd.Timestamp("2019-10-01")
    for _ in range(120):
        at += pd.Timedelta(seconds=rng.randrange(0, 90))
        kind = rng.choices(["view", "cart", "purchase"], [8, 2, 2])[0]
        row = [f"{at:%Y-%m-%d %H:%M:%S} UTC", kind, rng.randrange(10**6, 10**8), 2103807459595387724]
        row += [rng.choice(["", "appliances.kitchen"]), rng.choice(["", "aqua"]), f"{price(rng):.2f}"]
        row += [rng.choice([541312140, 554748717, 519107250]), f"72d76fde-{rng.randrange(100, 120)}"]
        rows += [row] * rng.choice([1, 1, 1, 2])
    names = "event_time event_type product_id category_id category_code brand price user_id user_session"
    path = HERE / "rees46.csv.gz"
    text = pd.DataFrame(rows, columns=names.split()).to_csv(index=False)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return path


def read_rees46(path):
    rows = pd.read_csv(path, dtype={"user_id": str})
    rows["at"] = pd.to_datetime(rows["event_time"], format="%Y-%m-%d %H:%M:%S UTC", utc=True)
    orders = rows[rows["event_type"] == "purchase"]
    orders = orders.assign(customer=orders["user_id"], total=orders["price"], items=1)
    return summary(orders, views=list(rows.loc[rows["event_type"] == "view", "user_id"]))


# Retailrocket: milliseconds, a row per item of a transaction, no prices.
def write_retailrocket(rng):
    rows = []
    for number in range(100):
        kind = rng.choices(["view", "addtocart", "transaction"], [8, 2, 2])[0]
        at = 1433221332117 + rng.randrange(10**9)
        order = number if kind == "transaction" else ""
        for _ in range(rng.choice([1, 2]) if kind == "transaction" else 1):
            rows.append([at, rng.choice([257597, 992329, 111016]), kind, rng.randrange(10**5), order])
    path = HERE / "retailrocket.csv"
    names = ["timestamp", "visitorid", "event", "itemid", "transactionid"]
    pd.DataFrame(rows, columns=names).to_csv(path, index=False)
    return path


def read_retailrocket(path):
    rows = pd.read_csv(path, dtype={"visitorid": str})
    rows["at"] = pd.to_datetime(rows["timestamp"], unit="ms", utc=True)
    orders = rows[rows["event"] == "transaction"]
    orders = orders.assign(customer=orders["visitorid"], total=0.0, items=0)
    return summary(orders, views=list(rows.loc[rows["event"] == "view", "visitorid"]))


# Taobao: no header, seconds.
def write_taobao(rng):
    rows = []
    for _ in range(100):
        kind = rng.choices(["pv", "cart", "fav", "buy"], [8, 2, 1, 2])[0]
        row = [rng.choice([1, 100, 1000001]), rng.randrange(10**6), rng.randrange(10**6), kind]
        rows.append([*row, 1511544070 + rng.randrange(10**6)])
    path = HERE / "taobao.csv"
    pd.DataFrame(rows).to_csv(path, index=False, header=False)
    return path


def read_taobao(path):
    rows = pd.read_csv(path, header=None, names=["user", "item", "category", "kind", "at"], dtype={"user": str})
    rows["at"] = pd.to_datetime(rows["at"], unit="s", utc=True)
    orders = rows[rows["kind"] == "buy"]
    orders = orders.assign(customer=orders["user"], total=0.0, items=0)
    return summary(orders, views=list(rows.loc[rows["kind"] == "pv", "user"]))


# Shopify: totals in the first row of an order, one row per item.
def write_shopify(rng):
    names = (
        "Name,Email,Financial Status,Paid at,Fulfillment Status,Fulfilled at,Accepts Marketing,Currency,"
        "Subtotal,Shipping,Taxes,Total,Discount Code,Discount Amount,Shipping Method,Created at,"
        "Lineitem quantity,Lineitem name,Lineitem price,Lineitem compare at price,Lineitem sku,"
        "Refunded Amount,Vendor,Id,Tags,Source"
    ).split(",")
    rows = []
    for number in range(40):
        email = rng.choice(["ann@example.com", "bob@example.com", "eve@example.com", ""])
        status = rng.choice(["paid", "paid", "refunded", "partially_refunded", "voided"])
        at = f"2026-{rng.choice(['03', '10'])}-{rng.randrange(10, 28)} {rng.randrange(10, 20)}:50:26 {rng.choice(['+0100', '+0200', '-0500'])}"
        items = [[rng.randrange(1, 4), rng.choice(["Mask", "Cream, light", 'Bag 12"']), price(rng)] for _ in range(rng.randrange(1, 4))]
        subtotal = round(sum(count * each for count, _, each in items), 2)
        back = {"refunded": subtotal, "partially_refunded": round(subtotal / 2, 2)}.get(status, 0)
        for at_item, (count, name, each) in enumerate(items):
            row = dict.fromkeys(names, "")
            row.update({"Name": f"#{1001 + number}", "Email": email, "Created at": at})
            row.update({"Lineitem quantity": count, "Lineitem name": name, "Lineitem price": f"{each:.2f}"})
            if at_item == 0:
                row.update({"Financial Status": status, "Currency": "EUR", "Subtotal": f"{subtotal:.2f}"})
                row.update({"Shipping": "4.90", "Taxes": "0.00", "Total": f"{subtotal + 4.9:.2f}"})
                row.update({"Discount Code": rng.choice(["", "WELCOME10"]), "Discount Amount": "0.00"})
                row.update({"Refunded Amount": f"{back:.2f}", "Id": 5000000000000 + number, "Source": "web"})
            rows.append(row)
    path = HERE / "shopify-orders.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def read_shopify(path):
    rows = pd.read_csv(path)
    orders = rows.groupby("Name").agg(
        customer=("Email", "first"), status=("Financial Status", "first"), total=("Total", "first"),
        refunded=("Refunded Amount", "first"), at=("Created at", "first"), items=("Lineitem quantity", "sum"),
    )
    orders = orders[orders["customer"].notna()]
    orders["at"] = pd.to_datetime(orders["at"], format="%Y-%m-%d %H:%M:%S %z", utc=True)
    refunds = orders[orders["refunded"] > 0].assign(total=lambda x: x["refunded"])
    return summary(orders[orders["status"] != "voided"], refunds)


# Stripe: UTC without a zone, to the minute.
def write_stripe(rng):
    rows = []
    for number in range(40):
        status = rng.choice(["Paid", "Paid", "Refunded", "Failed"])
        amount = round(rng.uniform(5, 2500), 2)
        at = f"2026-11-{rng.randrange(10, 28)} {rng.randrange(10, 20)}:{rng.randrange(10, 60)}"
        rows.append({
            "id": f"ch_3N{number:04}", "Created date (UTC)": at, "Amount": f"{amount:,.2f}",
            "Amount Refunded": f"{amount if status == 'Refunded' else 0:,.2f}", "Currency": "usd",
            "Captured": "true", "Description": rng.choice(["", "Subscription, monthly"]), "Status": status,
            "Customer ID": rng.choice(["cus_A", "cus_B", "cus_C", ""]), "Customer Email": "x@example.com",
        })
    path = HERE / "stripe-charges.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def read_stripe(path):
    rows = pd.read_csv(path, thousands=",").dropna(subset=["Customer ID"])
    rows["at"] = pd.to_datetime(rows["Created date (UTC)"], utc=True)
    rows = rows.assign(customer=rows["Customer ID"], total=rows["Amount"], items=0)
    refunds = rows[rows["Amount Refunded"] > 0].assign(total=lambda x: x["Amount Refunded"])
    return summary(rows[rows["Status"] != "Failed"], refunds)


# WooCommerce: one row per item; every row has the totals of its order.
def write_woocommerce(rng):
    rows = []
    for number in range(40):
        status = rng.choice(["completed", "processing", "refunded", "cancelled", "pending"])
        total = round(rng.uniform(5, 250), 2)
        head = {
            "order_id": 4000 + number, "order_number": 4000 + number, "status": status,
            "date": f"2026-11-{rng.randrange(10, 28)} {rng.randrange(10, 20)}:29:{rng.randrange(10, 60)}",
            "shipping_total": 4.9, "tax_total": 0, "discount_total": 0, "order_total": total,
            "refunded_total": total if status == "refunded" else 0, "order_currency": "EUR",
            "customer_id": 0, "billing_email": rng.choice(["ann@example.com", "bob@example.com"]),
        }
        for _ in range(rng.randrange(1, 4)):
            item = {"item_product_id": rng.randrange(100, 999), "item_name": "Soap, 2 bars", "item_sku": "S-1"}
            rows.append({**head, **item, "item_quantity": rng.randrange(1, 5), "item_total": price(rng)})
    path = HERE / "woocommerce.csv"
    pd.DataFrame(rows).to_csv(path, index=False, sep=";")
    return path


def read_woocommerce(path):
    rows = pd.read_csv(path, sep=";")
    orders = rows.groupby("order_id").agg(
        customer=("billing_email", "first"), status=("status", "first"), total=("order_total", "first"),
        refunded=("refunded_total", "first"), at=("date", "first"), items=("item_quantity", "sum"),
    )
    orders["at"] = pd.to_datetime(orders["at"], utc=True)
    refunds = orders[orders["refunded"] > 0].assign(total=lambda x: x["refunded"])
    return summary(orders[orders["status"].isin(["completed", "processing", "refunded"])], refunds)


# GA4: microseconds as text, parameters as typed pairs, items as an array, nulls left out.
def write_ga4(rng):
    lines = []
    for number in range(80):
        kind = rng.choices(["page_view", "view_item", "add_to_cart", "purchase", "refund", "scroll"], [3, 4, 2, 3, 1, 2])[0]
        row = {
            "event_date": "20261120", "event_timestamp": str(1795168800000000 + number * 977_123_456),
            "event_name": kind, "event_bundle_sequence_id": str(number),
            "event_params": [
                {"key": "page_title", "value": {"string_value": "Shop"}},
                {"key": "ga_session_id", "value": {"int_value": "1795168800"}},
                {"key": "currency", "value": {"string_value": "EUR"}},
            ],
            "device": {"category": "mobile"},
        }
        if rng.random() < 0.9:
            row["user_pseudo_id"] = rng.choice(["1.1", "2.2", "3.3"])
        items = [{"item_id": f"SKU_{rng.randrange(99)}", "item_name": "Mask", "price": price(rng), "quantity": str(rng.randrange(1, 4))} for _ in range(rng.randrange(1, 3))]
        total = round(sum(item["price"] * int(item["quantity"]) for item in items), 2)
        if kind in ("view_item", "add_to_cart", "purchase"):
            row["items"] = items
        if kind == "purchase":
            row["ecommerce"] = {"transaction_id": f"T{number}", "purchase_revenue": total, "total_item_quantity": "2"}
        if kind == "refund":
            row["ecommerce"] = {"transaction_id": f"T{number}", "refund_value": total}
        lines.append(json.dumps(row))
    path = HERE / "ga4-bigquery.ndjson"
    path.write_text("\n".join(lines) + "\n")
    return path


def read_ga4(path):
    rows = pd.read_json(path, lines=True, dtype={"user_pseudo_id": str, "event_timestamp": "int64"})
    rows = rows.dropna(subset=["user_pseudo_id"])
    rows = rows.assign(customer=rows["user_pseudo_id"], at=pd.to_datetime(rows["event_timestamp"] // 1000, unit="ms", utc=True))
    buys = rows[rows["event_name"] == "purchase"]
    buys = buys.assign(
        total=[value["purchase_revenue"] for value in buys["ecommerce"]],
        items=[sum(int(item["quantity"]) for item in value) for value in buys["items"]],
    )
    backs = rows[rows["event_name"] == "refund"]
    backs = backs.assign(total=[value["refund_value"] for value in backs["ecommerce"]])
    return summary(buys, backs, list(rows.loc[rows["event_name"] == "view_item", "customer"]))


# Segment warehouse: text of Postgres' times, products as JSON text.
def segment_rows(rng, ids="ajs"):
    rows = []
    for number in range(40):
        name = rng.choice(["Order Completed", "Order Completed", "Order Refunded"])
        products = [{"product_id": f"p{rng.randrange(9)}", "price": price(rng), "quantity": rng.randrange(1, 4)} for _ in range(2)]
        at = f"2026-11-{rng.randrange(10, 28)} {rng.randrange(10, 20)}:00:{rng.randrange(10, 60)}.{rng.randrange(100, 999)}"
        rows.append({
            "id": f"{ids}-{number:03}", "received_at": at, "anonymous_id": "", "user_id": rng.choice(["u1", "u2", "u3"]),
            "event": name.lower().replace(" ", "_"), "event_text": name, "timestamp": at,
            "order_id": f"o{number}", "total": price(rng), "currency": "USD", "coupon": rng.choice(["", "SPRING"]),
            "products": json.dumps(products), "context_ip": "192.0.2.1", "uuid_ts": at,
        })
    return rows


def write_segment(rng):
    rows = segment_rows(rng)
    for row in rows:
        row["timestamp"] += "+00"
    path = HERE / "segment-warehouse.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def read_segment(path, **options):
    rows = pd.read_csv(path, **options)
    rows.columns = rows.columns.str.lower()
    rows["at"] = pd.to_datetime(rows["timestamp"].str.replace(" +0000", "").str.replace("+00", ""), utc=True)
    products = rows["products"].map(json.loads)
    rows = rows.assign(customer=rows["user_id"], items=[sum(each["quantity"] for each in value) for value in products])
    is_order = rows["event_text"] == "Order Completed"
    return summary(rows[is_order], rows[~is_order])


# Snowflake: capitals, \N for null, +0000, gzip.
def write_snowflake(rng):
    rows = pd.DataFrame(segment_rows(rng, "sf"))
    rows["timestamp"] += " +0000"
    rows.columns = rows.columns.str.upper()
    text = rows.replace("", "\\N").to_csv(index=False)
    path = HERE / "snowflake.csv.gz"
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return path


def read_snowflake(path):
    return read_segment(path, na_values=["\\N"])


# Postgres COPY: tabs, \N, escapes, jsonb.
def write_copy(rng):
    lines = []
    for number in range(40):
        name = rng.choice(["Order Completed", "Order Completed", "Order Refunded"])
        products = [{"name": 'Soap "fine"\t' if rng.random() < 0.3 else "Soap", "quantity": rng.randrange(1, 4)}]
        properties = json.dumps({"total": price(rng), "products": products})
        at = f"2026-11-{rng.randrange(10, 28)} {rng.randrange(10, 20)}:00:{rng.randrange(10, 60)}+01"
        cells = [str(100000000000000000000 + number), rng.choice(["7", "8"]), name, at, properties.replace("\\", "\\\\")]
        lines.append("\t".join(cells))
    lines.append("\t".join(["1", "7", "Order Completed", "2026-11-09 10:00:00+01", "\\N"]))
    path = HERE / "postgres-copy.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def read_copy(path):
    names = ["id", "user", "name", "at", "properties"]
    rows = pd.read_csv(path, sep="\t", header=None, names=names, dtype={"user": str}, na_values=["\\N"], quoting=3)
    properties = rows["properties"].fillna("{}").str.replace("\\\\", "\\").map(json.loads)
    rows["at"] = pd.to_datetime(rows["at"] + "00", format="%Y-%m-%d %H:%M:%S%z", utc=True)
    rows = rows.assign(
        customer=rows["user"], total=[value.get("total", 0) for value in properties],
        items=[sum(each["quantity"] for each in value.get("products", [])) for value in properties],
    )
    is_order = rows["name"] == "Order Completed"
    return summary(rows[is_order], rows[~is_order])


FORMATS = {
    "online-retail": (write_online_retail, read_online_retail),
    "olist": (write_olist, read_olist),
    "rees46": (write_rees46, read_rees46),
    "retailrocket": (write_retailrocket, read_retailrocket),
    "taobao": (write_taobao, read_taobao),
    "shopify-orders": (write_shopify, read_shopify),
    "stripe-charges": (write_stripe, read_stripe),
    "woocommerce": (write_woocommerce, read_woocommerce),
    "ga4-bigquery": (write_ga4, read_ga4),
    "segment-warehouse": (write_segment, read_segment),
    "snowflake": (write_snowflake, read_snowflake),
    "postgres-copy": (write_copy, read_copy),
}

if __name__ == "__main__":
    main()
