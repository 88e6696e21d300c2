"""Calls every method of PyPI's segment-analytics-python.

    python segment_python.py HOST WRITE_KEY CUSTOMERS

Calls with a message id and a timestamp are sent twice, uncompressed and with gzip, the others once. Exits
with 1 if the library dropped an event.
"""

import datetime
import sys

from segment.analytics.client import Client

HOST, WRITE_KEY, CUSTOMERS = sys.argv[1], sys.argv[2], int(sys.argv[3])
# A call that is repeated must repeat its timestamp: the library adds the present one.
STARTED = datetime.datetime.now(datetime.timezone.utc)
dropped = []


def client(gzip):
    return Client(
        WRITE_KEY,
        host=HOST,
        gzip=gzip,
        upload_size=40,
        on_error=lambda error, batch: dropped.append((error, len(batch))),
    )


def named(analytics):
    for i in range(CUSTOMERS):
        user = f"python-{i}"

        def ids(call, user=user):
            return {"user_id": user, "message_id": f"{user}-{call}", "timestamp": STARTED}

        analytics.identify(**ids("identify"), anonymous_id=f"was-{i}", traits={"plan": "gold"})
        for order in range(5):
            analytics.track(
                **ids(f"order-{order}"),
                event="Order Completed",
                properties={"revenue": order + 0.25, "products": [{"sku": "a", "price": 1}]},
            )
        analytics.page(**ids("page"), name="Home", category="shop", properties={"url": "/"})
        analytics.screen(**ids("screen"), name="Home")
        analytics.group(**ids("group"), group_id="acme", traits={"employees": 12})
        analytics.alias(**ids("alias"), previous_id=i)


def unnamed(analytics):
    now = datetime.datetime.now(datetime.timezone.utc)
    for order in range(90):
        analytics.track(
            anonymous_id="python-unnamed",
            event="Order Completed",
            timestamp=now - datetime.timedelta(minutes=order),
            properties={"revenue": 1},
        )


first = client(gzip=False)
named(first)
unnamed(first)
first.shutdown()
second = client(gzip=True)
named(second)
second.shutdown()
for error, events in dropped:
    print(f"dropped: {events} events: {error}", file=sys.stderr)
sys.exit(1 if dropped else 0)
