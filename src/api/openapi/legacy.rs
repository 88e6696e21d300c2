//! Operations that are described by hand, until each noun's handlers describe themselves.

use serde_json::{Value, json};

use super::{Operation, QueryParameter, alerting, customers, drift};

/// Schemas of optional request bodies.
const OPTIONAL: [&str; 1] = ["AcknowledgeRequest"];

/// Every operation, endpoint by endpoint.
fn operations() -> impl Iterator<Item = &'static Operation> {
    customers::OPERATIONS
        .iter()
        .chain(drift::OPERATIONS)
        .chain(alerting::OPERATIONS)
}

/// The query parameters of this path.
fn query_parameters(path: &str) -> impl Iterator<Item = &'static QueryParameter> {
    customers::QUERY_PARAMETERS
        .iter()
        .chain(drift::QUERY_PARAMETERS)
        .chain(alerting::QUERY_PARAMETERS)
        .filter(move |(of, ..)| *of == path)
}

/// The operations that are still described by hand.
pub(super) fn document() -> Value {
    let mut paths = serde_json::Map::new();
    for &(path, method, scope, summary, request, answer) in operations() {
        let failure = json!({ "$ref": "#/components/responses/Problem" });
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
            operation["requestBody"] = json!({
                "required": !OPTIONAL.contains(&schema),
                "content": { "application/json": { "schema": { "$ref": format!("#/components/schemas/{schema}") } } },
            });
        }
        let at = paths.entry(path).or_insert_with(|| json!({}));
        at[method] = operation;
    }
    let parts = [
        alerting::schemas(),
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
    match path {
        "/v1/changes" => json!({ "application/json": {}, "text/event-stream": {} }),
        "/v1/assignments" => json!({
            "application/x-ndjson": {}, "text/csv": {}, "application/vnd.apache.parquet": {},
        }),
        "/v1/drift/features/{name}/picture.svg" | "/v1/alerts/{id}/picture.svg" => {
            json!({ "image/svg+xml": {} })
        }
        _ => json!({ "application/json": {} }),
    }
}
