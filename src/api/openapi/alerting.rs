//! OpenAPI description of alerts, silences, channels and deliveries.

use serde_json::{Value, json};

use super::Operation;
use super::operations::QueryParameter;
use crate::domain::alert::AlertTopic;
use crate::domain::drift::Severity;

pub(super) const OPERATIONS: &[Operation] = &[
    (
        "/v1/alerts",
        "get",
        "read",
        "What people are to hear of, newest first: drift, sources of events that are not as usual, training runs that failed, channels that take nothing, a disk that is running full",
        None,
        "The alerts: whose it is, what happened, what to do, the figures, since when, and who looks after it",
    ),
    (
        "/v1/alerts/{id}",
        "get",
        "read",
        "One alert, and what was sent about it to whom",
        None,
        "The alert; `deliveries` with each attempt",
    ),
    (
        "/v1/alerts/{id}/picture.svg",
        "get",
        "read",
        "The feature as it was at training and as it was when the alert was seen last",
        None,
        "SVG, without scripts; 404 where there is nothing to draw",
    ),
    (
        "/v1/alerts/{id}/acknowledge",
        "post",
        "train",
        "Say that somebody looks after it: channels with `escalation_delay_seconds` are not told any more",
        Some("Note"),
        "The alert; 409 once it is over",
    ),
    ("/v1/silences", "get", "read", "The silences in force, newest first", None, "The silences"),
    (
        "/v1/silences",
        "post",
        "train",
        "Do not tell of some alerts until then. They are listed, and told if they fire when it ends; that an \
         alert is over is told all the same to whoever was told of it",
        Some("Silence"),
        "The silence",
    ),
    ("/v1/silences/{id}", "delete", "train", "End a silence now", None, "Nothing"),
    (
        "/v1/channels",
        "get",
        "read",
        "Who is told, by name",
        None,
        "The channels, without their secrets",
    ),
    (
        "/v1/channels",
        "post",
        "admin",
        "Tell somebody from now on: also of what fires already",
        Some("Channel"),
        "The channel; a webhook without secrets gets one, which is shown as `secret` here and never again",
    ),
    (
        "/v1/channels/{id}",
        "get",
        "read",
        "One channel",
        None,
        "The channel; `decisions` says who changed it, when and why",
    ),
    (
        "/v1/channels/{id}",
        "put",
        "admin",
        "Put a channel in the place of another. Without a target it keeps the one it has; a webhook without \
         secrets keeps those that it has",
        Some("Channel"),
        "The channel",
    ),
    (
        "/v1/channels/{id}",
        "delete",
        "admin",
        "Tell somebody no more; what was to be sent is not, and what was sent is forgotten",
        None,
        "Nothing",
    ),
    (
        "/v1/channels/{id}/enable",
        "post",
        "admin",
        "Use a channel again that was disabled as its receiver answered 410. What fires is told; what was missed \
         may be replayed",
        None,
        "The channel",
    ),
    (
        "/v1/channels/{id}/test",
        "post",
        "admin",
        "Send a message of the topic `test`, in the ordinary way",
        None,
        "`delivery`: what to look for in the channel's deliveries",
    ),
    (
        "/v1/channels/{id}/deliveries",
        "get",
        "read",
        "What was sent to a channel, or waits to be, newest first",
        None,
        "The deliveries, each with its attempts: when, what was answered and how long it took. Pending, \
         delivered, failed (not taken in ten attempts over three days) or withdrawn (the channel was disabled)",
    ),
    (
        "/v1/channels/{id}/replay",
        "post",
        "admin",
        "Send again what was written within this time and failed or was withdrawn, up to 1000 messages, oldest first",
        Some("ReplayRange"),
        "How many: `replayed`",
    ),
    (
        "/v1/deliveries/{id}/replay",
        "post",
        "admin",
        "Send a message again, under the same id; one that waits is tried at once",
        None,
        "Nothing",
    ),
];

