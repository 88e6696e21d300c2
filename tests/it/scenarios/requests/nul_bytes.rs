//! Text with NUL, which Postgres cannot store, is refused by the name of its field in every
//! part of a request, and is never an internal error.

use reqwest::Method;
use segmentd::api::openapi_document;
use serde_json::{Map, Value, json};

use crate::support::TestApp;
use crate::support::openapi_requests::{Probe, filled, operations, parameters, send};

/// Valid documents of a schema: one for each alternative in it.
fn samples(schemas: &Value, schema: &Value) -> Vec<Value> {
    if let Some(name) = schema["$ref"].as_str() {
        return samples(schemas, &schemas[name.rsplit('/').next().unwrap()]);
    }
    if let Some(value) = schema.get("const") {
        return vec![value.clone()];
    }
    if let Some(values) = schema["enum"].as_array() {
        return vec![values[0].clone()];
    }
    if schema.get("properties").is_none()
        && let Some(alternatives) = schema["oneOf"].as_array().or(schema["anyOf"].as_array())
    {
        return alternatives.iter().flat_map(|one| samples(schemas, one)).collect();
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds[0].as_str(),
        kind => kind.as_str(),
    };
    match kind {
        Some("object") | None if schema.get("properties").is_some() => {
            let mut documents = vec![Map::new()];
            for (name, property) in schema["properties"].as_object().unwrap() {
                let values = samples(schemas, property);
                // The first alternative of each property, and the others one at a time.
                let first = documents[0].clone();
                for document in &mut documents {
                    document.insert(name.clone(), values[0].clone());
                }
                for value in values.into_iter().skip(1) {
                    let mut other = first.clone();
                    other.insert(name.clone(), value);
                    documents.push(other);
                }
            }
            documents.into_iter().map(Value::Object).collect()
        }
        Some("object") => vec![json!({ "some": "text" })],
        Some("array") => {
            let items = samples(schemas, &schema["items"]);
            items.into_iter().map(|item| json!([item])).collect()
        }
        Some("integer" | "number") => vec![schema.get("minimum").cloned().unwrap_or(json!(1))],
        Some("boolean") => vec![json!(false)],
        _ if schema["format"] == "date-time" => vec![json!("2017-01-01T11:53:26Z")],
        _ => vec![json!("text")],
    }
}

