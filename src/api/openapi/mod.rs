//! API documentation: the OpenAPI 3.1 document, and an HTML page generated from it.

mod alerting;
mod customers;
mod drift;
mod events;
mod keys;
mod models;
mod policy;
mod schemas;

use std::fmt::Write;
use std::sync::LazyLock;

use axum::response::Response;
use serde_json::{Value, json};

use crate::api::{html_page, inference};
use crate::domain::access::AccessScope;

/// Path, method, scope (empty: no key required), summary, schema of the request body,
/// description of the response.
pub(super) type Operation =
    (&'static str, &'static str, &'static str, &'static str, Option<&'static str>, &'static str);

/// A query parameter: path, name, type, description.
type QueryParameter = (&'static str, &'static str, &'static str, &'static str);

/// Schemas of optional request bodies.
const OPTIONAL: [&str; 8] = [
    "ReasonRequest",
    "TransitionRequest",
    "TrainingRunRequest",
    "ReplayRequest",
    "AcknowledgeRequest",
    "IndexRequest",
    "LoadRequest",
    "RotateKeyRequest",
];

/// Every operation, endpoint by endpoint.
fn operations() -> impl Iterator<Item = &'static Operation> {
    events::OPERATIONS
        .iter()
        .chain(customers::OPERATIONS)
        .chain(drift::OPERATIONS)
        .chain(models::OPERATIONS)
        .chain(alerting::OPERATIONS)
        .chain(policy::OPERATIONS)
        .chain(keys::OPERATIONS)
        .chain(inference::OPERATIONS)
}

/// The query parameters of this path.
fn query_parameters(path: &str) -> impl Iterator<Item = &'static QueryParameter> {
    events::QUERY_PARAMETERS
        .iter()
        .chain(customers::QUERY_PARAMETERS)
        .chain(drift::QUERY_PARAMETERS)
        .chain(alerting::QUERY_PARAMETERS)
        .chain(policy::QUERY_PARAMETERS)
        .chain(keys::QUERY_PARAMETERS)
        .filter(move |(of, ..)| *of == path)
}

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

pub(super) async fn get_document() -> Response {
    html_page::public_json(DOCUMENT.to_string())
}

pub(super) async fn get_page() -> Response {
    html_page::html(page())
}

/// The OpenAPI 3.1 document.
pub fn document() -> Value {
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
        alerting::schemas(),
        policy::schemas(),
        keys::schemas(),
        inference::schemas(),
    ];
    let schemas: serde_json::Map<String, Value> =
        parts.into_iter().filter_map(|part| part.as_object().cloned()).flatten().collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "segmentd",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Online customer segmentation",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http", "scheme": "bearer",
                    "description": key_description(),
                },
                "basic": {
                    "type": "http", "scheme": "basic",
                    "description": "The same key as user, with an empty password.",
                },
            },
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

/// Description of API keys: how to create one, and what each scope allows.
fn key_description() -> String {
    let mut text = "An API key; `segmentd keys create` or `POST /v1/keys` makes one. Each operation names the scope \
                    that it needs. A key with the scope `track` alone is public; every other key \
                    is a secret.\n"
        .to_owned();
    for scope in AccessScope::ALL {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n- `{scope}`: {}.", scope.description());
    }
    text
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
        _ => match events::response_schema(path) {
            Some(response) => {
                let schema = format!("#/components/schemas/{}", response.schema);
                json!({ response.media_type: { "schema": { "$ref": schema } } })
            }
            None => json!({ "application/json": {} }),
        },
    }
}