pub(super) const QUERY_PARAMETERS: &[QueryParameter] = &[
    ("/v1/alerts", "state", "string", "firing (when left out), resolved or all"),
    ("/v1/alerts", "owner", "string", "Only of this owner"),
    (
        "/v1/alerts",
        "topic",
        "string",
        "Only of this topic: drift, source, rollback, training, channel or operations",
    ),
    ("/v1/alerts", "before", "string", "The last page's `next_before`"),
    ("/v1/alerts", "limit", "integer", "From 1 to 500; 50 when left out"),
    ("/v1/channels/{id}/deliveries", "before", "string", "The last page's `next_before`"),
    ("/v1/channels/{id}/deliveries", "limit", "integer", "From 1 to 200; 50 when left out"),
];

pub(super) fn schemas() -> Value {
    json!({
        "Note": {
            "type": "object",
            "additionalProperties": false,
            "properties": { "note": { "type": "string", "maxLength": 2000 } },
        },
        "Silence": {
            "type": "object",
            "additionalProperties": false,
            "required": ["until", "reason"],
            "description": "All that is given has to be so of an alert; what is left out does not matter",
            "properties": {
                "topic": topic(),
                "owner": { "type": "string", "maxLength": 200 },
                "key_prefix": { "type": "string", "maxLength": 200, "description": "Such as `drift:values:spend_365d:`" },
                "until": { "type": "string", "format": "date-time", "description": "Within 366 days" },
                "reason": { "type": "string", "minLength": 1, "maxLength": 2000 },
            },
        },
        "Channel": {
            "type": "object",
            "additionalProperties": false,
            "required": ["name"],
            "properties": {
                "name": { "type": "string", "minLength": 1, "maxLength": 200, "description": "No two have the same" },
                "target": { "$ref": "#/components/schemas/Target" },
                "owners": { "type": "array", "maxItems": 1000, "items": { "type": "string", "maxLength": 200 }, "description": "Only alerts of these owners; left out: of everybody, and of nobody in particular" },
                "topics": { "type": "array", "items": topic(), "description": "Left out: all" },
                "min_severity": { "enum": Severity::ALL.map(Severity::name), "default": "notice" },
                "escalation_delay_seconds": { "type": "integer", "minimum": 0, "maximum": 2_592_000, "default": 0, "description": "Only of what still fires after so long, and that nobody has acknowledged" },
                "reason": { "type": "string", "maxLength": 2000, "description": "Kept with the change" },
            },
        },
        "Target": {
            "description": "Where to. Addresses inside the network need alerts.allow_private_addresses",
            "oneOf": [
                {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["kind", "url"],
                    "description": "Signed as Standard Webhooks say",
                    "properties": {
                        "kind": { "const": "webhook" },
                        "url": { "type": "string", "maxLength": 2048 },
                        "format": { "enum": ["standard", "cloudevents_binary", "cloudevents_structured"], "default": "standard" },
                        "secrets": { "type": "array", "items": { "type": "string" }, "description": "`whsec_…` or `whsk_…`; each signs" },
                    },
                },
                address("alertmanager", "The root of an Alertmanager; its API version 2 is used"),
                address("slack", "An incoming webhook of Slack, or of what takes the same"),
                {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["kind", "to"],
                    "properties": {
                        "kind": { "const": "email" },
                        "to": { "type": "array", "items": { "type": "string" } },
                    },
                },
            ],
        },
        "ReplayRange": {
            "type": "object",
            "additionalProperties": false,
            "required": ["since", "until"],
            "properties": {
                "since": { "type": "string", "format": "date-time" },
                "until": { "type": "string", "format": "date-time", "description": "And before then" },
                "delivered": { "type": "boolean", "default": false, "description": "Those too that were taken" },
            },
        },
    })
}

fn topic() -> Value {
    json!({ "enum": AlertTopic::ALL.map(AlertTopic::name) })
}

fn address(kind: &str, description: &str) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["kind", "url"],
        "description": description,
        "properties": { "kind": { "const": kind }, "url": { "type": "string", "maxLength": 2048 } },
    })
}
