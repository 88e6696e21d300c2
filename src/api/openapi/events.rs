//! OpenAPI description of event ingestion: native and Segment endpoints, and rejected events.

use serde_json::{Value, json};

use super::{Operation, QueryParameter};

const SEGMENT_RESPONSE: &str = "Counts, and the reasons of messages that were rejected or have \
                                    the messageId of another message (`conflict`). The status is \
                                    200 even if messages were rejected, as in Segment's API. A \
                                    failure also has `code` and `message`. A key of the scope \
                                    track alone links only anonymous ids that it introduced";

pub(super) const OPERATIONS: &[Operation] = &[
    (
        "/v1/events",
        "post",
        "ingest",
        "Send one event or an array of events",
        Some("Events"),
        "An element that is not valid JSON is rejected alone. \
         An outcome per event, with the customer's new assignment (`retained_by_hysteresis` means \
         that another segment is nearer, see GET /v1/customers/{customer_id}). 207 if some events were \
         rejected, in conflict or locked, 422 if all were rejected or in conflict, 503 if all were \
         locked. `duplicate` means that this event was counted before. `conflict` means that \
         another event of this customer with the same message_id was counted before; this one was \
         not counted and is kept as a failed event. `locked` means \
         that another database session had the customer locked; the event was not counted, send \
         it again with the same message_id; the limit of the wait is \
         ingestion.max_lock_wait_seconds. With strict=true, 422 if any event was rejected \
         or in conflict, and none is counted. 413 for more than limits.events_per_request events. A response names at \
         most 1000 faults; later outcomes have their number in `errors_omitted`",
    ),
    (
        "/v1/events/bulk",
        "post",
        "ingest",
        "Send events as a stream of NDJSON",
        Some("BulkEvents"),
        "NDJSON, an outcome per line after its commit; read it while you write. Lines are \
         committed after at most limits.stream_flush_milliseconds. After \
         limits.stream_idle_seconds without a byte, the response ends with a line of status \
         `failed`. `conflict` means that another event of this customer with the same message_id \
         was counted before; this one was not counted and is kept as a failed event. `locked` means that another database session had the customer locked; the \
         event was not counted, send it again with the same message_id",
    ),
    (
        "/v1/batch",
        "post",
        "track",
        "Send a batch of Segment messages (also /v1/b)",
        Some("SegmentBatch"),
        SEGMENT_RESPONSE,
    ),
    (
        "/v1/identify",
        "post",
        "track",
        "Identify a customer, Segment format (also /v1/i)",
        Some("SegmentMessage"),
        SEGMENT_RESPONSE,
    ),
    (
        "/v1/track",
        "post",
        "track",
        "Send a customer's action, Segment format (also /v1/t)",
        Some("SegmentMessage"),
        SEGMENT_RESPONSE,
    ),
    (
        "/v1/page",
        "post",
        "track",
        "Send a page view, Segment format (also /v1/p)",
        Some("SegmentMessage"),
        SEGMENT_RESPONSE,
    ),
    (
        "/v1/screen",
        "post",
        "track",
        "Send a screen view, Segment format (also /v1/s)",
        Some("SegmentMessage"),
        SEGMENT_RESPONSE,
    ),
    (
        "/v1/group",
        "post",
        "track",
        "Add a customer to a group, Segment format (also /v1/g)",
        Some("SegmentMessage"),
        SEGMENT_RESPONSE,
    ),
    (
        "/v1/alias",
        "post",
        "track",
        "Link two ids of a customer, Segment format (also /v1/a)",
        Some("SegmentMessage"),
        SEGMENT_RESPONSE,
    ),
    (
        "/v1/m",
        "post",
        "",
        "Accept and discard metrics of the Segment libraries",
        None,
        "A constant response",
    ),
    (
        "/v1/projects/{write_key}/settings",
        "get",
        "",
        "Get the settings of Segment's browser and mobile libraries",
        None,
        "The settings, with the `Host` of the request as the address for events, so a proxy must \
         forward this header. 404 without a key of scope track or ingest",
    ),
    (
        "/v1/events/failed",
        "get",
        "read",
        "List rejected events, newest first",
        None,
        "The events with sender, time and reason; with raw=true (requires the scope replay too) \
         also their bodies. Events of strict requests are not stored, and at most \
         failed_events.max_per_minute per key",
    ),
    (
        "/v1/events/failed/summary",
        "get",
        "read",
        "Count rejected events by key, endpoint and reason",
        None,
        "The counts, largest first",
    ),
    (
        "/v1/events/failed/replay",
        "post",
        "replay",
        "Replay rejected events, oldest first",
        Some("ReplayRequest"),
        "The numbers of accepted, duplicate, conflicting and again rejected events, and `next_after` until no \
         event is left. Each event is processed as the key that sent it, and is counted once even \
         if it is replayed again",
    ),
];

