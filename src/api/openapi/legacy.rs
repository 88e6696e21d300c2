//! Operations that are described by hand, until each noun's handlers describe themselves.

use serde_json::{Value, json};

use super::{customers, drift, events, models, policy, schemas};
use crate::api::inference;

/// Path, method, scope (empty: no key required), summary, schema of the request body,
/// description of the response.
pub(in crate::api) type Operation =
    (&'static str, &'static str, &'static str, &'static str, Option<&'static str>, &'static str);

/// A query parameter: path, name, type, description.
pub(in crate::api) type QueryParameter = (&'static str, &'static str, &'static str, &'static str);

/// Schemas of optional request bodies.
const OPTIONAL: [&str; 6] = [
    "ReasonRequest",
    "TransitionRequest",
    "TrainingRunRequest",
    "ReplayRequest",
    "IndexRequest",
    "LoadRequest",
];

/// Every operation, endpoint by endpoint.
fn operations() -> impl Iterator<Item = &'static Operation> {
    events::OPERATIONS
        .iter()
        .chain(customers::OPERATIONS)
        .chain(drift::OPERATIONS)
        .chain(models::OPERATIONS)
        .chain(policy::OPERATIONS)
        .chain(inference::OPERATIONS)
}

/// The query parameters of this path.
fn query_parameters(path: &str) -> impl Iterator<Item = &'static QueryParameter> {
    events::QUERY_PARAMETERS
        .iter()
        .chain(policy::QUERY_PARAMETERS)
        .filter(move |(of, ..)| *of == path)
}

/// The operations that are still described by hand.
pub(super) fn document() -> Value {
    let mut paths = serde_json::Map::new();
    for &(path, method, scope, summary, request, answer) in operations() {
        let failure = if path.starts_with("/v2") { "InferenceError" } else { "Problem" };
        let failure = json!({ "$ref": format!("#/components/responses/{failure}") });
        let security = if scope.is_empty() {
            json!([])
        } else {
            json!([{ "key": [scope] }, { "basic": [scope] }])
        };
        let mut operation = json!({
            "summary": summary,
            "operationId": format!("{method}{}", path.replace("/v1", "").replace(['/', '-', '{', '}'], "_")),
            "security": security,
            "responses": {
                "200": { "description": answer, "content": media(path) },
                "4XX": failure,
                "5XX": failure,
            },
        });
        let query = query_parameters(path).map(|(_, name, kind, text)| {
            json!({ "name": name, "in": "query", "schema": { "type": kind }, "description": text })
        });
        let parameters: Vec<Value> = path_parameters(path)
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .chain(query)
            .collect();
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some(schema) = request {
            let media =
                if schema == "BulkEvents" { "application/x-ndjson" } else { "application/json" };
            operation["requestBody"] = json!({
                "required": !OPTIONAL.contains(&schema),
                "content": { media: { "schema": { "$ref": format!("#/components/schemas/{schema}") } } },
            });
        }
        let at = paths.entry(path).or_insert_with(|| json!({}));
        at[method] = operation;
    }
    let parts = [
        schemas::native(),
        schemas::transition(),
        schemas::training(),
        schemas::choices(),
        schemas::segment(),
        events::schemas(),
        policy::schemas(),
        inference::schemas(),
    ];
    let schemas: serde_json::Map<String, Value> =
        parts.into_iter().filter_map(|part| part.as_object().cloned()).flatten().collect();
    json!({
        "paths": paths,
        "components": {
            "responses": {
                "Problem": {
                    "description": "A problem (RFC 9457)",
                    "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
                },
                "InferenceError": {
                    "description": "An error of the Open Inference Protocol",
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/InferenceError" } } },
                },
            },
            "schemas": schemas,
        },
    })
}

/// Names of the path parameters.
fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// Media types of the response.
fn media(path: &str) -> Value {
    match events::response_schema(path) {
        Some(response) => {
            let schema = format!("#/components/schemas/{}", response.schema);
            json!({ response.media_type: { "schema": { "$ref": schema } } })
        }
        None => json!({ "application/json": {} }),
    }
}
