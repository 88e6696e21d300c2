//! OpenAPI description of the Open Inference Protocol endpoints.

use serde_json::{Value, json};

use crate::api::openapi::Operation;

/// Operations with a version in the path address that one model.
pub(in crate::api) const OPERATIONS: &[Operation] = &[
    (
        "/v2",
        "get",
        "",
        "Get the server metadata (Open Inference Protocol)",
        None,
        "Name, version and extensions",
    ),
    ("/v2/health/live", "get", "", "Check whether the process is live", None, "`live` and `ready`"),
    (
        "/v2/health/ready",
        "get",
        "",
        "Check whether the server is ready",
        None,
        "`live` and `ready`; 503 if it is not ready",
    ),
    (
        "/v2/models/{name}",
        "get",
        "score",
        "Get the inputs and outputs of the model `segments`",
        None,
        "An input for each feature, and the present outputs",
    ),
    (
        "/v2/models/{name}/versions/{version}",
        "get",
        "score",
        "Get the inputs and outputs of a deployed version",
        None,
        "As without a version; 404 if the version is not deployed",
    ),
    (
        "/v2/models/{name}/ready",
        "get",
        "",
        "Check whether the model is ready",
        None,
        "`name` and `ready`; 503 if it is not ready",
    ),
    (
        "/v2/models/{name}/versions/{version}/ready",
        "get",
        "",
        "Check whether a version is ready",
        None,
        "`name` and `ready`; 503 if it is not ready",
    ),
    (
        "/v2/models/{name}/infer",
        "post",
        "score",
        "Score rows as tensors, without a database",
        Some("InferRequest"),
        "Tensors `segment`, `key`, `label`, `distance`, `runner_up`, `confidence`, `p_value` and `outlier`; \
         while the fallback answers, only those without a distance. In JSON or binary. For a row in no segment, `segment` is -1 and `key` is `unassigned`",
    ),
    (
        "/v2/models/{name}/versions/{version}/infer",
        "post",
        "score",
        "Score rows as tensors by a deployed version",
        Some("InferRequest"),
        "As without a version; 404 if the version is not deployed",
    ),
    (
        "/v2/repository/index",
        "post",
        "read",
        "List the model versions",
        Some("IndexRequest"),
        "Name, version, state and reason of each",
    ),
    (
        "/v2/repository/models/{name}/load",
        "post",
        "train",
        "Promote the version in `parameters`",
        Some("LoadRequest"),
        "An empty response. The version is self-tested first",
    ),
    (
        "/v2/repository/models/{name}/versions/{version}/load",
        "post",
        "train",
        "Promote a version",
        None,
        "An empty response. The version is self-tested first",
    ),
    (
        "/v2/repository/models/{name}/unload",
        "post",
        "train",
        "Roll back to the previous version",
        None,
        "An empty response; 409 without a previous version",
    ),
];

pub(in crate::api) fn schemas() -> Value {
    json!({
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": { "type": "string", "description": "Returned unchanged" },
                "parameters": { "type": "object", "properties": {
                    "binary_data_output": { "type": "boolean", "default": false, "description": "Return all outputs as binary data" },
                } },
                "inputs": { "type": "array", "minItems": 1, "items": { "$ref": "#/components/schemas/InferInput" } },
                "outputs": { "type": "array", "description": "Requested outputs; default all", "items": {
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
            "description": "One feature of every row. An absent feature is missing",
            "required": ["name", "datatype", "shape"],
            "properties": {
                "name": { "type": "string", "description": "Name of a feature, as listed by the model metadata" },
                "datatype": { "enum": [
                    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
                    "FP32", "FP64", "BYTES",
                ] },
                "shape": { "type": "array", "items": { "type": "integer", "minimum": 0 }, "description": "[rows] or [rows, 1]" },
                "data": { "type": "array", "description": "One element per row; null is missing" },
                "parameters": { "type": "object", "properties": {
                    "binary_data_size": { "type": "integer", "description": "Instead of `data`, number of bytes after the JSON; NaN is missing" },
                } },
            },
        },
        "IndexRequest": {
            "type": "object",
            "properties": { "ready": { "type": "boolean", "default": false, "description": "Only deployed versions" } },
        },
        "LoadRequest": {
            "type": "object",
            "properties": { "parameters": { "type": "object", "properties": {
                "version": { "type": "string", "description": "A model id; without it, nothing changes" },
            } } },
        },
        "InferenceError": {
            "type": "object",
            "required": ["error"],
            "properties": { "error": { "type": "string" } },
        },
    })
}
