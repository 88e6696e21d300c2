//! Error responses: the problem types, and the error statuses that every operation shares.

use std::fmt::Write;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

/// Types of problems: last part of the type's URI, status, description.
pub(super) const PROBLEMS: [(&str, u16, &str); 20] = [
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

/// Statuses of every operation.
const SHARED: [u16; 4] = [400, 421, 500, 503];
/// Statuses of operations that need a key.
const WITH_KEY: [u16; 3] = [401, 403, 429];
/// Statuses of operations with a request body.
const WITH_BODY: [u16; 4] = [408, 413, 415, 422];
/// Statuses of operations with parameters.
const WITH_PARAMETERS: [u16; 1] = [422];

/// The shape of errors in a protocol.
#[derive(Debug, Clone, Copy)]
struct ErrorShape {
    media_type: &'static str,
    schema: &'static str,
    /// Start of the names of the shared responses.
    prefix: &'static str,
}

const NATIVE: ErrorShape =
    ErrorShape { media_type: "application/problem+json", schema: "Problem", prefix: "" };
const INFERENCE: ErrorShape =
    ErrorShape { media_type: "application/json", schema: "InferenceError", prefix: "Inference" };
const TRACKING: ErrorShape = ErrorShape {
    media_type: "application/problem+json",
    schema: "TrackingProblem",
    prefix: "Tracking",
};

impl ErrorShape {
    fn of_operation(operation: &Value) -> Self {
        match operation["tags"][0].as_str() {
            Some("Open Inference Protocol") => INFERENCE,
            Some("Tracking API") => TRACKING,
            _ => NATIVE,
        }
    }

    fn content(self) -> Value {
        json!({ "schema": { "$ref": format!("#/components/schemas/{}", self.schema) } })
    }

    /// The name of the shared response of a status.
    fn response_name(self, status: u16) -> String {
        format!("{}{}", self.prefix, reason(status).replace(' ', ""))
    }
}

/// The shared error responses, as components of the document.
pub(super) fn shared_responses() -> Value {
    let mut responses = Map::new();
    for shape in [NATIVE, INFERENCE, TRACKING] {
        for status in [&SHARED[..], &WITH_KEY, &WITH_BODY].concat() {
            let content = json!({ shape.media_type: shape.content() });
            let response = json!({ "description": describe(status), "content": content });
            responses.insert(shape.response_name(status), response);
        }
    }
    responses.into()
}

/// Adds the shared error statuses to an operation, and the error schema to those that it
/// declares itself.
pub(super) fn add_to_operation(operation: &mut Value) {
    let mut statuses = SHARED.to_vec();
    if operation["security"].is_array() {
        statuses.extend(WITH_KEY);
    }
    if operation["requestBody"].is_object() {
        statuses.extend(WITH_BODY);
    }
    if operation["parameters"].is_array() {
        statuses.extend(WITH_PARAMETERS);
    }
    let shape = ErrorShape::of_operation(operation);
    let Some(Value::Object(responses)) = operation.get_mut("responses") else { return };
    for (status, response) in responses.iter_mut() {
        let is_error = status.starts_with(['4', '5']);
        if is_error && response["content"][shape.media_type].is_null() {
            response["content"][shape.media_type] = shape.content();
        }
    }
    for status in statuses {
        let path = format!("#/components/responses/{}", shape.response_name(status));
        responses.entry(status.to_string()).or_insert_with(|| json!({ "$ref": path }));
    }
}

/// The standard reason phrase of a status.
fn reason(status: u16) -> &'static str {
    let status = StatusCode::from_u16(status).ok();
    status.and_then(|status| status.canonical_reason()).unwrap_or("Error")
}

/// The problem types of a status, with their descriptions.
fn describe(status: u16) -> String {
    let mut text = reason(status).to_owned();
    for (kind, _, description) in PROBLEMS.iter().filter(|(_, of, _)| *of == status) {
        // Writing to a String cannot fail.
        let _ = write!(text, ". `{kind}`: {description}");
    }
    text
}
