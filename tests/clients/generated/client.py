"""Uses the API through a client that openapi-python-client generated from the OpenAPI document:
sends an event, reads the customer, scores a row, and follows the change feed.

    python client.py URL KEY

Prints the results as JSON. Checked with `mypy --strict`, so that the types must fit.
"""

import json
import sys

from segmentd_client import AuthenticatedClient
from segmentd_client.api.changes import list_changes
from segmentd_client.api.customers import get_customer
from segmentd_client.api.events import ingest_events
from segmentd_client.api.scores import score_rows
from segmentd_client.models import (
    ChangeList,
    Customer,
    Event,
    EventPropertiesType0,
    EventsResult,
    EventType,
    Problem,
    RowScore,
    ScoreRowRequest,
    ScoreRowRequestFeatures,
)
from segmentd_client.types import UNSET, Unset

url, key = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=key)

properties = EventPropertiesType0.from_dict({"sales_value": 12.5, "lines": 2})
event = Event(
    type_=EventType.TRACK,
    name="Order Completed",
    message_id="python-1",
    customer_id="python",
    properties=properties,
)
sent = ingest_events.sync(client=client, body=event)
assert isinstance(sent, EventsResult), sent

customer = get_customer.sync("python", client=client)
assert isinstance(customer, Customer), customer

features = {"recency_days": 3, "orders_365d": 4, "spend_365d": 200}
row = ScoreRowRequest(features=ScoreRowRequestFeatures.from_dict(features))
score = score_rows.sync(client=client, body=row)
assert isinstance(score, RowScore), score

changes = 0
cursor: str | Unset = UNSET
while True:
    page = list_changes.sync(client=client, cursor=cursor, limit=100)
    assert isinstance(page, ChangeList), page
    changes += sum(change.customer_id == "python" for change in page.changes)
    if not page.changes:
        break
    cursor = page.next_cursor

refused = list_changes.sync(client=client, segment_id="s99")
assert isinstance(refused, Problem), refused
faults = [] if isinstance(refused.errors, Unset) else refused.errors

print(
    json.dumps(
        {
            "accepted": sent.accepted,
            "segment_id": customer.segment_id,
            "score": score.to_dict(),
            "changes": changes,
            "field": faults[0].field,
        }
    )
)
