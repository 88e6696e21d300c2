//! `POST /v1/events`: one verdict for each event, and strict requests. A file for each other
//! route below `/v1/events`, and for the Segment tracking API.

mod bulk;
mod failed_events;
mod real_clients;
mod segment;
mod segment_libraries;
mod sources;
mod unused_events;

use segmentd::domain::access::AccessScope;
use segmentd::domain::fault::ValidationFaults;
use segmentd::domain::time::Timestamp;
use segmentd::domain::wire::IngestionEndpoint;
use segmentd::service::api_keys;
use segmentd::service::clock::TimeSource;
use segmentd::service::failed_events::{EventSource, RejectedEvent};
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::contract::assert_described;

fn order(id: &str) -> Value {
    json!({
        "type": "track", "name": "Order Completed", "message_id": id, "customer_id": "c1",
        "timestamp": "2024-05-01T10:00:00Z", "properties": { "sales_value": 5.5 },
    })
}

/// An order with another value in one field.
fn with(id: &str, field: &str, value: Value) -> Value {
    let mut order = order(id);
    order[field] = value;
    order
}

fn noon() -> Timestamp {
    Timestamp::parse("2024-05-02T12:00:00Z").unwrap()
}

fn failed(list: &Value) -> &Vec<Value> {
    list["failed_events"].as_array().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_request_is_all_or_nothing() {
    let app =
        TestApp::start_with(&[("ingestion.max_batch_events", "50"), ("ingestion.shards", "4")])
            .await;
    let of = |customer: usize| {
        let customer_id = json!(format!("c{customer}"));
        with(&format!("m{customer}"), "customer_id", customer_id)
    };
    let mut batch: Vec<Value> = (0..20).map(of).collect();
    batch[7]["timestamp"] = json!("yesterday");
    let strict = "/v1/events?strict=true";
    let (status, answer) = app.post(strict, json!(batch).to_string()).await;
    assert_eq!(status, 422, "{answer}");
    assert_described("EventsResult", &answer);
    assert_eq!(
        (&answer["accepted"], &answer["rejected"], &answer["not_counted"]),
        (&json!(0), &json!(1), &json!(19))
    );
    assert_eq!(answer["outcomes"][6]["status"], "not_counted");
    assert_eq!(answer["outcomes"][7]["errors"][0]["field"], "timestamp");
    assert_eq!(app.get("/v1/customers/c0").await.0, 404);
    assert_eq!(failed(&app.get("/v1/events/failed").await.1).len(), 0);

    // Corrected, it counts as a whole, in one transaction, and once.
    batch[7] = of(7);
    let before = batches(&app).await;
    let (status, answer) = app.post(strict, json!(batch).to_string()).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(20)), "{answer}");
    assert_described("EventsResult", &answer);
    assert!(answer.get("not_counted").is_none(), "{answer}");
    assert_eq!(answer["outcomes"][3]["score"]["fallback"], true);
    assert_eq!(batches(&app).await, before + 1);
    let (status, answer) = app.post(strict, json!(batch).to_string()).await;
    assert_eq!((status, &answer["duplicate"]), (200, &json!(20)), "{answer}");

    let many: Vec<Value> = (0..51).map(of).collect();
    let (status, problem) = app.post(strict, json!(many).to_string()).await;
    assert_eq!(status, 422);
    assert!(
        problem["detail"].as_str().unwrap().contains("ingestion.max_batch_events"),
        "{problem}"
    );
    assert_eq!(app.get("/v1/customers/c50").await.0, 404);
    // A misspelt parameter is refused.
    assert_eq!(app.post("/v1/events?strct=true", json!(many).to_string()).await.0, 422);
    app.stop().await;
}

