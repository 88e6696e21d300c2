//! OpenAPI description of the automation policy.

use serde_json::{Value, json};

use super::{Operation, QueryParameter};

pub(super) const OPERATIONS: &[Operation] = &[
    (
        "/v1/policy",
        "get",
        "read",
        "Get the automation policy",
        None,
        "The policy in force, its latest change, what it blocks now, and its actions. Evidence of \
         a single API key causes no action: a model is rolled back only if its scores are bad \
         with any one key left out, or in a sample of stored customers; drift that depends on one \
         key causes none",
    ),
    (
        "/v1/policy",
        "patch",
        "admin",
        "Change the automation policy",
        Some("PolicyChangeRequest"),
        "The policy in force. It applies on every replica within deployment.poll_seconds",
    ),
    (
        "/v1/policy/history",
        "get",
        "read",
        "List the versions of the policy, newest first",
        None,
        "The complete versions with author, the name of the author's key, time and reason",
    ),
];

pub(super) const QUERY_PARAMETERS: &[QueryParameter] =
    &[("/v1/policy/history", "limit", "integer", "From 1 to 500; default 50")];

pub(super) fn schemas() -> Value {
    let actions = json!({
        "type": "array",
        "items": { "enum": ["retrain", "freeze", "fallback"] },
        "description": "Actions in addition to the notification: `retrain` once; `freeze` automatic promotion while the alert fires; `fallback` to the rules",
    });
    let policy = json!({
        "type": "object",
        "additionalProperties": false,
        "description": "Fields left out are unchanged",
        "properties": {
            "drift": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "minimum_rows": { "type": "integer", "minimum": 1 },
                    "significance_level": number(1e-9, 0.5, "Significance level of the tests, after correction for their number"),
                    "psi": thresholds("Population stability index in excess of chance"),
                    "share": thresholds("Change of a share of the rows"),
                    "unseen": thresholds("Share of known values that training never had, beyond the expected share"),
                    "outliers": thresholds("Outlier rate as a multiple of the promised rate"),
                    "movement": thresholds("Shift of a feature within a segment, in standard deviations within the segment"),
                },
            },
            "actions": {
                "type": "object",
                "additionalProperties": false,
                "properties": { "notice": actions, "warning": actions, "critical": actions },
            },
            "probation": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "rollback": { "type": "boolean", "description": "Roll back a model that fails; false only alerts" },
                    "watch_seconds": { "type": "integer", "minimum": 0, "description": "Length of the probation; 0 disables it" },
                    "minimum_rows": { "type": "integer", "minimum": 1 },
                    "outliers": number(1.0, 1e6, "Maximum outlier rate, as a multiple of the promised rate and of that of the previous model"),
                    "unassigned": number(0.0, 1.0, "Maximum share of rows in no segment, in excess of that at training and of the previous model"),
                    "disagreement": number(0.0, 1.0, "Maximum share of customers that the previous model would assign differently; below 1, that model runs in shadow"),
                },
            },
            "refresh": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "confidence": number(0.0, 1.0, "Retrain below this mean confidence; 0 disables it"),
                    "cool_down_seconds": { "type": "integer", "minimum": 0 },
                },
            },
        },
    });
    json!({
        "PolicyChangeRequest": {
            "type": "object",
            "additionalProperties": false,
            "required": ["policy", "reason"],
            "properties": {
                "policy": policy,
                "reason": { "type": "string", "minLength": 1, "maxLength": 2000 },
            },
        },
    })
}

fn number(least: f64, most: f64, description: &str) -> Value {
    json!({ "type": "number", "minimum": least, "maximum": most, "description": description })
}

/// A threshold for each severity.
fn thresholds(description: &str) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "description": description,
        "properties": {
            "notice": { "type": "number" },
            "warning": { "type": "number" },
            "critical": { "type": "number" },
        },
    })
}
