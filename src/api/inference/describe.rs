//! OpenAPI description of the Open Inference Protocol endpoints.

use serde_json::{Value, json};

use crate::api::openapi::Operation;

/// Operations with a version in the path address that one model.
pub(in crate::api) const OPERATIONS: &[Operation] = &[
    (
        "/v2",
        "get",
        "",
        "Open Inference Protocol: what this server is",
        None,
        "Name, version, extensions",
    ),
    ("/v2/health/live", "get", "", "Whether it runs", None, "`live` and `ready`"),
    (
        "/v2/health/ready",
        "get",
        "",
        "Whether it is to be sent requests",
        None,
        "`live` and `ready`; 503 when not ready",
    ),
    (
        "/v2/models/{name}",
        "get",
        "score",
        "Inputs and outputs of the model, which is called `segments`",
        None,
        "An input for each feature; the outputs that there are now",
    ),
    (
        "/v2/models/{name}/versions/{version}",
        "get",
        "score",
        "The same, of a version that is live",
        None,
        "As without version; 404 when it is not live",
    ),
    (
        "/v2/models/{name}/ready",
        "get",
        "",
        "Whether the model answers",
        None,
        "`name` and `ready`; 503 when not ready",
    ),
    (
        "/v2/models/{name}/versions/{version}/ready",
        "get",
        "",
        "Whether this version answers",
        None,
        "`name` and `ready`; 503 when not ready",
    ),
    (
        "/v2/models/{name}/infer",
        "post",
        "score",
        "Score rows given as tensors, JSON or binary; no database on the path",
        Some("InferRequest"),
        "Tensors `segment`, `key`, `label`, `distance`, `runner_up`, `confidence`, `p_value` and `outlier`; \
         while the fallback answers, those that need no distance. In no segment: `segment` -1, `key` `unassigned`",
    ),
    (
        "/v2/models/{name}/versions/{version}/infer",
        "post",
        "score",
        "Score by a version that is live",
        Some("InferRequest"),
        "As without version; 404 when it is not live",
    ),
    (
        "/v2/repository/index",
        "post",
        "read",
        "Every version, and which one answers",
        Some("IndexRequest"),
        "Name, version, state and reason of each",
    ),
    (
        "/v2/repository/models/{name}/load",
        "post",
        "train",
        "Make the version in `parameters` live, after its self-test",
        Some("LoadRequest"),
        "Nothing",
    ),
    (
        "/v2/repository/models/{name}/versions/{version}/load",
        "post",
        "train",
        "Make this version live, after its self-test",
        None,
        "Nothing",
    ),
    (
        "/v2/repository/models/{name}/unload",
        "post",
        "train",
        "Take the live version out: the previous one is put back",
        None,
        "Nothing; 409 when there is no previous one",
    ),
];

pub(in crate::api) fn schemas() -> Value {
    json!({
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": { "type": "string", "description": "Given back" },
                "parameters": { "type": "object", "properties": {
                    "binary_data_output": { "type": "boolean", "default": false, "description": "All outputs as binary data" },
                } },
                "inputs": { "type": "array", "minItems": 1, "items": { "$ref": "#/components/schemas/InferInput" } },
                "outputs": { "type": "array", "description": "Those wanted; all when left out", "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": { "type": "string" },
                        "parameters": { "type": "object", "properties": { "binary_data": { "type": "boolean" } } },
                    },
                } },
            },
        },
        "InferInput": {
            "type": "object",
            "description": "One feature of every row. A feature left out is missing",
            "required": ["name", "datatype", "shape"],
            "properties": {
                "name": { "type": "string", "description": "Of a feature, as the model's metadata lists them" },
                "datatype": { "enum": [
                    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
                    "FP32", "FP64", "BYTES",
                ] },
                "shape": { "type": "array", "items": { "type": "integer", "minimum": 0 }, "description": "[rows] or [rows, 1]" },
                "data": { "type": "array", "description": "An element a row; null is missing" },
                "parameters": { "type": "object", "properties": {
                    "binary_data_size": { "type": "integer", "description": "Instead of `data`: bytes after the JSON; NaN is missing" },
                } },
            },
        },
        "IndexRequest": {
            "type": "object",
            "properties": { "ready": { "type": "boolean", "default": false, "description": "Only what answers" } },
        },
        "LoadRequest": {
            "type": "object",
            "properties": { "parameters": { "type": "object", "properties": {
                "version": { "type": "string", "description": "A model's id; what is live stays when left out" },
            } } },
        },
        "Failure": {
            "type": "object",
            "required": ["error"],
            "properties": { "error": { "type": "string" } },
        },
    })
}