async fn batches(app: &TestApp) -> u64 {
    let (_, metrics) = app.admin("/metrics").await;
    let count =
        metrics.lines().find_map(|l| l.strip_prefix("segmentd_ingestion_batch_events_count "));
    count.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_with_nul_does_not_affect_the_others() {
    let app = TestApp::start().await;
    let batch = json!([
        order("good"),
        with("name", "name", json!("Order\0Completed")),
        with("text", "properties", json!({ "store_id": "a\0b" })),
        // Undeclared properties are dropped, so NUL in them is harmless.
        with("dropped", "properties", json!({ "note\0": "a\0b", "context": { "a": "\0" } })),
        with("field", "fi\0eld", json!(1)),
    ]);
    let (status, answer) = app.post("/v1/events", batch.to_string()).await;
    assert_eq!(status, 207, "{answer}");
    let outcomes: Vec<_> = answer["outcomes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|outcome| (outcome["status"].as_str().unwrap(), &outcome["errors"][0]["field"]))
        .collect();
    assert_eq!(
        outcomes,
        [
            ("accepted", &Value::Null),
            ("rejected", &json!("name")),
            ("accepted", &Value::Null),
            ("accepted", &Value::Null),
            ("rejected", &json!("fi\0eld")),
        ]
    );
    assert_eq!(answer["outcomes"][2]["warnings"][0]["field"], "properties.store_id");
    // Escaped NUL is stored unchanged; elsewhere it is replaced by U+FFFD.
    let (_, list) = app.get("/v1/events/failed?raw=true").await;
    assert_eq!(failed(&list)[0]["reason"], "fi\u{fffd}eld: unknown field");
    assert_eq!(failed(&list)[0]["is_complete"], true);
    assert_eq!(failed(&list)[1]["raw"], batch[1].to_string());
    app.stop().await;
}

/// A rejection that cannot be stored is not acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_nothing_is_acknowledged() {
    let app = TestApp::start().await;
    let source = EventSource { endpoint: IngestionEndpoint::Events, key_id: "k", is_public: false };
    let refused =
        || Err(RejectedEvent::new(ValidationFaults::single("event", "is rubbish"), b"rubbish"));
    let accept = async || {
        let when = segmentd::service::ingestion::FullQueuePolicy::Refuse;
        app.app.ingestion.accept_events(vec![refused()], source, noon(), when).await
    };
    assert_eq!(accept().await.unwrap().len(), 1);
    app.db.close().await;
    let error = accept().await.unwrap_err();
    assert!(matches!(error, segmentd::service::ServiceError::Unavailable(_)), "{error:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_invalid_event_or_key_does_not_affect_the_others() {
    let app = TestApp::start().await;
    // One invalid event never rejects its batch.
    let batch = json!([
        { "type": "track", "name": "Order Completed", "customer_id": "c1", "message_id": "m1" },
        { "type": "track", "name": "Order Completed", "message_id": "m2" },
    ]);
    let (status, answer) = app.post("/v1/events", batch.to_string()).await;
    assert_eq!(status, 207, "{answer}");
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(1), &json!(1)));
    let long = format!(
        "{}\nnot json\n{{\"type\":\"track\",\"name\":\"x\",\"customer_id\":\"c1\"}}",
        "x".repeat(70_000)
    );
    let (_, verdicts) = app.post("/v1/events/bulk", long).await;
    let verdicts = verdicts.as_str().unwrap();
    for line in verdicts.lines() {
        assert_described("EventResult", &serde_json::from_str(line).unwrap());
    }
    assert!(verdicts.contains(r#""line":1,"status":"rejected""#), "{verdicts}");
    assert!(verdicts.contains(r#""line":3,"status":"accepted""#), "{verdicts}");

    // Keys: missing, wrong, without the scope.
    assert_eq!(app.post_as(None, "/v1/score", "{}").await.0, 401);
    assert_eq!(app.post_as(Some("sgm_x_y"), "/v1/score", "{}").await.0, 401);
    let reader = api_keys::create_key(&app.db, &TimeSource::System, "reader", &[AccessScope::Read])
        .await
        .unwrap();
    app.app.api_keys.refresh().await.unwrap();
    let (status, problem) = app.post_as(Some(&reader), "/v1/score", "{}").await;
    assert_eq!(status, 403);
    assert!(problem["detail"].as_str().unwrap().contains("`score`"), "{problem}");

    assert_eq!(app.admin("/readyz").await.0, 200);
    app.stop().await;
}