/// The JSON pointers of all strings of a document.
fn strings(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at.to_owned()),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                strings(item, &format!("{at}/{i}"), found);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                strings(member, &format!("{at}/{name}"), found);
            }
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nul_anywhere_in_a_request_is_no_internal_error() {
    let app = TestApp::start().await;
    let document = openapi_document();
    let schemas = &document["components"]["schemas"];
    let (mut probes, mut bodies) = (Vec::new(), 0);
    for (method, path, operation) in operations(&document) {
        let plain = |path: String| Probe { method: method.clone(), path, body: None };
        for name in parameters(&operation, "path") {
            for hostile in ["%00", "a%00b"] {
                probes.push(plain(filled(&path, Some((&name, hostile)))));
            }
        }
        for name in parameters(&operation, "query") {
            for hostile in ["%00", "a%00b"] {
                probes.push(plain(format!("{}?{name}={hostile}", filled(&path, None))));
            }
        }
        let Some(content) = operation["requestBody"]["content"].as_object() else { continue };
        let schema = content.values().next().unwrap()["schema"].clone();
        for sample in samples(schemas, &schema) {
            let mut places = Vec::new();
            strings(&sample, "", &mut places);
            for place in places {
                let mut hostile = sample.clone();
                *hostile.pointer_mut(&place).unwrap() = json!("a\0b");
                bodies += 1;
                probes.push(Probe {
                    method: method.clone(),
                    path: filled(&path, None),
                    body: Some(hostile.to_string().into_bytes()),
                });
            }
        }
    }
    assert!(probes.len() > 250 && bodies > 100, "{} probes, {bodies} bodies", probes.len());
    let mut failures = Vec::new();
    for probe in &probes {
        let (status, media, answer) = send(&app, probe).await;
        let by_design = status == 503 && probe.path.ends_with("/ready");
        let is_address = probe.path.contains("%00");
        // A URL with NUL is refused, with an error of its protocol.
        let is_problem = media == "application/problem+json"
            || probe.path.starts_with("/v2")
            || probe.path.starts_with("/v1/projects");
        if !by_design && (status >= 500 || (is_address && !(status >= 400 && is_problem))) {
            let body = probe.body.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            failures
                .push(format!("{} {} {body}: {status} {media} {answer}", probe.method, probe.path));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    app.stop().await;
}

/// Requests with NUL, each with the field that the problem must name.
#[tokio::test(flavor = "multi_thread")]
async fn nul_is_refused_by_the_name_of_its_field() {
    let app = TestApp::start().await;
    let get = |path: &str, field: &str| (Method::GET, path.to_owned(), None, field.to_owned());
    let post = |path: &str, body: Value, field: &str| {
        (Method::POST, path.to_owned(), Some(body), field.to_owned())
    };
    let target = json!({ "kind": "slack", "url": "http://example.com/\0" });
    let table = [
        get("/v1/alerts/%00", "alert_id"),
        get("/v1/alerts/%00/picture.svg", "alert_id"),
        get("/v1/segments/%00/lineage", "segment_id"),
        get("/v1/alerts?owner=%00", "owner"),
        get("/v1/events/failed?endpoint=%00", "endpoint"),
        get("/v1/events/failed?key_id=%00", "key_id"),
        get("/v1/events/failed?reason=a%00b", "reason"),
        get("/v1/customers/a%00b", "customer_id"),
        get("/v1/assignments?segment_id=%00", "segment_id"),
        get("/v1/changes?segment_id=%00", "segment_id"),
        (Method::DELETE, "/v1/silences/%00".into(), None, "silence_id".into()),
        (Method::DELETE, "/v1/channels/%00".into(), None, "channel_id".into()),
        (Method::DELETE, "/v1/customers/a/links/%00".into(), None, "from_id".into()),
        post("/v1/channels/%00/enable", json!({}), "channel_id"),
        post("/v1/deliveries/%00/replay", json!({}), "delivery_id"),
        post("/v1/events/failed/replay", json!({ "reason": "\0" }), "reason"),
        post(
            "/v1/events/failed/replay",
            json!({ "failed_event_ids": ["1", "\0"] }),
            "failed_event_ids[1]",
        ),
        post("/v1/deployment/rollback", json!({ "reason": "a\0b" }), "reason"),
        post("/v1/deployment/fallback", json!({ "reason": "a\0b" }), "reason"),
        post("/v1/channels", json!({ "name": "x", "target": target }), "target.url"),
        post("/v1/training-runs", json!({ "baseline": { "recency": "\0" } }), "baseline.recency"),
    ];
    for (method, path, body, field) in table {
        let body = body.map(|body| body.to_string().into_bytes());
        let probe = Probe { method, path, body };
        let (status, media, answer) = send(&app, &probe).await;
        let problem: Value = serde_json::from_str(&answer).unwrap_or_default();
        assert_eq!((status, &*media), (422, "application/problem+json"), "{}", probe.path);
        assert_eq!(problem["errors"][0]["field"], json!(field), "{}: {answer}", probe.path);
        let output = problem["errors"][0]["problem"].as_str().unwrap();
        assert!(output.contains("NUL"), "{}: {answer}", probe.path);
    }
    // A path that is not UTF-8 is a problem too.
    for path in ["/v1/customers/%FF", "/v1/alerts/%C3%28"] {
        let probe = Probe { method: Method::GET, path: path.into(), body: None };
        let (status, media, answer) = send(&app, &probe).await;
        assert_eq!((status, &*media), (400, "application/problem+json"), "{answer}");
        assert!(answer.contains("malformed-path"), "{answer}");
    }
    app.stop().await;
}
