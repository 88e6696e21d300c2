//! OpenAPI schemas of request and response bodies: native and Segment formats.

use serde_json::{Value, json};

use crate::domain::event::EventKind;
use crate::domain::train::ClusteringAlgorithm;

pub(super) fn segment() -> Value {
    json!({
        "SegmentMessage": {
            "type": "object",
            "description": "What Segment's spec calls a call; fields beyond these are passed over",
            "properties": {
                "type": { "enum": EventKind::ALL.map(EventKind::as_str), "description": "In a batch" },
                "writeKey": { "type": "string", "description": "The API key, where no header has it; in a batch, beside `batch`" },
                "messageId": { "type": "string", "maxLength": 200, "description": "Counted once; made up when left out" },
                "userId": { "type": "string", "maxLength": 200 },
                "anonymousId": { "type": "string", "maxLength": 200, "description": "The customer, where there is no `userId`; beside it, for `identify`, another id of the same customer" },
                "previousId": { "type": "string", "maxLength": 200, "description": "For `alias`: another id of the same customer" },
                "groupId": { "type": "string", "description": "For `group`; the property `group_id` to features" },
                "event": { "type": "string", "description": "Required for `track`" },
                "name": { "type": "string", "description": "For `page` and `screen`" },
                "category": { "type": "string", "description": "For `page` and `screen`" },
                "properties": { "type": "object" },
                "traits": { "type": "object", "description": "For `identify` and `group`" },
                "timestamp": { "type": "string", "format": "date-time", "description": "When it happened; now when left out" },
                "originalTimestamp": { "type": "string", "format": "date-time", "description": "In the place of `timestamp`; beside it, `timestamp` has been corrected" },
                "sentAt": { "type": "string", "format": "date-time", "description": "The sender's clock, to correct `timestamp` by" },
                "context": { "type": "object", "description": "Taken and dropped" },
            },
        },
        "SegmentBatch": {
            "type": "object",
            "required": ["batch"],
            "properties": {
                "batch": { "type": "array", "items": { "$ref": "#/components/schemas/SegmentMessage" } },
                "writeKey": { "type": "string" },
                "sentAt": { "type": "string", "format": "date-time" },
                "context": { "type": "object", "description": "Taken and dropped" },
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
                "message_id": { "type": "string", "maxLength": 200, "description": "Counted once; made up when left out" },
                "customer_id": { "type": "string", "maxLength": 200 },
                "anonymous_id": { "type": "string", "maxLength": 200, "description": "The customer, where there is no `customer_id`; beside it, another id of the same customer" },
                "type": { "enum": ["identify", "track", "page", "screen"] },
                "name": { "type": "string", "description": "Required for `track`" },
                "timestamp": { "type": "string", "format": "date-time", "description": "When it happened; now when left out" },
                "sent_at": { "type": "string", "format": "date-time", "description": "The sender's clock, to correct `timestamp` by" },
                "properties": { "type": "object" },
                "traits": { "type": "object", "description": "For `identify`" },
                "context": { "type": "object", "description": "Taken and dropped" },
            },
        },
        "Events": { "oneOf": [
            { "$ref": "#/components/schemas/Event" },
            { "type": "array", "items": { "$ref": "#/components/schemas/Event" } },
        ] },
        "Bulk": { "type": "string", "description": "One event a line" },
        "Replay": {
            "type": "object",
            "additionalProperties": false,
            "description": "Which; what is left out does not matter",
            "properties": {
                "ids": { "type": "array", "items": { "type": "string" } },
                "endpoint": { "type": "string" },
                "key": { "type": "string" },
                "reason": { "type": "string" },
                "after": { "type": "string", "description": "The last answer's `next_after`" },
                "limit": { "type": "integer", "minimum": 1, "maximum": 1000, "default": 1000 },
            },
        },
        "Features": {
            "type": "object",
            "description": "Features by name, as /v1/features lists them; left out or null is missing",
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
                    "type": "string",
                    "description": "Whose `features` are, where a canary may answer; not with `rows`",
                },
            },
            "oneOf": [{ "required": ["features"] }, { "required": ["rows"] }],
        },
        "Why": {
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
pub(super) fn life() -> Value {
    json!({
        "Wish": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "reason": { "type": "string", "maxLength": 2000 },
                "force": {
                    "type": "boolean",
                    "default": false,
                    "description": "Whatever the gates say; takes the scope admin and a reason",
                },
                "share": {
                    "type": "number",
                    "minimum": 0,
                    "maximum": 1,
                    "description": "Of the customers, for a canary; lifecycle.canary_share when left out",
                },
            },
        },
    })
}

/// Request for a training run.
pub(super) fn training() -> Value {
    json!({
        "RunRequest": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "segments": { "oneOf": [
                    { "type": "integer", "minimum": 1, "maximum": 256 },
                    {
                        "type": "object",
                        "description": "Every number from the first to the second is a candidate",
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
                    "description": "Which compete. Those that find the number of segments themselves, dbscan and hdbscan, are tried once",
                },
                "distance": { "enum": ["euclidean", "cosine", "mahalanobis"], "default": "euclidean", "description": "What makes customers alike; kmedians always takes the Manhattan distance" },
                "components": { "type": "number", "exclusiveMinimum": 0, "maximum": 1, "description": "Compare along the principal components that keep this share of the variance" },
                "starts": { "type": "integer", "minimum": 1 },
                "seed": { "type": "integer", "minimum": 0 },
                "include": { "type": "array", "items": { "$ref": "#/components/schemas/FeatureChoice" } },
                "exclude": { "type": "array", "items": { "$ref": "#/components/schemas/FeatureChoice" } },
                "filters": { "type": "array", "items": { "$ref": "#/components/schemas/RowFilter" } },
                "sample": { "type": "integer", "description": "Customers drawn at most, by the seed; up to training.max_rows" },
                "what_if": { "type": "boolean", "default": false, "description": "Register the model as a candidate, and never make it live by itself, whatever the settings say" },
                "reason": { "type": "string", "maxLength": 2000, "description": "What the run is for; kept and listed" },
                "max_iterations": { "type": "integer", "minimum": 1, "maximum": 10000 },
                "tolerance": { "type": "number", "minimum": 0, "maximum": 1 },
                "holdout_share": { "type": "number", "minimum": 0.05, "maximum": 0.5 },
                "validation_share": { "type": "number", "minimum": 0, "maximum": 0.5 },
                "minimum_rows": { "type": "integer", "minimum": 20 },
                "slices": {
                    "type": "array",
                    "items": { "type": "string" },
                    "description": "Features whose values should be segmented alike: country, channel",
                },
                "baseline": {
                    "type": "object",
                    "description": "The features of the RFM baseline; the fallback's when left out",
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
                    "description": "What a candidate must reach; null asks for nothing",
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
                    "description": "Of the criteria that order equally good silhouettes",
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

/// Parts of a training request: feature choices, algorithms and row filters.
pub(super) fn choices() -> Value {
    json!({
        "FeatureChoice": {
            "type": "object",
            "additionalProperties": false,
            "required": ["feature", "reason"],
            "properties": { "feature": { "type": "string" }, "reason": { "type": "string" } },
        },
        "Algorithm": {
            "description": "An algorithm by name, or with settings beside the name; what is left out has its default",
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
