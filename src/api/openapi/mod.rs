//! The API described: OpenAPI 3.1 for programs, one plain page for people.

mod schemas;

use std::fmt::Write;
use std::sync::LazyLock;

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};

use crate::api::inference;

/// Path, method, scope (none is open to all), summary, request body's schema,
/// answer's description.
pub(super) type Operation =
    (&'static str, &'static str, &'static str, &'static str, Option<&'static str>, &'static str);

const OPERATIONS: &[Operation] = &[
    (
        "/v1/events",
        "post",
        "ingest",
        "Send one event or an array",
        Some("Events"),
        "A verdict per event, with where its customer stands now; 207 when some were rejected, 422 when all were. With strict=true: 422 when any was, and none is counted",
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
        "/v1/batch",
        "post",
        "ingest",
        "Segment: many messages, as its libraries send them; also /v1/b",
        Some("SegmentBatch"),
        SEGMENT_ANSWER,
    ),
    (
        "/v1/identify",
        "post",
        "ingest",
        "Segment: who a customer is; also /v1/i",
        Some("SegmentMessage"),
        SEGMENT_ANSWER,
    ),
    (
        "/v1/track",
        "post",
        "ingest",
        "Segment: what a customer did; also /v1/t",
        Some("SegmentMessage"),
        SEGMENT_ANSWER,
    ),
    (
        "/v1/page",
        "post",
        "ingest",
        "Segment: a page seen; also /v1/p",
        Some("SegmentMessage"),
        SEGMENT_ANSWER,
    ),
    (
        "/v1/screen",
        "post",
        "ingest",
        "Segment: an app screen seen; also /v1/s",
        Some("SegmentMessage"),
        SEGMENT_ANSWER,
    ),
    (
        "/v1/group",
        "post",
        "ingest",
        "Segment: a group that a customer belongs to; also /v1/g",
        Some("SegmentMessage"),
        SEGMENT_ANSWER,
    ),
    (
        "/v1/alias",
        "post",
        "ingest",
        "Segment: two ids of one customer; also /v1/a",
        Some("SegmentMessage"),
        SEGMENT_ANSWER,
    ),
    (
        "/v1/m",
        "post",
        "",
        "Segment: what its libraries measure of themselves; taken and dropped",
        None,
        "Always the same",
    ),
    (
        "/v1/projects/{write_key}/settings",
        "get",
        "",
        "Segment: what its browser and mobile libraries ask for first. The answer sends them to \
         the `Host` they asked, so a proxy in between must pass that on",
        None,
        "The settings; 404 without a key of scope ingest",
    ),
    (
        "/v1/events/failed",
        "get",
        "read",
        "Rejected events, newest first: whose, when and why; with raw=true (scope train) as they came",
        None,
        "The events. Those of strict requests are not among them, nor all of a flood (failed_events.max_per_minute)",
    ),
    (
        "/v1/events/failed/summary",
        "get",
        "read",
        "Rejected events counted by key, door and reason, largest first",
        None,
        "The counts",
    ),
    (
        "/v1/events/failed/replay",
        "post",
        "ingest",
        "Send rejected events in again after a fix, oldest first; each is counted once however often",
        Some("Replay"),
        "How many were accepted, duplicate, rejected again; `next_after` until all have had their turn",
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
        "Where a customer stands: segment, features, when, by which model. Any of their ids will do",
        None,
        "The customer, under the id where they are kept; `asked_id` where that is another, `merged_ids` beside it",
    ),
    (
        "/v1/customers/{id}/features",
        "get",
        "read",
        "A customer's features, now or at an earlier instant, from their events",
        None,
        "The features. `replayed_events` says from how many events; null for the stored state",
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
        "/v1/customers/{id}/links",
        "get",
        "read",
        "What was said about a customer's ids, and what came of it: followed, not_first (the id \
         belongs to somebody by an earlier link), not_followed (a circle, or too many ids), taken_back",
        None,
        "The links, at most 1000",
    ),
    (
        "/v1/customers/{id}/links/{from}",
        "delete",
        "train",
        "Take back that `from` is this customer: both are rebuilt as if it had never been said. \
         Another link from the same id may take its place",
        None,
        "Under which ids both are kept now. The same link counts again once it is said anew, not when \
         an event comes again or late",
    ),
    (
        "/v1/changes",
        "get",
        "read",
        "Changes of segment or model of all customers, oldest first: a page, a long poll, or server-sent events",
        None,
        "The changes, and `next` to go on from. One customer's come in the order in which they were made; `merged_into` says that the id is another customer's from now on; `gap` says that some were dropped by retention",
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

const SEGMENT_ANSWER: &str = "Counts, and why which messages were rejected; 200 even then, as \
                              with Segment. A failure has `code` and `message` too";

/// Bodies that may be left out.
const OPTIONAL: [&str; 5] = ["Why", "RunRequest", "Replay", "IndexRequest", "LoadRequest"];

/// Every operation, door by door.
fn operations() -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter().chain(inference::OPERATIONS)
}

/// Path, name, type, what is asked for after the `?`.
const ASKED: [(&str, &str, &str, &str); 17] = [
    ("/v1/events", "strict", "boolean", "All of the events or none, in one transaction"),
    ("/v1/events/failed", "before", "string", "The last page's `next_before`"),
    ("/v1/events/failed", "limit", "integer", "From 1 to 500; 50 when left out"),
    ("/v1/events/failed", "door", "string", "events, bulk or segment"),
    ("/v1/events/failed", "key", "string", "The id of the key that sent it"),
    ("/v1/events/failed", "reason", "string", "As the summary has it"),
    ("/v1/events/failed", "raw", "boolean", "With the bodies; takes the scope train"),
    ("/v1/events/failed/summary", "since", "string", "An RFC 3339 instant; all when left out"),
    ("/v1/events/failed/summary", "limit", "integer", "From 1 to 500 groups; 50 when left out"),
    (
        "/v1/customers/{id}/features",
        "as_of",
        "string",
        "An RFC 3339 instant: from the events that had happened by then, whenever they came; what training needs. Left out: `known_by`, or now",
    ),
    (
        "/v1/customers/{id}/features",
        "known_by",
        "string",
        "An RFC 3339 instant: only from events that segmentd had received by then. Alone, it gives what the model saw; with `as_of`, what was known of that earlier instant",
    ),
    (
        "/v1/changes",
        "after",
        "string",
        "A cursor: `next` of an answer, or `cursor` of a change, or `Last-Event-ID` for events. `now`: what comes from now on. Left out: from the oldest kept",
    ),
    ("/v1/changes", "segment", "string", "Only changes into or out of this segment"),
    ("/v1/changes", "limit", "integer", "Changes a page, from 1 to 1000; 500 when left out"),
    (
        "/v1/changes",
        "wait_seconds",
        "integer",
        "How long to wait for a change where there is none yet, up to 60; 0 when left out",
    ),
    ("/v1/assignments", "format", "string", "ndjson, csv or parquet; or by `Accept`"),
    ("/v1/assignments", "segment", "string", "Only customers in this segment"),
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
    for &(path, method, scope, summary, request, answer) in operations() {
        let failure = if path.starts_with("/v2") { "Failure" } else { "Problem" };
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
        let asked = ASKED.iter().filter(|(of, ..)| *of == path);
        let asked = asked.map(|(_, name, kind, text)| {
            json!({ "name": name, "in": "query", "schema": { "type": kind }, "description": text })
        });
        let parameters: Vec<Value> = parameters(path)
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .chain(asked)
            .collect();
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some(schema) = request {
            let media = if schema == "Bulk" { "application/x-ndjson" } else { "application/json" };
            operation["requestBody"] = json!({
                "required": !OPTIONAL.contains(&schema),
                "content": { media: { "schema": { "$ref": format!("#/components/schemas/{schema}") } } },
            });
        }
        let at = paths.entry(path).or_insert_with(|| json!({}));
        at[method] = operation;
    }
    let parts = [schemas::native(), schemas::segment(), inference::schemas()];
    let schemas: serde_json::Map<String, Value> =
        parts.into_iter().filter_map(|part| part.as_object().cloned()).flatten().collect();
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
            "securitySchemes": {
                "key": {
                    "type": "http", "scheme": "bearer",
                    "description": "An API key; `segmentd keys create` makes one. The scope an operation needs stands beside it.",
                },
                "basic": {
                    "type": "http", "scheme": "basic",
                    "description": "The same key as user, with an empty password.",
                },
            },
            "responses": {
                "Problem": {
                    "description": "What went wrong (RFC 9457)",
                    "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
                },
                "Failure": {
                    "description": "What went wrong, as the Open Inference Protocol says it",
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Failure" } } },
                },
            },
            "schemas": schemas,
        },
    })
}

