"""Parses CloudEvents requests of any content mode with PyPI's `cloudevents`.

    python cloudevents_reader.py < [{"headers": {…}, "body": "…"}, …]

Prints the attributes and the data of each request as JSON.
"""

import json
import sys

from cloudevents.v1.http import from_http


def read(request):
    event = from_http(request["headers"], request["body"])
    return {"attributes": dict(event.get_attributes()), "data": event.get_data()}


json.dump([read(request) for request in json.load(sys.stdin)], sys.stdout)
