"""Uses the API through a client that openapi-python-client generated from the OpenAPI document:
sends an event, reads the customer, scores a row, and follows the change feed.

    python client.py URL KEY

Prints the results as JSON. Checked with `mypy --strict`.
"""

import json
import sys

from segmentd_client import AuthenticatedClient
from segmentd_client.api.changes import list_changes
from segmentd_client.api.customers import get_customer
from segmentd_client.api.events import send_events
from segmentd_client.api.scores import score
from segmentd_client.models import Customer, IngestionResponse, ScoreRequest, ChangePage

url, key = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=key)
