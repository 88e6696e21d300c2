//! `/v1/events/failed`: rejected events are stored, listed, counted, and replayed after a fix.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use segmentd::config::FailedEventSettings as Settings;
use segmentd::domain::access::AccessScope;
use segmentd::domain::objective::ObjectiveTargets;
use segmentd::domain::time::MILLIS_PER_DAY;
use segmentd::service::api_keys;
use segmentd::service::clock::TimeSource;
use segmentd::service::failed_events::FailedEventStore;
use segmentd::telemetry::ServiceMetrics;
use serde_json::{Value, json};

use super::{failed, noon, order, with};
use crate::support::contract::assert_described;
use crate::support::{TestApp, ndjson};

const REPLAY: &str = "/v1/events/failed/replay";

async fn orders_of_c1(app: &TestApp) -> Value {
    app.get("/v1/customers/c1").await.1["features"]["orders_365d"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_events_are_stored_and_replayed_after_a_fix() {
    let (clock, hands) = TimeSource::manual(noon());
    let app = TestApp::start_at(clock, &[]).await;

    // Events of tomorrow without `sent_at`; one of them without an id.
    let tomorrow = json!("2024-05-03T12:00:00Z");
    let mut nameless = with("", "timestamp", tomorrow.clone());
    nameless.as_object_mut().unwrap().remove("message_id");
    let batch = json!([
        order("good"),
        with("early", "timestamp", tomorrow),
        nameless,
        with("text", "properties", json!({ "sales_value": 1e13, "email": "a@example.org" })),
    ]);
    let sent = batch.to_string();
    let (status, answer) = app.post("/v1/events", sent.clone()).await;
    assert_eq!((status, &answer["rejected"]), (207, &json!(3)), "{answer}");

    // Listed newest first, in pages, unchanged.
    let (_, first) = app.get("/v1/events/failed?limit=2&raw=true").await;
    let next = first["next_cursor"].as_str().unwrap();
    let (_, second) = app.get(&format!("/v1/events/failed?limit=2&raw=true&cursor={next}")).await;
    // All were received at one instant.
    assert_eq!((failed(&first).len(), failed(&second).len()), (2, 1));
    let ids = failed(&first).iter().chain(failed(&second)).map(|event| &event["failed_event_id"]);
    assert_eq!(ids.collect::<HashSet<_>>().len(), 3);
    assert_described("FailedEventList", &first);
    assert_eq!(second["next_cursor"], Value::Null);
    let newest = &failed(&first)[0];
    assert_eq!(newest["endpoint"], "events");
    assert_eq!(newest["received_at"], "2024-05-02T12:00:00.000Z");
    assert_eq!(newest["reason"], "properties.sales_value: must lie within ±1e12");
    assert!(newest["faults"].as_str().unwrap().contains("it is 1e13"), "{newest}");
    assert!(sent.contains(newest["raw"].as_str().unwrap()), "{newest}");
    assert_eq!((&newest["is_complete"], &newest["replayed_at"]), (&json!(true), &Value::Null));

    // Filtered by key and endpoint.
    let key_id = newest["key_id"].as_str().unwrap();
    let (_, own) = app.get(&format!("/v1/events/failed?key_id={key_id}&endpoint=events")).await;
    assert_eq!(failed(&own).len(), 3);
    let (_, other) = app.get(&format!("/v1/events/failed?key_id={key_id}&endpoint=bulk")).await;
    assert_eq!(failed(&other).len(), 0);

    // Counted by key, entry point and reason.
    let (_, summary) = app.get("/v1/events/failed/summary").await;
    assert_described("FailedEventSummary", &summary);
    let groups = summary["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 2, "{summary}");
    assert_eq!(groups[0]["reason"], "timestamp: lies in the future");
    assert_eq!((&groups[0]["events"], &groups[0]["replayed"]), (&json!(2), &json!(0)));
    assert_eq!(groups[0]["key_id"], newest["key_id"]);
    let (_, later) = app.get("/v1/events/failed/summary?since=2024-05-02T12:00:01Z").await;
    assert_eq!(later["groups"], json!([]));
    let (_, metrics) = app.admin("/metrics").await;
    for line in [
        "segmentd_events_rejected_total{field=\"timestamp\"} 2",
        "segmentd_events_rejected_total{field=\"property\"} 1",
        "segmentd_failed_events_total{outcome=\"stored\"} 3",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }

    // Too early: all are rejected again.
    let (_, replayed) = app.post(REPLAY, "").await;
    let none =
        json!({ "accepted": 0, "duplicate": 0, "conflict": 0, "rejected": 3, "next_cursor": null });
    assert_eq!(replayed, none);
    assert_described("ReplayResult", &replayed);
    assert_eq!(orders_of_c1(&app).await, 1.0);

    // Two days later, two of them are in the past. Replayed in parts, then by id.
    hands.store(noon().plus_millis(2 * MILLIS_PER_DAY).millis(), Ordering::Relaxed);
    let reason = "timestamp: lies in the future";
    let ask = json!({ "reason": reason, "limit": 1 });
    let (_, replayed) = app.post(REPLAY, ask.to_string()).await;
    assert_eq!((&replayed["accepted"], &replayed["rejected"]), (&json!(1), &json!(0)));
    let ask = json!({ "reason": reason, "cursor": replayed["next_cursor"] });
    let (_, replayed) = app.post(REPLAY, ask.to_string()).await;
    assert_eq!((&replayed["accepted"], &replayed["next_cursor"]), (&json!(1), &Value::Null));
    assert_eq!(orders_of_c1(&app).await, 3.0);
    let ask = json!({ "failed_event_ids": [newest["failed_event_id"]] });
    let (_, replayed) = app.post(REPLAY, ask.to_string()).await;
    assert_eq!(replayed["rejected"], 1);

    // A replayed event is not replayed again, and counts once.
    let (_, replayed) = app.post(REPLAY, "{}").await;
    assert_eq!((&replayed["accepted"], &replayed["rejected"]), (&json!(0), &json!(1)));
    assert_eq!(orders_of_c1(&app).await, 3.0);
    let (_, list) = app.get("/v1/events/failed").await;
    let outcomes: Vec<&Value> = failed(&list).iter().map(|event| &event["outcome"]).collect();
    assert_eq!(outcomes, [&Value::Null, &json!("accepted"), &json!("accepted")]);
    assert_eq!(failed(&list)[2]["replayed_at"], "2024-05-04T12:00:00.000Z");
    app.stop().await;
}

/// The sender repeats the event before its replay.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_counts_once_whether_sent_or_replayed() {
    let (clock, hands) = TimeSource::manual(noon());
    let app = TestApp::start_at(clock, &[]).await;
    let early = with("early", "timestamp", json!("2024-05-03T12:00:00Z"));
    assert_eq!(app.post("/v1/events", early.to_string()).await.0, 422);
    hands.store(noon().plus_millis(2 * MILLIS_PER_DAY).millis(), Ordering::Relaxed);
    assert_eq!(app.post("/v1/events", early.to_string()).await.0, 200);
    let (one, other) = tokio::join!(app.post(REPLAY, "{}"), app.post(REPLAY, "{}"));
    assert_eq!((&one.1["accepted"], &other.1["accepted"]), (&json!(0), &json!(0)));
    assert_eq!(orders_of_c1(&app).await, 1.0);
    let (_, list) = app.get("/v1/events/failed").await;
    assert_eq!(failed(&list)[0]["outcome"], "duplicate");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_lines_are_stored_and_truncated_ones_are_not_replayed() {
    let app = TestApp::start_with(&[
        ("ingestion.max_event_bytes", "300"),
        ("http.max_line_bytes", "3000"),
    ])
    .await;
    let padded = |length| with("p", "context", json!({ "pad": "x".repeat(length) })).to_string();
    let lines = [
        b"{\"type\": \"tr\xffack\"}".to_vec(),
        b"{\"type\": \"track\", \0}".to_vec(),
        padded(1000).into_bytes(),
        padded(9000).into_bytes(),
        padded(60).into_bytes(),
        "[".repeat(200).into_bytes(),
    ];
    let (_, verdicts) = app.post("/v1/events/bulk", lines.join(&b'\n')).await;
    let verdicts: Vec<Value> = verdicts
        .as_str()
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let rejected = |verdict: &Value| verdict["status"] == "rejected";
    assert_eq!(
        verdicts.iter().map(rejected).collect::<Vec<_>>(),
        [true, true, true, true, false, true]
    );
    let (_, list) = app.get("/v1/events/failed?raw=true&endpoint=bulk").await;
    let kept: Vec<_> = failed(&list)
        .iter()
        .rev()
        .map(|event| {
            let raw = event["raw"].as_str().unwrap();
            (raw.len(), event["is_complete"].as_bool().unwrap(), event["reason"].as_str().unwrap())
        })
        .collect();
    let (unread, large) =
        ("event: is not valid JSON", "event: is larger than 300 bytes (ingestion.max_event_bytes)");
    assert_eq!(
        kept,
        [
            // A text that is not UTF-8 is read as Latin-1. NUL is replaced by U+FFFD, which
            // has three bytes.
            (lines[0].len() + 1, false, unread),
            (lines[1].len() + 2, false, unread),
            (1024, false, large),
            (1024, false, large),
            (200, true, unread),
        ]
    );
    let (_, replayed) = app.post(REPLAY, "").await;
    assert_eq!((&replayed["accepted"], &replayed["rejected"]), (&json!(0), &json!(1)));

    // Text that is whole, and a stored head of 1,024 bytes that ends within a character.
    let body = format!("a{}\n{{\"å\": 1}}", "å".repeat(2000));
    app.post("/v1/events/bulk", body).await;
    let (_, list) = app.get("/v1/events/failed?raw=true&endpoint=bulk&limit=2").await;
    let [whole, head] = &failed(&list)[..] else { panic!("{list}") };
    assert_eq!((&whole["raw"], &whole["is_complete"]), (&json!("{\"å\": 1}"), &json!(true)));
    assert_eq!(head["is_complete"], false);
    assert_eq!(head["raw"].as_str().unwrap().matches('å').count(), 511);

    // In an array only the large event is refused.
    let array = format!("[{},  {} ]", padded(1000), order("a"));
    let (status, answer) = app.post("/v1/events", array).await;
    assert_eq!(status, 207, "{answer}");
    assert_eq!(answer["outcomes"][0]["errors"][0]["field"], "event");
    assert_eq!(answer["outcomes"][1]["status"], "accepted");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_segment_messages_are_stored_without_the_key_and_replayed() {
    let (clock, hands) = TimeSource::manual(noon());
    let app = TestApp::start_at(clock, &[]).await;
    // The type is in the path, the key in the body.
    let early = json!({
        "writeKey": app.key, "event": "Order Completed", "userId": "c1", "messageId": "early",
        "timestamp": "2024-05-03T12:00:00Z", "properties": { "sales_value": 5.5 },
    });
    let (status, answer) = app.post_as(None, "/v1/track", &early.to_string()).await;
    assert_eq!((status, &answer["rejected"]), (200, &json!(1)), "{answer}");

    let (_, list) = app.get("/v1/events/failed?raw=true&endpoint=segment").await;
    let raw = failed(&list)[0]["raw"].as_str().unwrap();
    assert!(!raw.contains(&app.key) && raw.contains(r#""type":"track""#), "{raw}");

    hands.fetch_add(2 * MILLIS_PER_DAY, Ordering::Relaxed);
    let (status, replayed) = app.post(REPLAY, r#"{"endpoint": "segment"}"#).await;
    assert_eq!((status, &replayed["accepted"]), (200, &json!(1)), "{replayed}");
    assert_eq!(orders_of_c1(&app).await, 1.0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_rejections_are_bounded() {
    let (clock, hands) = TimeSource::manual(noon());
    let app = TestApp::start_at(clock, &[("failed_events.max_per_minute", "10")]).await;
    let other = api_keys::create_key(&app.db, &TimeSource::System, "other", &AccessScope::ALL)
        .await
        .unwrap();
    app.app.api_keys.refresh().await.unwrap();
    let rubbish: Vec<Value> = (0..8).map(|n| json!({ "rubbish": n })).collect();
    let body = json!(rubbish).to_string();
    for _ in 0..3 {
        // Each event has its verdict, stored or not.
        let (status, answer) = app.post("/v1/events", body.clone()).await;
        assert_eq!((status, &answer["rejected"]), (422, &json!(8)));
    }
    let kept = async || failed(&app.get("/v1/events/failed?limit=500").await.1).len();
    assert_eq!(kept().await, 10);
    // The limit is per key, and a minute later it starts again.
    app.post_as(Some(&other), "/v1/events", &body).await;
    assert_eq!(kept().await, 18);
    hands.fetch_add(60_000, Ordering::Relaxed);
    app.post("/v1/events/bulk", ndjson(&rubbish)).await;
    assert_eq!(kept().await, 26);
    let (_, metrics) = app.admin("/metrics").await;
    assert!(
        metrics.contains("segmentd_failed_events_total{outcome=\"not_stored\"} 14"),
        "{metrics}"
    );

    // The oldest are deleted by number, and by age.
    let clean_up = async |max_rows, retention_days| {
        let metrics = Arc::new(ServiceMetrics::new(noon(), ObjectiveTargets::default()).unwrap());
        let settings = Settings { retention_days, max_rows, max_per_minute: 1 };
        let clock = app.app.ingestion.now();
        let events =
            FailedEventStore::new(app.db.clone(), TimeSource::manual(clock).0, metrics, settings);
        events.delete_expired().await.unwrap()
    };
    assert_eq!(clean_up(100, 0).await, 0);
    assert_eq!(clean_up(12, 0).await, 14);
    let (_, list) = app.get("/v1/events/failed").await;
    let bulk = failed(&list).iter().filter(|event| event["endpoint"] == "bulk").count();
    assert_eq!((failed(&list).len(), bulk), (12, 8));
    assert_eq!(clean_up(100, 1).await, 0);
    hands.fetch_add(MILLIS_PER_DAY, Ordering::Relaxed);
    // The four of the minute before; then those of the last minute.
    assert_eq!(clean_up(100, 1).await, 4);
    hands.fetch_add(1, Ordering::Relaxed);
    assert_eq!(clean_up(100, 1).await, 8);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_can_read_rejected_bodies() {
    let app = TestApp::start().await;
    let (status, _) = app.post("/v1/events", r#"{"email": "a@example.org"}"#).await;
    assert_eq!(status, 422);
    let key = async |scopes: &[AccessScope]| {
        let key = api_keys::create_key(&app.db, &TimeSource::System, "k", scopes).await.unwrap();
        app.app.api_keys.refresh().await.unwrap();
        key
    };
    let reader = key(&[AccessScope::Read]).await;
    let sender = key(&[AccessScope::Ingest]).await;
    let operator = key(&[AccessScope::Read, AccessScope::Replay]).await;
    let list = "/v1/events/failed";
    let (status, answer) = app.get_as(&reader, list).await;
    assert_eq!((status, failed(&answer).len()), (200, 1));
    assert!(!answer.to_string().contains("example.org"), "{answer}");
    assert_eq!(app.get_as(&reader, "/v1/events/failed?raw=true").await.0, 403);
    assert_eq!(app.get_as(&sender, list).await.0, 403);
    let (status, answer) = app.get_as(&operator, "/v1/events/failed?raw=true").await;
    assert_eq!((status, answer.to_string().contains("example.org")), (200, true));
    assert_eq!(app.post_as(Some(&reader), REPLAY, "{}").await.0, 403);
    assert_eq!(app.post_as(Some(&sender), REPLAY, "{}").await.0, 403);
    assert_eq!(app.post_as(Some(&operator), REPLAY, "{}").await.0, 200);

    for (path, field) in [
        ("/v1/events/failed?cursor=x", "cursor"),
        ("/v1/events/failed?limit=0", "limit"),
        ("/v1/events/failed?resaon=x", "resaon"),
        ("/v1/events/failed?endpoint=bluk", "endpoint"),
        ("/v1/events/failed?key_id=unknown", "key_id"),
        ("/v1/events/failed/summary?since=monday", "since"),
    ] {
        let (status, problem) = app.get(path).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{problem}");
    }
    for (body, field) in [
        (r#"{"failed_event_ids": ["x"]}"#, "failed_event_ids[0]"),
        (r#"{"failed_event_ids": ["987654321"]}"#, "failed_event_ids[0]"),
        (r#"{"limit": 1001}"#, "limit"),
        (r#"{"cursor": "4711"}"#, "cursor"),
        (r#"{"endpoint": "bluk"}"#, "endpoint"),
        (r#"{"key_id": "unknown"}"#, "key_id"),
        (r#"{"id": 1}"#, "id"),
    ] {
        let (status, problem) = app.post(REPLAY, body).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{problem}");
    }
    app.stop().await;
}
