//! OpenAPI schemas of request and response bodies: native and Segment formats.

use serde_json::{Value, json};

use crate::domain::event::EventKind;

pub(super) fn segment() -> Value {
    json!({
        "SegmentMessage": {
            "type": "object",
            "description": "A call of Segment's spec; other fields are ignored",
            "properties": {
                "type": { "enum": EventKind::ALL.map(EventKind::as_str), "description": "In a batch" },
                "writeKey": { "type": "string", "description": "The API key, if no header has it; in a batch, next to `batch`" },
                "messageId": { "type": ["string", "integer"], "maxLength": 200, "description": "Idempotency key of the event among those of its customer; generated if absent. An event with other content needs another key, and an event that is sent again needs the same timestamp" },
                "userId": { "type": ["string", "integer"], "maxLength": 200 },
                "anonymousId": { "type": ["string", "integer"], "maxLength": 200, "description": "The customer, if there is no `userId`; with it, for `identify`, another id of the same customer" },
                "previousId": { "type": ["string", "integer"], "maxLength": 200, "description": "For `alias`: another id of the same customer" },
                "groupId": { "type": ["string", "integer"], "description": "For `group`; features read it as the property `group_id`" },
                "event": { "type": "string", "description": "Required for `track`" },
                "name": { "type": "string", "description": "For `page` and `screen`" },
                "category": { "type": "string", "description": "For `page` and `screen`" },
                "properties": { "type": "object" },
                "traits": { "type": "object", "description": "For `identify` and `group`; null or a blank text removes a trait" },
                "timestamp": { "type": "string", "format": "date-time", "description": "Time of the event; default now" },
                "originalTimestamp": { "type": "string", "format": "date-time", "description": "Uncorrected time; with it, `timestamp` is already corrected" },
                "sentAt": { "type": "string", "format": "date-time", "description": "Time of the sender's clock when it sent the request, to correct `timestamp`" },
                "context": { "type": "object", "description": "Accepted and ignored" },
            },
        },
        "SegmentBatch": {
            "type": "object",
            "required": ["batch"],
            "properties": {
                "batch": { "type": "array", "items": { "$ref": "#/components/schemas/SegmentMessage" } },
                "writeKey": { "type": "string" },
                "sentAt": { "type": "string", "format": "date-time" },
                "context": { "type": "object", "description": "Accepted and ignored" },
            },
        },
    })
}

pub(super) fn native() -> Value {
    json!({
        "Event": {
            "type": "object",
            "required": ["type"],
            "anyOf": [{ "required": ["customer_id"] }, { "required": ["anonymous_id"] }],
            "additionalProperties": false,
            "properties": {
                "message_id": { "type": ["string", "integer"], "maxLength": 200, "description": "Idempotency key of the event among those of its customer; generated if absent. An event with other content needs another key, and an event that is sent again needs the same timestamp" },
                "customer_id": { "type": ["string", "integer"], "maxLength": 200 },
                "anonymous_id": { "type": ["string", "integer"], "maxLength": 200, "description": "The customer, if there is no `customer_id`; with it, another id of the same customer" },
                "previous_id": { "type": ["string", "integer"], "maxLength": 200, "description": "Required for `alias`: the id of a customer that is merged into the one of `customer_id`" },
                "type": { "enum": ["identify", "track", "page", "screen", "alias"] },
                "name": { "type": "string", "description": "Required for `track`" },
                "timestamp": { "type": "string", "format": "date-time", "description": "Time of the event; default now" },
                "sent_at": { "type": "string", "format": "date-time", "description": "Time of the sender's clock when it sent the request, to correct `timestamp`" },
                "properties": { "type": "object" },
                "traits": { "type": "object", "description": "For `identify`; null or a blank text removes a trait" },
                "context": { "type": "object", "description": "Accepted and ignored" },
            },
        },
        "Events": { "oneOf": [
            { "$ref": "#/components/schemas/Event" },
            { "type": "array", "items": { "$ref": "#/components/schemas/Event" } },
        ] },
        "BulkEvents": { "type": "string", "description": "One event per line" },
        "ReplayRequest": {
            "type": "object",
            "additionalProperties": false,
            "description": "Replays the events that match all given fields",
            "properties": {
                "ids": { "type": "array", "items": { "type": "string" } },
                "endpoint": { "type": "string" },
                "key": { "type": "string" },
                "reason": { "type": "string" },
                "after": { "type": "string", "description": "`next_after` of the previous response" },
                "limit": { "type": "integer", "minimum": 1, "maximum": 1000, "default": 1000 },
            },
        },
        "Features": {
            "type": "object",
            "description": "Features by name, as listed by /v1/features; absent or null is missing",
            "additionalProperties": { "type": ["number", "string", "null"] },
        },
        "ScoreRequest": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "features": { "$ref": "#/components/schemas/Features" },
                "rows": { "type": "array", "items": { "$ref": "#/components/schemas/Features" } },
                "explain": { "type": "boolean", "default": false },
                "customer_id": {
                    "type": ["string", "integer"],
                    "description": "The customer of `features`, which selects between the active and the canary model; not with `rows`",
                },
            },
            "oneOf": [{ "required": ["features"] }, { "required": ["rows"] }],
        },
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": { "type": "string" },
                "title": { "type": "string" },
                "status": { "type": "integer" },
                "detail": { "type": "string" },
                "errors": { "type": "array", "items": {
                    "type": "object",
                    "properties": { "field": { "type": "string" }, "problem": { "type": "string" } },
                } },
                "gates": { "type": "array", "items": {
                    "type": "object",
                    "properties": {
                        "gate": { "type": "string" },
                        "asked": { "type": "number" },
                        "found": { "type": ["number", "null"] },
                        "passed": { "type": "boolean" },
                        "why": { "type": "string" },
                    },
                } },
            },
        },
    })
}
