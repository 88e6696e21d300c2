//! The Segment tracking API: every form of request that its libraries send, and responses
//! that they retry or give up on.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use reqwest::{Method, RequestBuilder};
use segmentd::api::request::slow_reads::SlowReads;
use segmentd::api::state::ApiServices;
use segmentd::api::{ApiState, RequestCapacities, RequestLayers, RequestLimits};
use segmentd::domain::access::AccessScope;
use segmentd::service::api_keys;
use segmentd::service::api_keys::KeyAuthenticator;
use segmentd::service::clock::TimeSource;
use segmentd::store::database::private::{PrivatePostgres, PrivateServerSettings};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::contract::assert_described;
use crate::support::{TestApp, eventually, open_to_all};

/// Status, headers and body of a response.
type Answer = (u16, reqwest::header::HeaderMap, Value);

/// Follows no redirect: a library would count one as delivered.
fn client() -> reqwest::Client {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

async fn answer(request: RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.unwrap();
    (status, headers, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A batch with one message, with or without the key in the body.
fn batch(id: &str, key: Option<&str>) -> String {
    let message = json!({
        "type": "track", "event": "Order Completed", "userId": "u1", "messageId": id,
        "properties": { "total": 12 },
    });
    json!({ "batch": [message], "writeKey": key, "sentAt": "2024-05-01T12:00:00Z" }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_segment_request_is_accepted() {
    let app = TestApp::start().await;
    let client = client();
    let post = |path: &str| client.post(format!("{}{path}", app.url));
    let key = app.key.as_str();
    let chunked = |body: Vec<u8>| {
        let chunks: Vec<_> = body.chunks(50).map(<[u8]>::to_vec).collect();
        reqwest::Body::wrap_stream(stream::iter(chunks.into_iter().map(std::io::Result::Ok)))
    };
    let requests = [
        ("key in the body", post("/v1/batch").body(batch("a", Some(key)))),
        ("Basic", post("/v1/batch").basic_auth(key, Some("")).body(batch("b", None))),
        ("Bearer", post("/v1/batch").bearer_auth(key).body(batch("c", None))),
        (
            "text/plain",
            post("/v1/b").header("content-type", "text/plain").body(batch("d", Some(key))),
        ),
        (
            "a type of no sense",
            post("/v1/b").header("content-type", "\"").body(batch("e", Some(key))),
        ),
        (
            "gzip",
            post("/v1/batch")
                .basic_auth(key, None::<&str>)
                .header("content-encoding", "gzip")
                .body(gzip(batch("f", None).as_bytes())),
        ),
        (
            "as Kotlin: gzip, chunked, text/plain, key in the body",
            post("/v1/b")
                .header("content-type", "text/plain")
                .header("content-encoding", "gzip")
                .body(chunked(gzip(batch("g", Some(key)).as_bytes()))),
        ),
        ("chunked", post("/v1/batch").body(chunked(batch("h", Some(key)).into_bytes()))),
    ];
    for (name, request) in requests {
        let (status, headers, body) =
            answer(request.header("origin", "https://shop.example")).await;
        assert_eq!(status, 200, "{name}: {body}");
        let taken =
            json!({ "success": true, "accepted": 1, "duplicate": 0, "conflict": 0, "rejected": 0 });
        assert_eq!(body, taken, "{name}");
        assert_eq!(headers["access-control-allow-origin"], "*", "{name}");
    }
    let long = ["identify", "track", "page", "screen", "group", "alias"];
    for path in long.into_iter().chain(["i", "t", "p", "s", "g", "a"]) {
        let message = json!({
            "writeKey": key, "userId": "u2", "event": "Seen", "groupId": "g", "previousId": "a2",
            "messageId": format!("to {path}"),
        });
        let (status, _, body) =
            answer(post(&format!("/v1/{path}")).body(message.to_string())).await;
        assert_eq!((status, &body["accepted"]), (200, &json!(1)), "{path}: {body}");
    }
    let (_, customer) = app.get("/v1/customers/u1").await;
    assert_eq!(customer["features"]["orders"], 8.0, "{customer}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_pass_cors_and_get_their_settings() {
    let app = TestApp::start().await;
    let client = client();
    for path in ["/v1/t", "/v1/batch", "/v1/m", "/v1/projects/key/settings"] {
        let preflight = client
            .request(Method::OPTIONS, format!("{}{path}", app.url))
            .header("origin", "https://shop.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type");
        let (status, headers, _) = answer(preflight).await;
        assert_eq!(status, 200, "{path}");
        assert_eq!(headers["access-control-allow-origin"], "*");
        assert_eq!(headers["access-control-allow-headers"], "authorization,content-type");
        assert!(headers["access-control-allow-methods"].to_str().unwrap().contains("POST"));
    }
    let telemetry = client.post(format!("{}/v1/m", app.url)).body(r#"{"series":[]}"#);
    let (status, _, body) = answer(telemetry).await;
    assert_eq!((status, body), (200, json!({ "success": true })));

    let settings = |key: &str| client.get(format!("{}/v1/projects/{key}/settings", app.url));
    let (status, headers, body) = answer(settings(&app.key).header("origin", "null")).await;
    assert_eq!(status, 200, "{body}");
    assert_described("TrackingSettings", &body);
    let segment = &body["integrations"]["Segment.io"];
    assert_eq!(segment["apiKey"], app.key);
    assert_eq!(format!("http://{}", segment["apiHost"].as_str().unwrap()), app.url.clone() + "/v1");
    assert_eq!(headers["access-control-allow-origin"], "*");
    let reader = api_keys::create_key(&app.db, &TimeSource::System, "reader", &[AccessScope::Read])
        .await
        .unwrap();
    app.app.api_keys.refresh().await.unwrap();
    for key in ["unknown", &reader] {
        let (status, _, body) = answer(settings(key)).await;
        assert_eq!((status, &body["code"]), (404, &json!("not-found")));
        assert!(!body.to_string().contains(key), "{body}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_a_batch_gets_its_own_verdict() {
    let app = TestApp::start().await;
    let track = |id: &str, properties: Value| {
        json!({
            "type": "track", "event": "Order Completed", "userId": "u1", "messageId": id,
            "properties": properties,
        })
    };
    let messages = [
        track("m1", json!({ "sales_value": 5 })),
        track("m2", json!({ "note": "x".repeat(140_000) })),
        json!({ "type": "track", "userId": "u1" }),
        track("m1", json!({ "sales_value": 5 })),
        track("m3", json!({ "sales_value": -1e13 })),
        track("m4", json!({ "products": [{ "price": 1 }] })),
    ];
    let (status, body) = app.post("/v1/batch", json!({ "batch": messages }).to_string()).await;
    assert_eq!(status, 200, "{body}");
    assert_described("TrackingResult", &body);
    assert_eq!(
        (&body["accepted"], &body["duplicate"], &body["rejected"]),
        (&json!(2), &json!(1), &json!(3))
    );
    let rejected: Vec<_> = body["rejections"].as_array().unwrap().iter().collect();
    let expected = [
        (1, "event", "larger than 131072"),
        (2, "event", "required"),
        (4, "properties.sales_value", "±1e12"),
    ];
    for (rejection, (index, field, problem)) in rejected.iter().zip(expected) {
        assert_eq!(rejection["index"], index, "{rejection}");
        assert_eq!(rejection["errors"][0]["field"], field, "{rejection}");
        let output = rejection["errors"][0]["problem"].as_str().unwrap();
        assert!(output.contains(problem), "{rejection}");
    }
    assert_eq!(rejected.len(), 3);

    // A batch of the maximal size of Segment.
    let many: Vec<Value> = (0..2500).map(|i| track(&format!("many-{i}"), json!({}))).collect();
    let (status, body) = app.post("/v1/batch", json!({ "batch": many }).to_string()).await;
    assert_eq!((status, &body["accepted"]), (200, &json!(2500)), "{body}");
    let (_, customer) = app.get("/v1/customers/u1").await;
    assert_eq!(customer["features"]["orders"], 2502.0, "{customer}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn permanent_errors_have_the_shape_that_segment_libraries_expect() {
    let app = TestApp::start_with(&[("http.max_body_bytes", "150000")]).await;
    let reader = api_keys::create_key(&app.db, &TimeSource::System, "reader", &[AccessScope::Read])
        .await
        .unwrap();
    app.app.api_keys.refresh().await.unwrap();
    let client = client();
    let key = app.key.as_str();
    let post = |path: &str| client.post(format!("{}{path}", app.url)).header("origin", "x");
    let packed = |body: Vec<u8>| {
        post("/v1/b").bearer_auth(key).header("content-encoding", "gzip").body(body)
    };
    let bomb = gzip(&vec![b' '; 20_000_000]);
    assert!(bomb.len() < 150_000, "{} bytes would be refused unread", bomb.len());
    let table = [
        ("not JSON", post("/v1/t").bearer_auth(key).body("hello"), 400, "malformed-json"),
        ("no batch", post("/v1/b").bearer_auth(key).body("{}"), 400, "malformed-json"),
        ("half", post("/v1/b").bearer_auth(key).body("{\"batch\":[{"), 400, "malformed-json"),
        ("not gzip", packed(b"hello".to_vec()), 400, "broken-body"),
        ("half gzip", packed(gzip(batch("a", None).as_bytes())[..30].to_vec()), 400, "broken-body"),
        ("no key", post("/v1/b").body(batch("a", None)), 401, "unauthenticated"),
        ("wrong key", post("/v1/b").body(batch("a", Some("sgm_x_y"))), 401, "unauthenticated"),
        (
            "wrong key before the body",
            post("/v1/b").basic_auth("sgm_x_y", Some("")).body("hello"),
            401,
            "unauthenticated",
        ),
        ("a key to read", post("/v1/b").body(batch("a", Some(&reader))), 403, "forbidden"),
        ("no slash", post("/v1/batch/").bearer_auth(key).body(batch("a", None)), 404, ""),
        ("wrong method", client.put(format!("{}/v1/t", app.url)), 405, "wrong-method"),
        ("large", post("/v1/b").bearer_auth(key).body(" ".repeat(150_001)), 413, "too-large"),
        ("bomb", packed(bomb), 413, "too-large"),
        (
            "unknown packing",
            post("/v1/b").bearer_auth(key).header("content-encoding", "br").body("x"),
            415,
            "unknown-encoding",
        ),
    ];
    for (name, request, status, code) in table {
        let (got, headers, body) = answer(request).await;
        assert_eq!(got, status, "{name}: {body}");
        assert_eq!(body["status"], status, "{name}: {body}");
        if !code.is_empty() {
            assert_described("TrackingProblem", &body);
            assert_eq!(body["code"], code, "{name}: {body}");
            assert_eq!(body["message"], body["detail"], "{name}: {body}");
            assert_eq!(headers["access-control-allow-origin"], "*", "{name}");
        }
        assert!(!headers.contains_key("retry-after"), "{name}: would be tried again");
    }
    assert_eq!(app.admin("/readyz").await.0, 200);
    app.stop().await;
}

/// Asserts that a Segment library retries after this response.
fn passes((status, headers, body): &Answer) {
    assert_eq!(*status, 503, "{body}");
    let seconds: u32 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
    assert_eq!(headers["x-ratelimit-reset"], headers["retry-after"]);
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert_eq!(body["code"], "unavailable", "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_and_a_lost_database_ask_for_a_retry() {
    const SERVER: PrivateServerSettings =
        PrivateServerSettings { binaries: None, max_connections: 60 };
    let place = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let postgres = PrivatePostgres::start(place.path(), &SERVER).await.unwrap();
    let settings = [("database.url", &*postgres.url()), ("http.max_ingestion_requests", "1")];
    let app = TestApp::start_with(&settings).await;
    app.app.api_keys.refresh().await.unwrap();
    let client = client();
    let post = |key: &str| {
        let request = client.post(format!("{}/v1/batch", app.url)).header("origin", "x");
        request.body(batch("a", Some(key)))
    };
    let never: stream::Pending<std::io::Result<Vec<u8>>> = stream::pending();
    let hanging = client.post(format!("{}/v1/batch", app.url)).basic_auth(&app.key, Some(""));
    let hanging = hanging.body(reqwest::Body::wrap_stream(never)).send();
    let refused = async {
        eventually("the hanging request is in progress", async || {
            app.metric("segmentd_http_requests_in_flight").await == 1
        })
        .await;
        answer(post(&app.key)).await
    };
    tokio::select! {
        ended = hanging => panic!("{ended:?}"),
        answer = refused => passes(&answer),
    }

    postgres.stop().await.unwrap();
    let mut lost = answer(post(&app.key)).await;
    eventually("the hanging request has ended", async || {
        lost = answer(post(&app.key)).await;
        lost.2["detail"] != "too many requests in progress"
    })
    .await;
    passes(&lost);
    assert!(lost.2["detail"].as_str().unwrap().contains("database"), "{}", lost.2);
}

#[tokio::test(flavor = "multi_thread")]
async fn until_the_keys_are_loaded_no_key_is_called_unknown() {
    let app = TestApp::start().await;
    let of = &app.app;
    let metrics = Arc::clone(&of.metrics);
    let starting = ApiServices {
        api_keys: KeyAuthenticator::new(
            of.db.clone(),
            of.clock.clone(),
            Arc::clone(&of.rate_limits),
        ),
        key_registry: Arc::clone(&of.key_registry),
        definitions: Arc::clone(&of.definitions),
        rate_limits: Arc::clone(&of.rate_limits),
        ingestion: Arc::clone(&of.ingestion),
        deployments: Arc::clone(&of.deployments),
        registry: Arc::clone(&of.registry),
        training: Arc::clone(&of.training),
        change_feed: Arc::clone(&of.change_feed),
        exports: Arc::clone(&of.exports),
        drift: Arc::clone(&of.drift),
        alerts: Arc::clone(&of.alerts),
        policies: Arc::clone(&of.policies),
        probation: Arc::clone(&of.probation),
        clock: of.clock.clone(),
        sources: Arc::clone(&of.sources),
        segment_values: Arc::clone(&of.segment_values),
        db: of.db.clone(),
        metrics: Arc::clone(&metrics),
        readiness: of.readiness.clone(),
        memory: of.memory.clone(),
        heavy: Arc::clone(&of.heavy),
        body_limits: of.body_limits,
        allowed_hosts: Vec::new(),
        slow_reads: SlowReads::new(1),
    };
    let capacities = RequestCapacities {
        scoring: 9,
        ingestion: 9,
        read: 9,
        stream: 9,
        control: 9,
        health: 9,
        public: 9,
        unidentified: 9,
    };
    let request_timeout = Duration::from_secs(30);
    let limits = RequestLimits { request_timeout, capacities, logged_share: 0.0 };
    let gate = RequestLayers::new(metrics, limits).unwrap();
    let router = segmentd::api::router(ApiState(Arc::new(starting)), &gate).unwrap();
    for (method, path, body) in [
        ("POST", "/v1/batch", batch("a", Some(&app.key))),
        ("POST", "/v1/t", json!({ "writeKey": "unknown" }).to_string()),
        ("GET", "/v1/projects/unknown/settings", String::new()),
    ] {
        let request = axum::http::Request::builder().method(method).uri(path).header("origin", "x");
        let answer = router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        passes(&(head.status.as_u16(), head.headers, serde_json::from_slice(&body).unwrap()));
    }
    app.stop().await;
}
