//! The API described: OpenAPI 3.1 for programs, one plain page for people.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};

/// Path, method, scope, summary, request body's schema, answer's description.
type Operation =
    (&'static str, &'static str, &'static str, &'static str, Option<&'static str>, &'static str);

const OPERATIONS: [Operation; 16] = [
    (
        "/v1/events",
        "post",
        "ingest",
        "Send one event or an array",
        Some("Events"),
        "A verdict per event, with where its customer stands now; 207 when some were rejected, 422 when all were",
    ),
    (
        "/v1/events/bulk",
        "post",
        "ingest",
        "Send events as NDJSON, one a line, streamed",
        Some("Bulk"),
        "NDJSON: a verdict per line, after its commit. Read while you write",
    ),
    (
        "/v1/score",
        "post",
        "score",
        "Score feature rows; no database on the path",
        Some("ScoreRequest"),
        "Segment, distance, runner-up, margin, confidence, p-value and outlier flag, with the model that made them",
    ),
    (
        "/v1/customers/{id}",
        "get",
        "read",
        "Where a customer stands: segment, features, when, by which model",
        None,
        "The customer",
    ),
    (
        "/v1/customers/{id}/history",
        "get",
        "read",
        "Changes of segment or model, newest first",
        None,
        "The changes",
    ),
    (
        "/v1/changes",
        "get",
        "read",
        "Changes of segment or model of all customers, oldest first: a page, a long poll, or server-sent events",
        None,
        "The changes, and `next` to go on from. One customer's come in the order in which they were made; `gap` says that some were dropped by retention",
    ),
    (
        "/v1/assignments",
        "get",
        "read",
        "Where every customer stands, of one instant, as NDJSON, CSV or Parquet, streamed",
        None,
        "The table. Ids are written as they were sent: a spreadsheet must import them as text. A body that is broken off is not whole",
    ),
    (
        "/v1/segments",
        "get",
        "read",
        "The live segments, their sizes and what sets them apart",
        None,
        "The segments",
    ),
    ("/v1/features", "get", "read", "The declared features", None, "The feature set"),
    ("/v1/models", "get", "read", "Models, newest first", None, "The models"),
    ("/v1/models/{id}", "get", "read", "One model with its training report", None, "The model"),
    (
        "/v1/models/{id}/promote",
        "post",
        "train",
        "Make a model live, after its self-test",
        Some("Why"),
        "What is live now",
    ),
    (
        "/v1/models/rollback",
        "post",
        "train",
        "Put the previous model back",
        Some("Why"),
        "What is live now",
    ),
    ("/v1/training-runs", "get", "read", "Training runs, newest first", None, "The runs"),
    (
        "/v1/training-runs",
        "post",
        "train",
        "Ask for a training run",
        Some("RunRequest"),
        "The queued run",
    ),
    (
        "/v1/training-runs/{id}",
        "get",
        "read",
        "One run: stage and progress, then its model or error",
        None,
        "The run",
    ),
];

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

pub(super) async fn get_document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.to_string()).into_response()
}

pub(super) async fn get_page() -> Html<String> {
    Html(page())
}

/// The OpenAPI 3.1 document.
pub fn document() -> Value {
    let mut paths = serde_json::Map::new();
    for (path, method, scope, summary, request, answer) in OPERATIONS {
        let mut operation = json!({
            "summary": summary,
            "operationId": format!("{method}{}", path.replace("/v1", "").replace(['/', '-', '{', '}'], "_")),
            "security": [{ "key": [scope] }],
            "responses": {
                "200": { "description": answer, "content": media(path) },
                "4XX": { "$ref": "#/components/responses/Problem" },
                "5XX": { "$ref": "#/components/responses/Problem" },
            },
        });
        if path.contains("{id}") {
            operation["parameters"] = json!([{ "name": "id", "in": "path", "required": true, "schema": { "type": "string" } }]);
        }
        if let Some(parameters) = query(path) {
            operation["parameters"] = parameters;
        }
        if let Some(schema) = request {
            let media = if schema == "Bulk" { "application/x-ndjson" } else { "application/json" };
            operation["requestBody"] = json!({
                "required": schema != "Why" && schema != "RunRequest",
                "content": { media: { "schema": { "$ref": format!("#/components/schemas/{schema}") } } },
            });
        }
        let at = paths.entry(path).or_insert_with(|| json!({}));
        at[method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "segmentd",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Which segment a customer is in, the moment an event arrives",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "securitySchemes": { "key": {
                "type": "http", "scheme": "bearer",
                "description": "An API key; `segmentd keys create` makes one. The scope an operation needs stands beside it.",
            } },
            "responses": { "Problem": {
                "description": "What went wrong (RFC 9457)",
                "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
            } },
            "schemas": schemas(),
        },
    })
}