pub(super) const QUERY_PARAMETERS: &[QueryParameter] = &[
    ("/v1/events", "strict", "boolean", "Count all of the events or none, in one transaction"),
    ("/v1/events/failed", "before", "string", "`next_before` of the previous page"),
    ("/v1/events/failed", "limit", "integer", "From 1 to 500; default 50"),
    (
        "/v1/events/failed",
        "endpoint",
        "string",
        "Only events of this endpoint (events, bulk or segment)",
    ),
    ("/v1/events/failed", "key", "string", "Only events of the API key with this id"),
    ("/v1/events/failed", "reason", "string", "Only events with this reason, as in the summary"),
    (
        "/v1/events/failed",
        "raw",
        "boolean",
        "Include the bodies, which contain personal data; requires the scope replay too",
    ),
    (
        "/v1/events/failed/summary",
        "since",
        "string",
        "Only events received since this RFC 3339 instant; default all",
    ),
    ("/v1/events/failed/summary", "limit", "integer", "From 1 to 500 groups; default 50"),
];

/// The typed body of a response.
pub(super) struct ResponseSchema {
    pub(super) media_type: &'static str,
    pub(super) schema: &'static str,
}

/// The typed body of the response of a path.
pub(super) fn response_schema(path: &str) -> Option<ResponseSchema> {
    let (media_type, schema) = match path {
        "/v1/events" => ("application/json", "EventsResponse"),
        "/v1/events/bulk" => ("application/x-ndjson", "EventOutcome"),
        "/v1/batch" | "/v1/identify" | "/v1/track" | "/v1/page" | "/v1/screen" | "/v1/group"
        | "/v1/alias" => ("application/json", "SegmentResponse"),
        _ => return None,
    };
    Some(ResponseSchema { media_type, schema })
}

pub(super) fn schemas() -> Value {
    let faults = json!({ "type": "array", "items": { "$ref": "#/components/schemas/EventFault" } });
    let omitted = json!({ "type": "integer", "description": "Number of entries that are left out, because the response already lists 1000" });
    let count = |text: &str| json!({ "type": "integer", "minimum": 0, "description": text });
    json!({
        "EventFault": {
            "type": "object",
            "required": ["field", "problem"],
            "properties": {
                "field": { "type": "string", "description": "Path of the field as it was sent, such as `traits.age`" },
                "problem": { "type": "string", "description": "The fault, and how to correct it" },
            },
        },
        "EventOutcome": {
            "type": "object",
            "required": ["status"],
            "properties": {
                "line": { "type": "integer", "minimum": 1, "description": "Line of a bulk upload" },
                "status": { "type": "string", "description": "`accepted`, `duplicate`, `rejected`, `locked`, `not_counted` (strict requests) or `failed` (the end of a bulk upload)" },
                "message_id": { "type": "string", "description": "Idempotency key of the event" },
                "customer_id": { "type": "string", "description": "The surviving customer of an accepted event" },
                "score": { "type": "object", "description": "The customer's assignment after the event" },
                "warnings": { "description": "Parts of an accepted event that were left out: properties that cannot be converted to their declared type, and sentinel ids", "$ref": "#/components/schemas/EventFaults" },
                "warnings_omitted": omitted,
                "errors": { "description": "Reasons of a rejected event", "$ref": "#/components/schemas/EventFaults" },
                "errors_omitted": omitted,
            },
        },
        "EventFaults": faults,
        "EventsResponse": {
            "type": "object",
            "required": ["accepted", "duplicate", "rejected", "outcomes"],
            "properties": {
                "accepted": count("Events counted now"),
                "duplicate": count("Events counted before"),
                "rejected": count("Invalid events, kept as failed events"),
                "not_counted": count("Valid events of a strict request with invalid ones"),
                "locked": count("Events to send again"),
                "outcomes": { "type": "array", "description": "One per event, in order", "items": { "$ref": "#/components/schemas/EventOutcome" } },
            },
        },
        "SegmentResponse": {
            "type": "object",
            "required": ["success", "accepted", "duplicate", "rejected"],
            "properties": {
                "success": { "type": "boolean", "description": "Always true, as in Segment's API" },
                "accepted": count("Messages counted now"),
                "duplicate": count("Messages counted before"),
                "rejected": count("Invalid messages, kept as failed events"),
                "rejections": { "type": "array", "description": "Rejected messages", "items": {
                    "type": "object",
                    "required": ["index", "errors"],
                    "properties": {
                        "index": count("Index in the batch"),
                        "errors": { "$ref": "#/components/schemas/EventFaults", "description": "The reasons" },
                        "errors_omitted": omitted,
                    },
                } },
                "warnings": { "type": "array", "description": "Accepted messages of which a part was left out", "items": {
                    "type": "object",
                    "required": ["index", "warnings"],
                    "properties": {
                        "index": count("Index in the batch"),
                        "warnings": { "$ref": "#/components/schemas/EventFaults", "description": "The parts" },
                        "warnings_omitted": omitted,
                    },
                } },
            },
        },
    })
}
