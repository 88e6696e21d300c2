//! OpenAPI description of alerts, silences, channels and deliveries.

use serde_json::{Value, json};

use super::{Operation, QueryParameter};
use crate::domain::alert::AlertTopic;
use crate::domain::drift::Severity;

pub(super) const OPERATIONS: &[Operation] = &[
    (
        "/v1/alerts",
        "get",
        "read",
        "List alerts, newest first",
        None,
        "Alerts about drift, unusual event sources, failed training runs, rollbacks, failing \
         channels and low disk space, with owner, description, advice, figures, times and \
         acknowledgement",
    ),
    (
        "/v1/alerts/{id}",
        "get",
        "read",
        "Get an alert",
        None,
        "The alert; `deliveries` are its notifications with every attempt",
    ),
    (
        "/v1/alerts/{id}/picture.svg",
        "get",
        "read",
        "Draw the feature of an alert at training and last",
        None,
        "An SVG without scripts; 404 if the alert has no chart",
    ),
    (
        "/v1/alerts/{id}/acknowledge",
        "post",
        "train",
        "Acknowledge an alert",
        Some("AcknowledgeRequest"),
        "The alert. Escalation channels (`escalation_delay_seconds`) are not notified any more. \
         409 if the alert is resolved",
    ),
    (
        "/v1/silences",
        "get",
        "read",
        "List the silences in force, newest first",
        None,
        "The silences",
    ),
    (
        "/v1/silences",
        "post",
        "train",
        "Suppress notifications of matching alerts",
        Some("SilenceRequest"),
        "The silence. Matching alerts are still listed, and are announced if they fire when it \
         ends. Resolutions are sent to channels that received the alert",
    ),
    ("/v1/silences/{id}", "delete", "train", "End a silence", None, "An empty response"),
    (
        "/v1/channels",
        "get",
        "read",
        "List notification channels by name",
        None,
        "The channels without their secrets",
    ),
    (
        "/v1/channels",
        "post",
        "admin",
        "Create a notification channel",
        Some("ChannelRequest"),
        "The channel. Alerts that are already firing are sent to it too. A webhook without \
         secrets receives a generated one, which is returned as `secret` only here",
    ),
    (
        "/v1/channels/{id}",
        "get",
        "read",
        "Get a notification channel",
        None,
        "The channel; `decisions` are its changes with author, the name of the author's key, time and reason",
    ),
    (
        "/v1/channels/{id}",
        "put",
        "admin",
        "Replace a notification channel",
        Some("ChannelRequest"),
        "The channel. Without a target it retains the present one; a webhook without secrets \
         retains its secrets",
    ),
    (
        "/v1/channels/{id}",
        "delete",
        "admin",
        "Delete a notification channel",
        None,
        "An empty response. Its pending and past deliveries are deleted",
    ),
    (
        "/v1/channels/{id}/enable",
        "post",
        "admin",
        "Enable a channel that was disabled",
        None,
        "The channel. A channel is disabled when its receiver answers 410. Firing alerts are sent \
         to it; missed notifications can be replayed",
    ),
    (
        "/v1/channels/{id}/test",
        "post",
        "admin",
        "Send a test notification",
        None,
        "`delivery` is its id in the channel's deliveries. The topic is `test`",
    ),
    (
        "/v1/channels/{id}/deliveries",
        "get",
        "read",
        "List the deliveries of a channel, newest first",
        None,
        "The deliveries, each with the time, response and duration of its attempts. `pending`, \
         `delivered`, `failed` (not accepted in ten attempts over three days) or `withdrawn` (the \
         channel was disabled)",
    ),
    (
        "/v1/channels/{id}/replay",
        "post",
        "admin",
        "Send failed and withdrawn deliveries again",
        Some("ReplayRange"),
        "`replayed` is the number of deliveries, at most 1000, oldest first",
    ),
    (
        "/v1/deliveries/{id}/replay",
        "post",
        "admin",
        "Send a delivery again under the same id",
        None,
        "An empty response. A pending delivery is attempted at once",
    ),
];

pub(super) const QUERY_PARAMETERS: &[QueryParameter] = &[
    ("/v1/alerts", "state", "string", "firing (default), resolved or all"),
    ("/v1/alerts", "owner", "string", "Only alerts of this owner"),
    (
        "/v1/alerts",
        "topic",
        "string",
        "Only alerts of this topic (drift, source, rollback, training, channel or operations)",
    ),
    ("/v1/alerts", "before", "string", "`next_before` of the previous page"),
    ("/v1/alerts", "limit", "integer", "From 1 to 500; default 50"),
    ("/v1/channels/{id}/deliveries", "before", "string", "`next_before` of the previous page"),
    ("/v1/channels/{id}/deliveries", "limit", "integer", "From 1 to 200; default 50"),
];

pub(super) fn schemas() -> Value {
    json!({
        "AcknowledgeRequest": {
            "type": "object",
            "additionalProperties": false,
            "properties": { "note": { "type": "string", "maxLength": 2000 } },
        },
        "SilenceRequest": {
            "type": "object",
            "additionalProperties": false,
            "required": ["until", "reason"],
            "description": "Matches the alerts that have all given properties",
            "properties": {
                "topic": topic(),
                "owner": { "type": "string", "maxLength": 200 },
                "key_prefix": { "type": "string", "maxLength": 200, "description": "Start of the alert key, such as `drift:values:spend_365d:`" },
                "until": { "type": "string", "format": "date-time", "description": "Within 366 days" },
                "reason": { "type": "string", "minLength": 1, "maxLength": 2000 },
            },
        },
        "ChannelRequest": {
            "type": "object",
            "additionalProperties": false,
            "required": ["name"],
            "properties": {
                "name": { "type": "string", "minLength": 1, "maxLength": 200, "description": "Unique" },
                "target": { "$ref": "#/components/schemas/ChannelTarget" },
                "owners": { "type": "array", "maxItems": 1000, "items": { "type": "string", "maxLength": 200 }, "description": "Only alerts of these owners; default all alerts, also those without an owner" },
                "topics": { "type": "array", "items": topic(), "description": "Only alerts of these topics; default all" },
                "min_severity": { "enum": Severity::ALL.map(Severity::name), "default": "notice" },
                "escalation_delay_seconds": { "type": "integer", "minimum": 0, "maximum": 2_592_000, "default": 0, "description": "Notify only of alerts that still fire after this delay without an acknowledgement" },
                "reason": { "type": "string", "maxLength": 2000, "description": "Recorded with the change" },
            },
        },
        "ChannelTarget": {
            "description": "Receiver of the notifications. Private addresses require alerts.allow_private_addresses",
            "oneOf": [
                {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["kind", "url"],
                    "description": "A webhook, signed by Standard Webhooks",
                    "properties": {
                        "kind": { "const": "webhook" },
                        "url": { "type": "string", "maxLength": 2048 },
                        "format": { "enum": ["standard", "cloudevents_binary", "cloudevents_structured"], "default": "standard" },
                        "secrets": { "type": "array", "items": { "type": "string" }, "description": "`whsec_…` or `whsk_…`; every secret signs" },
                    },
                },
                address("alertmanager", "Root URL of an Alertmanager, API version 2"),
                address("slack", "An incoming webhook of Slack or of a compatible service"),
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
                "until": { "type": "string", "format": "date-time", "description": "Exclusive end" },
                "delivered": { "type": "boolean", "default": false, "description": "Include delivered notifications" },
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