/// HTML page with a table of all operations; works without scripts.
fn page() -> String {
    let mut rows = String::new();
    for (path, method, scope, summary, _, answer) in operations() {
        let method = method.to_uppercase();
        let scope = if scope.is_empty() { "open" } else { scope };
        // Writing to a String cannot fail.
        let _ = write!(
            rows,
            "<tr><td>{method}</td><td><code>{path}</code></td><td>{scope}</td><td>{summary}.<br><small>Answers: {answer}."
        );
        for (_, name, _, text) in query_parameters(path) {
            let _ = write!(rows, "<br><code>?{name}=</code> {text}.");
        }
        rows.push_str("</small></td></tr>");
    }
    let mut scopes = String::new();
    for scope in AccessScope::ALL {
        let _ = write!(scopes, "<dt><code>{scope}</code></dt><dd>{}.</dd>", scope.description());
    }
    let mut problems = String::new();
    for (kind, status, text) in PROBLEMS {
        let _ = write!(
            problems,
            "<dt id=\"problem-{kind}\"><code>{kind}</code> ({status})</dt><dd>{text}.</dd>"
        );
    }
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>segmentd API</title>\
         <style>body{{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
         td{{padding:.4rem .8rem .4rem 0;vertical-align:top;border-top:1px solid #ddd}}dt{{margin-top:.6rem}}</style>\
         <h1>segmentd API</h1><p>Send a key: <code>Authorization: Bearer &lt;key&gt;</code>, or Basic with it as user. \
         OpenAPI document: <a href=/openapi.json>/openapi.json</a>.</p>\
         <table><tr><th align=left>Method<th align=left>Path<th align=left>Scope<th align=left>Description</tr>{rows}</table>\
         <h2>Scopes</h2><dl>{scopes}</dl><h2>Problems</h2><dl>{problems}</dl></html>"
    )
}

const PROBLEMS: [(&str, u16, &str); 20] = [
    ("malformed-json", 400, "The body is not JSON"),
    ("broken-body", 400, "The body ended early"),
    ("malformed-path", 400, "The path is not percent-encoded UTF-8"),
    ("malformed-query", 400, "The query is not percent-encoded UTF-8"),
    ("no-host", 400, "The request has no `Host`"),
    ("unauthenticated", 401, "No valid API key: unknown, revoked or expired"),
    (
        "forbidden",
        403,
        "The API key does not have the required scope, or the `Origin` is not one of its allowed origins",
    ),
    ("not-found", 404, "No such customer, model, run or route"),
    ("wrong-method", 405, "The route does not support this method"),
    (
        "body-timeout",
        408,
        "The body did not arrive in time: http.body_timeout_seconds, http.min_body_bytes_per_second",
    ),
    (
        "conflict",
        409,
        "The request conflicts with the current state, such as a rollback without a previous model, a failed self-test, or the revocation of the last key with the scope `admin`",
    ),
    (
        "refused",
        409,
        "Gates refuse the step; `gates` has the threshold, the measured value and the reason of each",
    ),
    (
        "too-large",
        413,
        "The body is larger than http.max_body_bytes (256 KiB for one document), or than http.max_unidentified_body_bytes if its key is inside it, or it holds more than limits.events_per_request events",
    ),
    (
        "unknown-encoding",
        415,
        "The Content-Encoding of the body is not one of those in the header Accept-Encoding of the response",
    ),
    ("wrong-host", 421, "The `Host` is not one of http.allowed_hosts"),
    (
        "invalid",
        422,
        "The request is well-formed but invalid; `errors` names each field and what would be valid",
    ),
    ("gone", 410, "What the request refers to was lost when the database was restored"),
    (
        "busy",
        429,
        "The API key exceeds its share or a rate limit; the detail names the setting. Retry after Retry-After \
         seconds. The fields RateLimit and RateLimit-Policy show the rate limits and the remaining quota",
    ),
    ("internal", 500, "An internal error; the log has it under the request id"),
    (
        "unavailable",
        503,
        "The request took too long, too many are in progress, no memory is left for requests, Postgres is away, \
         or (for events) the server's clock is wrong; `detail` names the cause. \
         Retry after Retry-After seconds. After a time limit the outcome is unknown: send events again with the \
         same message ids, and read other resources before changing them again",
    ),
];