/// The names in braces.
fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
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

/// Every operation in a table; works without scripts.
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
        for (_, name, _, text) in ASKED.iter().filter(|(of, ..)| of == path) {
            let _ = write!(rows, "<br><code>?{name}=</code> {text}.");
        }
        rows.push_str("</small></td></tr>");
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
         The whole description: <a href=/openapi.json>/openapi.json</a>.</p>\
         <table><tr><th align=left>Method<th align=left>Path<th align=left>Scope<th align=left>What</tr>{rows}</table>\
         <h2>Problems</h2><dl>{problems}</dl></html>"
    )
}

const PROBLEMS: [(&str, u16, &str); 14] = [
    ("malformed-json", 400, "The body is not JSON"),
    ("broken-body", 400, "The body ended early"),
    ("no-host", 400, "The request lacks a `Host`"),
    ("unauthenticated", 401, "No key, or not a valid one"),
    ("forbidden", 403, "The key lacks the scope"),
    ("not-found", 404, "No such customer, model, run or route"),
    ("wrong-method", 405, "The route does not take this method"),
    ("conflict", 409, "Not as things stand: no model to roll back to, or a self-test failed"),
    ("too-large", 413, "The body is larger than http.max_body_bytes"),
    ("unknown-encoding", 415, "The body's Content-Encoding is neither gzip nor left out"),
    ("invalid", 422, "Well-formed, but wrong: `errors` names each field and what would be right"),
    ("busy", 429, "Too much at once: wait Retry-After seconds"),
    ("internal", 500, "A fault of segmentd's; the log has it under the request id"),
    ("unavailable", 503, "Postgres is away, or too many requests: wait Retry-After seconds"),
];