/// The media types of an answer.
fn media(path: &str) -> Value {
    match path {
        "/v1/changes" => json!({ "application/json": {}, "text/event-stream": {} }),
        "/v1/assignments" => json!({
            "application/x-ndjson": {}, "text/csv": {}, "application/vnd.apache.parquet": {},
        }),
        _ => json!({ "application/json": {} }),
    }
}

/// What may follow the `?`.
fn query(path: &str) -> Option<Value> {
    let parameter = |name: &str, schema: Value, description: &str| json!({ "name": name, "in": "query", "schema": schema, "description": description });
    let text = || json!({ "type": "string" });
    Some(match path {
        "/v1/changes" => json!([
            parameter("after", text(), "A cursor: `next` of an answer or `cursor` of a change. `now`: what comes from now on. Left out: from the oldest kept"),
            parameter("segment", text(), "Only changes into or out of this segment"),
            parameter("limit", json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 500 }), "Changes per page"),
            parameter("wait_seconds", json!({ "type": "integer", "minimum": 0, "maximum": 60, "default": 0 }), "How long to wait for a change where there is none yet"),
            { "name": "Last-Event-ID", "in": "header", "schema": text(), "description": "For `Accept: text/event-stream`: go on behind this event" },
        ]),
        "/v1/assignments" => json!([
            parameter(
                "format",
                json!({ "enum": ["ndjson", "csv", "parquet"], "default": "ndjson" }),
                "Or by `Accept`"
            ),
            parameter("segment", text(), "Only customers in this segment"),
        ]),
        _ => return None,
    })
}

fn schemas() -> Value {
    json!({
        "Event": {
            "type": "object",
            "required": ["type", "customer_id"],
            "additionalProperties": false,
            "properties": {
                "message_id": { "type": "string", "maxLength": 200, "description": "Counted once; made up when left out" },
                "customer_id": { "type": "string", "maxLength": 200 },
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
            },
            "oneOf": [{ "required": ["features"] }, { "required": ["rows"] }],
        },
        "Why": {
            "type": "object",
            "additionalProperties": false,
            "properties": { "reason": { "type": "string" } },
        },
        "RunRequest": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "segments": { "type": "integer", "minimum": 1 },
                "starts": { "type": "integer", "minimum": 1 },
                "seed": { "type": "integer", "minimum": 0 },
            },
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
            },
        },
    })
}

/// Every operation in a table; works without scripts.
fn page() -> String {
    let mut rows = String::new();
    for (path, method, scope, summary, _, answer) in OPERATIONS {
        let method = method.to_uppercase();
        // Writing to a String cannot fail.
        let _ = write!(
            rows,
            "<tr><td>{method}</td><td><code>{path}</code></td><td>{scope}</td><td>{summary}.<br><small>Answers: {answer}.</small></td></tr>"
        );
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
         <h1>segmentd API</h1><p>Send a key: <code>Authorization: Bearer &lt;key&gt;</code>. \
         The whole description: <a href=/openapi.json>/openapi.json</a>.</p>\
         <table><tr><th align=left>Method<th align=left>Path<th align=left>Scope<th align=left>What</tr>{rows}</table>\
         <h2>Problems</h2><dl>{problems}</dl></html>"
    )
}

const PROBLEMS: [(&str, u16, &str); 12] = [
    ("malformed-json", 400, "The body is not JSON"),
    ("broken-body", 400, "The body ended early"),
    ("unauthenticated", 401, "No key, or not a valid one"),
    ("forbidden", 403, "The key lacks the scope"),
    ("not-found", 404, "No such customer, model, run or route"),
    ("wrong-method", 405, "The route does not take this method"),
    ("conflict", 409, "Not as things stand: no model to roll back to, or a self-test failed"),
    ("too-large", 413, "The body is larger than http.max_body_bytes"),
    ("invalid", 422, "Well-formed, but wrong: `errors` names each field and what would be right"),
    ("busy", 429, "Too much at once: wait Retry-After seconds"),
    ("internal", 500, "A fault of segmentd's; the log has it under the request id"),
    ("unavailable", 503, "Postgres is away, or too many requests: wait Retry-After seconds"),
];
