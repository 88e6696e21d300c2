//! OpenAPI description of the automation policy.

use serde_json::{Value, json};

use super::Operation;
use super::operations::QueryParameter;

pub(super) const OPERATIONS: &[Operation] = &[
    (
        "/v1/policy",
        "get",
        "read",
        "What the service does by itself when customers drift or a new model answers badly",
        None,
        "The policy in force, who changed it last, what it keeps back now, and what it did. Nothing is done by \
         evidence of a single API key: a model is taken back only if its answers are bad with any one key left \
         out, or a sample of stored customers is bad too; no action is taken on drift that depends on one key",
    ),
    (
        "/v1/policy",
        "patch",
        "admin",
        "Change a part of the policy, on every replica within deployment.poll_seconds: thresholds of drift, \
         actions, probation of new models, refresh",
        Some("PolicyChange"),
        "The policy in force",
    ),
    (
        "/v1/policy/history",
        "get",
        "read",
        "Every change of the policy, newest first: who, when and why",
        None,
        "The versions, each whole",
    ),
];

pub(super) const QUERY_PARAMETERS: &[QueryParameter] =
    &[("/v1/policy/history", "limit", "integer", "From 1 to 500; 50 when left out")];

pub(super) fn schemas() -> Value {
    let actions = json!({
        "type": "array",
        "items": { "enum": ["retrain", "freeze", "fallback"] },
        "description": "Beside telling of it: train once; let no model go live by itself while it lasts; answer by rules",
    });
    let policy = json!({
        "type": "object",
        "additionalProperties": false,
        "description": "What is left out stays as it is",
        "properties": {
            "drift": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "minimum_rows": { "type": "integer", "minimum": 1 },
                    "significance_level": number(1e-9, 0.5, "Significance level of the tests, after correction for their number"),
                    "psi": thresholds("Of the population stability index beyond what chance explains"),
                    "share": thresholds("Of a share of the rows"),
                    "outliers": thresholds("In times the promised share"),
                    "movement": thresholds("Of a feature within a segment, in standard deviations within it"),
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
                    "rollback": { "type": "boolean", "description": "Take a model back that fails; else only tell" },
                    "watch_seconds": { "type": "integer", "minimum": 0, "description": "0: not at all" },
                    "minimum_rows": { "type": "integer", "minimum": 1 },
                    "outliers": number(1.0, 1e6, "At most, in times those promised and those of the model before"),
                    "unassigned": number(0.0, 1.0, "Share at most, above that at training and of the model before"),
                    "disagreement": number(0.0, 1.0, "Share at most whom the model before would place elsewhere; below 1 it watches from the shadow"),
                },
            },
            "refresh": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "confidence": number(0.0, 1.0, "Train anew when the mean confidence is below; 0: never"),
                    "cool_down_seconds": { "type": "integer", "minimum": 0 },
                },
            },
        },
    });
    json!({
        "PolicyChange": {
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
