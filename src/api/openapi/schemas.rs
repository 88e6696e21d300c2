//! OpenAPI schemas of request and response bodies: native and Segment formats.

use serde_json::{Value, json};

use crate::domain::event::EventKind;
use crate::domain::train::ClusteringAlgorithm;

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
        "ReasonRequest": {
            "type": "object",
            "additionalProperties": false,
            "properties": { "reason": { "type": "string", "maxLength": 2000 } },
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

/// Request of a life-cycle transition of a model.
pub(super) fn transition() -> Value {
    json!({
        "TransitionRequest": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "reason": { "type": "string", "maxLength": 2000 },
                "force": {
                    "type": "boolean",
                    "default": false,
                    "description": "Override the gates; requires the scope admin and a reason",
                },
                "share": {
                    "type": "number",
                    "minimum": 0,
                    "maximum": 1,
                    "description": "Share of customers for a canary; default lifecycle.canary_share",
                },
            },
        },
    })
}

/// Request for a training run.
pub(super) fn training() -> Value {
    json!({
        "TrainingRunRequest": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "segments": { "oneOf": [
                    { "type": "integer", "minimum": 1, "maximum": 256 },
                    {
                        "type": "object",
                        "description": "Every number in this range is a candidate",
                        "additionalProperties": false,
                        "required": ["from", "to"],
                        "properties": {
                            "from": { "type": "integer", "minimum": 1, "maximum": 256 },
                            "to": { "type": "integer", "minimum": 1, "maximum": 256 },
                        },
                    },
                ] },
                "algorithms": {
                    "type": "array",
                    "items": { "$ref": "#/components/schemas/Algorithm" },
                    "description": "Competing algorithms. dbscan and hdbscan find the number of segments themselves and run once",
                },
                "distance": { "enum": ["euclidean", "cosine", "mahalanobis"], "default": "euclidean", "description": "Distance between customers; kmedians always uses the Manhattan distance" },
                "components": { "type": "number", "exclusiveMinimum": 0, "maximum": 1, "description": "Project to the principal components that explain this share of the variance" },
                "starts": { "type": "integer", "minimum": 1 },
                "seed": { "type": "integer", "minimum": 0 },
                "include": { "type": "array", "items": { "$ref": "#/components/schemas/FeatureChoice" } },
                "exclude": { "type": "array", "items": { "$ref": "#/components/schemas/FeatureChoice" } },
                "filters": { "type": "array", "items": { "$ref": "#/components/schemas/RowFilter" } },
                "sample": { "type": "integer", "description": "Maximum number of sampled customers, up to training.max_rows" },
                "what_if": { "type": "boolean", "default": false, "description": "Only register the model as a candidate; it is never promoted automatically" },
                "reason": { "type": "string", "maxLength": 2000, "description": "Purpose of the run; stored and listed" },
                "max_iterations": { "type": "integer", "minimum": 1, "maximum": 10000 },
                "tolerance": { "type": "number", "minimum": 0, "maximum": 1 },
                "holdout_share": { "type": "number", "minimum": 0.05, "maximum": 0.5 },
                "validation_share": { "type": "number", "minimum": 0, "maximum": 0.5 },
                "minimum_rows": { "type": "integer", "minimum": 20 },
                "slices": {
                    "type": "array",
                    "items": { "type": "string" },
                    "description": "Features by whose values the stability is compared, such as country or channel",
                },
                "baseline": {
                    "type": "object",
                    "description": "Features of the RFM baseline; default those of the fallback",
                    "additionalProperties": false,
                    "required": ["recency", "frequency", "monetary"],
                    "properties": {
                        "recency": { "type": "string" },
                        "frequency": { "type": "string" },
                        "monetary": { "type": "string" },
                    },
                },
                "stability": {
                    "type": "object",
                    "additionalProperties": false,
                    "properties": {
                        "bootstraps": { "type": "integer", "minimum": 0, "maximum": 1000 },
                        "seeds": { "type": "integer", "minimum": 0, "maximum": 100 },
                        "noise": { "type": "number", "minimum": 0, "maximum": 1 },
                        "rows": { "type": "integer", "minimum": 100 },
                    },
                },
                "gates": {
                    "type": "object",
                    "description": "Requirements of a candidate; null disables one",
                    "additionalProperties": false,
                    "properties": {
                        "smallest_share": { "type": ["number", "null"] },
                        "mean_jaccard": { "type": ["number", "null"] },
                        "silhouette": { "type": ["number", "null"] },
                        "noise_share": { "type": ["number", "null"] },
                    },
                },
                "weights": {
                    "type": "object",
                    "description": "Weights of the criteria that rank candidates with equally good silhouettes",
                    "additionalProperties": false,
                    "properties": {
                        "stability": { "type": "number", "minimum": 0 },
                        "davies_bouldin": { "type": "number", "minimum": 0 },
                        "calinski_harabasz": { "type": "number", "minimum": 0 },
                    },
                },
            },
        },
    })
}

/// OpenAPI schemas of the parts of a training request: feature choices, algorithms and row
/// filters.
pub(super) fn choices() -> Value {
    json!({
        "FeatureChoice": {
            "type": "object",
            "additionalProperties": false,
            "required": ["feature", "reason"],
            "properties": { "feature": { "type": "string" }, "reason": { "type": "string" } },
        },
        "Algorithm": {
            "description": "An algorithm by name, or an object with its name and settings; absent settings have their defaults",
            "oneOf": [
                { "$ref": "#/components/schemas/AlgorithmName" },
                {
                    "type": "object",
                    "required": ["name"],
                    "properties": { "name": { "$ref": "#/components/schemas/AlgorithmName" } },
                    "additionalProperties": { "description": "kmeans: starts, max_iterations, tolerance. mini_batch_kmeans: starts, batch_size, max_iterations, max_no_improvement, reassignment_ratio. bisecting_kmeans: starts. kmedians: starts, max_iterations. gaussian_mixture: covariance (diagonal or full), floor, tolerance, max_iterations. ward: max_rows, cells. consensus: runs, max_rows. dbscan: eps, min_samples, max_rows. hdbscan: min_cluster_size, min_samples, max_rows" },
                },
            ],
        },
        "AlgorithmName": {
            "enum": ClusteringAlgorithm::all().each_ref().map(ClusteringAlgorithm::name),
        },
        "RowFilter": {
            "type": "object",
            "additionalProperties": false,
            "required": ["feature", "reason"],
            "properties": {
                "feature": { "type": "string" },
                "at_least": { "type": "number" },
                "at_most": { "type": "number" },
                "one_of": { "type": "array", "items": { "type": "string" } },
                "reason": { "type": "string" },
            },
        },
    })
}
