//! OpenAPI schemas of request and response bodies.

use serde_json::{Value, json};

use crate::domain::train::ClusteringAlgorithm;

pub(super) fn native() -> Value {
    json!({
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
