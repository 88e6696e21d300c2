//! Rejected events: kept, listed, counted, replayed after a fix; and requests
//! that are all or nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::support::{TestApp, ndjson};
use segmentd::config::FailedEvents as Settings;
use segmentd::domain::access::Scope;
use segmentd::domain::fault::Faults;
use segmentd::domain::objective::Objectives;
use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};
use segmentd::domain::wire::Door;
use segmentd::service::api_keys;
use segmentd::service::clock::Clock;
use segmentd::service::failed_events::{FailedEvents, Refused, Source};
use segmentd::telemetry::Metrics;

const REPLAY: &str = "/v1/events/failed/replay";

fn order(id: &str) -> Value {
    json!({
        "type": "track", "name": "Order Completed", "message_id": id, "customer_id": "c1",
        "timestamp": "2024-05-01T10:00:00Z", "properties": { "sales_value": 5.5 },
    })
}

/// `order` with another value in one field.
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

async fn orders_of_c1(app: &TestApp) -> Value {
    app.get("/v1/customers/c1").await.1["features"]["orders_365d"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rejected_is_kept_and_replayed_after_a_fix() {
    let (clock, hands) = Clock::fixed(noon());
    let app = TestApp::start_at(clock, &[]).await;

    // Dated tomorrow by a sender without `sent_at`; once without an id.
    let tomorrow = json!("2024-05-03T12:00:00Z");
    let mut nameless = with("", "timestamp", tomorrow.clone());
    nameless.as_object_mut().unwrap().remove("message_id");
    let batch = json!([
        order("good"),
        with("early", "timestamp", tomorrow),
        nameless,
        with("text", "properties", json!({ "sales_value": "ten", "email": "a@example.org" })),
    ]);
    let sent = batch.to_string();
    let (status, answer) = app.post("/v1/events", sent.clone()).await;
    assert_eq!((status, &answer["rejected"]), (207, &json!(3)), "{answer}");

    // Listed newest first, in pages, as they came.
    let (_, first) = app.get("/v1/events/failed?limit=2&raw=true").await;
    let next = first["next_before"].as_str().unwrap();
    let (_, second) = app.get(&format!("/v1/events/failed?limit=2&raw=true&before={next}")).await;
    assert_eq!((failed(&first).len(), failed(&second).len()), (2, 1));
    assert_eq!(second["next_before"], Value::Null);
    let newest = &failed(&first)[0];
    assert_eq!(newest["door"], "events");
    assert_eq!(newest["received_at"], "2024-05-02T12:00:00.000Z");
    assert_eq!(
        newest["reason"],
        "properties.sales_value: must be a number, as the feature set declares it"
    );
    assert!(newest["faults"].as_str().unwrap().contains("it is a text"), "{newest}");
    assert!(sent.contains(newest["raw"].as_str().unwrap()), "{newest}");
    assert_eq!((&newest["whole"], &newest["replayed_at"]), (&json!(true), &Value::Null));

    // Counted by key, door and reason.
    let (_, summary) = app.get("/v1/events/failed/summary").await;
    let groups = summary["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 2, "{summary}");
    assert_eq!(groups[0]["reason"], "timestamp: lies in the future");
    assert_eq!((&groups[0]["events"], &groups[0]["replayed"]), (&json!(2), &json!(0)));
    assert_eq!(groups[0]["key"], newest["key"]);
    let (_, later) = app.get("/v1/events/failed/summary?since=2024-05-02T12:00:01Z").await;
    assert_eq!(later["groups"], json!([]));
    let (_, metrics) = app.admin("/metrics").await;
    for line in [
        "segmentd_events_rejected_total{field=\"timestamp\"} 2",
        "segmentd_events_rejected_total{field=\"property\"} 1",
        "segmentd_failed_events_total{outcome=\"kept\"} 3",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }

    // Too early: everything is rejected again.
    let (_, replayed) = app.post(REPLAY, "").await;
    let none = json!({ "accepted": 0, "duplicate": 0, "rejected": 3, "next_after": null });
    assert_eq!(replayed, none);
    assert_eq!(orders_of_c1(&app).await, 1.0);

    // Two days on, two of them lie in the past. In parts, then by id.
    hands.store(noon().plus_millis(2 * MILLIS_PER_DAY).millis(), Ordering::Relaxed);
    let reason = "timestamp: lies in the future";
    let ask = json!({ "reason": reason, "limit": 1 });
    let (_, replayed) = app.post(REPLAY, ask.to_string()).await;
    assert_eq!((&replayed["accepted"], &replayed["rejected"]), (&json!(1), &json!(0)));
    let ask = json!({ "reason": reason, "after": replayed["next_after"] });
    let (_, replayed) = app.post(REPLAY, ask.to_string()).await;
    assert_eq!((&replayed["accepted"], &replayed["next_after"]), (&json!(1), &Value::Null));
    assert_eq!(orders_of_c1(&app).await, 3.0);
    let ask = json!({ "ids": [newest["id"]] });
    let (_, replayed) = app.post(REPLAY, ask.to_string()).await;
    assert_eq!(replayed["rejected"], 1);

    // What is replayed stays replayed, and counts nothing twice.
    let (_, replayed) = app.post(REPLAY, "{}").await;
    assert_eq!((&replayed["accepted"], &replayed["rejected"]), (&json!(0), &json!(1)));
    assert_eq!(orders_of_c1(&app).await, 3.0);
    let (_, list) = app.get("/v1/events/failed").await;
    let outcomes: Vec<&Value> = failed(&list).iter().map(|event| &event["outcome"]).collect();
    assert_eq!(outcomes, [&Value::Null, &json!("accepted"), &json!("accepted")]);
    assert_eq!(failed(&list)[2]["replayed_at"], "2024-05-04T12:00:00.000Z");
    app.stop().await;
}

/// A replay whose answer was lost, and the sender sends the event itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_counts_once_by_whichever_way_it_comes() {
    let (clock, hands) = Clock::fixed(noon());
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
async fn lines_are_kept_too_and_what_is_not_whole_is_not_replayed() {
    let app =
        TestApp::start_with(&[("intake.max_event_bytes", "300"), ("http.max_line_bytes", "3000")])
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
    let (_, list) = app.get("/v1/events/failed?raw=true&door=bulk").await;
    let kept: Vec<_> = failed(&list)
        .iter()
        .rev()
        .map(|event| {
            let raw = event["raw"].as_str().unwrap();
            (raw.len(), event["whole"].as_bool().unwrap(), event["reason"].as_str().unwrap())
        })
        .collect();
    let (unread, large) =
        ("event: cannot be read", "event: is larger than 300 bytes (intake.max_event_bytes)");
    assert_eq!(
        kept,
        [
            // Each unreadable byte is replaced by a character of three.
            (lines[0].len() + 2, false, unread),
            (lines[1].len() + 2, false, unread),
            (1024, false, large),
            (1024, false, large),
            (200, true, unread),
        ]
    );
    let (_, replayed) = app.post(REPLAY, "").await;
    assert_eq!((&replayed["accepted"], &replayed["rejected"]), (&json!(0), &json!(1)));

    // Of an array, the large one alone is refused, whatever surrounds it.
    let array = format!("[{},  {} ]", padded(1000), order("a"));
    let (status, answer) = app.post("/v1/events", array).await;
    assert_eq!(status, 207, "{answer}");
    assert_eq!(answer["outcomes"][0]["errors"][0]["field"], "event");
    assert_eq!(answer["outcomes"][1]["status"], "accepted");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_form_is_kept_without_the_key_and_replayed() {
    let (clock, hands) = Clock::fixed(noon());
    let app = TestApp::start_at(clock, &[]).await;
    // The kind is in the path, the key in the body.
    let early = json!({
        "writeKey": app.key, "event": "Order Completed", "userId": "c1", "messageId": "early",
        "timestamp": "2024-05-03T12:00:00Z", "properties": { "sales_value": 5.5 },
    });
    let (status, answer) = app.post_as(None, "/v1/track", &early.to_string()).await;
    assert_eq!((status, &answer["rejected"]), (200, &json!(1)), "{answer}");

    let (_, list) = app.get("/v1/events/failed?raw=true&door=segment").await;
    let raw = failed(&list)[0]["raw"].as_str().unwrap();
    assert!(!raw.contains(&app.key) && raw.contains(r#""type":"track""#), "{raw}");

    hands.fetch_add(2 * MILLIS_PER_DAY, Ordering::Relaxed);
    let (status, replayed) = app.post(REPLAY, r#"{"door": "segment"}"#).await;
    assert_eq!((status, &replayed["accepted"]), (200, &json!(1)), "{replayed}");
    assert_eq!(orders_of_c1(&app).await, 1.0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nul_harms_nobody_else() {
    let app = TestApp::start().await;
    let batch = json!([
        order("good"),
        with("name", "name", json!("Order\0Completed")),
        with("text", "properties", json!({ "store_id": "a\0b" })),
        // Dropped at the door, so it does no harm.
        with("dropped", "properties", json!({ "note\0": "a\0b", "context": { "a": "\0" } })),
        with("field", "fi\0eld", json!(1)),
    ]);
    let (status, answer) = app.post("/v1/events", batch.to_string()).await;
    assert_eq!(status, 207, "{answer}");
    let told: Vec<_> = answer["outcomes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|outcome| (outcome["status"].as_str().unwrap(), &outcome["errors"][0]["field"]))
        .collect();
    assert_eq!(
        told,
        [
            ("accepted", &Value::Null),
            ("rejected", &json!("name")),
            ("rejected", &json!("properties.store_id")),
            ("accepted", &Value::Null),
            ("rejected", &json!("fi\0eld")),
        ]
    );
    // Escaped, it can be kept as it came; where it cannot, it is shown as such.
    let (_, list) = app.get("/v1/events/failed?raw=true").await;
    assert_eq!(failed(&list)[0]["reason"], "fi\u{fffd}eld: unknown field");
    assert_eq!(failed(&list)[0]["whole"], true);
    assert_eq!(failed(&list)[2]["raw"], batch[1].to_string());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_request_is_all_or_nothing() {
    let app =
        TestApp::start_with(&[("intake.max_batch_events", "50"), ("intake.shards", "4")]).await;
    let of = |customer: usize| {
        let customer_id = json!(format!("c{customer}"));
        with(&format!("m{customer}"), "customer_id", customer_id)
    };
    let mut batch: Vec<Value> = (0..20).map(of).collect();
    batch[7]["timestamp"] = json!("yesterday");
    let strict = "/v1/events?strict=true";
    let (status, answer) = app.post(strict, json!(batch).to_string()).await;
    assert_eq!(status, 422, "{answer}");
    assert_eq!(
        (&answer["accepted"], &answer["rejected"], &answer["not_counted"]),
        (&json!(0), &json!(1), &json!(19))
    );
    assert_eq!(answer["outcomes"][6]["status"], "not_counted");
    assert_eq!(answer["outcomes"][7]["errors"][0]["field"], "timestamp");
    assert_eq!(app.get("/v1/customers/c0").await.0, 404);
    assert_eq!(failed(&app.get("/v1/events/failed").await.1).len(), 0);

    // Mended it counts whole, in one transaction; and once.
    batch[7] = of(7);
    let before = batches(&app).await;
    let (status, answer) = app.post(strict, json!(batch).to_string()).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(20)), "{answer}");
    assert!(answer.get("not_counted").is_none(), "{answer}");
    assert_eq!(answer["outcomes"][3]["score"]["fallback"], true);
    assert_eq!(batches(&app).await, before + 1);
    let (status, answer) = app.post(strict, json!(batch).to_string()).await;
    assert_eq!((status, &answer["duplicate"]), (200, &json!(20)), "{answer}");

    let many: Vec<Value> = (0..51).map(of).collect();
    let (status, problem) = app.post(strict, json!(many).to_string()).await;
    assert_eq!(status, 422);
    assert!(problem["detail"].as_str().unwrap().contains("intake.max_batch_events"), "{problem}");
    assert_eq!(app.get("/v1/customers/c50").await.0, 404);
    // A misspelt wish is not passed over.
    assert_eq!(app.post("/v1/events?strct=true", json!(many).to_string()).await.0, 422);
    app.stop().await;
}

async fn batches(app: &TestApp) -> u64 {
    let (_, metrics) = app.admin("/metrics").await;
    let count = metrics.lines().find_map(|l| l.strip_prefix("segmentd_intake_batch_events_count "));
    count.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_bounded() {
    let (clock, hands) = Clock::fixed(noon());
    let app = TestApp::start_at(clock, &[("failed_events.max_per_minute", "10")]).await;
    let other = api_keys::create(&app.db, &Clock::System, "other", &Scope::ALL).await.unwrap();
    app.app.access.refresh().await.unwrap();
    let rubbish: Vec<Value> = (0..8).map(|n| json!({ "rubbish": n })).collect();
    let body = json!(rubbish).to_string();
    for _ in 0..3 {
        // Each has its verdict, kept or not.
        let (status, answer) = app.post("/v1/events", body.clone()).await;
        assert_eq!((status, &answer["rejected"]), (422, &json!(8)));
    }
    let kept = async || failed(&app.get("/v1/events/failed?limit=500").await.1).len();
    assert_eq!(kept().await, 10);
    // Nobody's flood takes another's room, and a minute later there is room again.
    app.post_as(Some(&other), "/v1/events", &body).await;
    assert_eq!(kept().await, 18);
    hands.fetch_add(60_000, Ordering::Relaxed);
    app.post("/v1/events/bulk", ndjson(&rubbish)).await;
    assert_eq!(kept().await, 26);
    let (_, metrics) = app.admin("/metrics").await;
    assert!(metrics.contains("segmentd_failed_events_total{outcome=\"not_kept\"} 14"), "{metrics}");

    // The oldest go when there are too many, and when they are too old.
    let clean_up = async |max_rows, keep_days| {
        let metrics = Arc::new(Metrics::new(noon(), Objectives::default()).unwrap());
        let settings = Settings { keep_days, max_rows, max_per_minute: 1 };
        let clock = app.app.intake.now();
        let events = FailedEvents::new(app.db.clone(), Clock::fixed(clock).0, metrics, settings);
        events.clean_up().await.unwrap()
    };
    assert_eq!(clean_up(100, 0).await, 0);
    assert_eq!(clean_up(12, 0).await, 14);
    let (_, list) = app.get("/v1/events/failed").await;
    let bulk = failed(&list).iter().filter(|event| event["door"] == "bulk").count();
    assert_eq!((failed(&list).len(), bulk), (12, 8));
    assert_eq!(clean_up(100, 1).await, 0);
    hands.fetch_add(MILLIS_PER_DAY, Ordering::Relaxed);
    // The four of a minute before; then those of the minute itself.
    assert_eq!(clean_up(100, 1).await, 4);
    hands.fetch_add(1, Ordering::Relaxed);
    assert_eq!(clean_up(100, 1).await, 8);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_for_operators() {
    let app = TestApp::start().await;
    let (status, _) = app.post("/v1/events", r#"{"email": "a@example.org"}"#).await;
    assert_eq!(status, 422);
    let key = async |scopes: &[Scope]| {
        let key = api_keys::create(&app.db, &Clock::System, "k", scopes).await.unwrap();
        app.app.access.refresh().await.unwrap();
        key
    };
    let reader = key(&[Scope::Read]).await;
    let sender = key(&[Scope::Ingest]).await;
    let operator = key(&[Scope::Read, Scope::Replay]).await;
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
        ("/v1/events/failed?before=x", "before"),
        ("/v1/events/failed?limit=0", "limit"),
        ("/v1/events/failed?resaon=x", "query"),
        ("/v1/events/failed/summary?since=monday", "query"),
    ] {
        let (status, problem) = app.get(path).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{problem}");
    }
    for body in [r#"{"ids": ["x"]}"#, r#"{"limit": 1001}"#, r#"{"id": 1}"#] {
        assert_eq!(app.post(REPLAY, body).await.0, 422, "{body}");
    }
    app.stop().await;
}

/// A rejection that cannot be kept is not answered as one.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_nothing_is_acknowledged() {
    let app = TestApp::start().await;
    let source = Source { door: Door::Events, key_id: "k", is_public: false };
    let refused = || Err(Refused::new(Faults::one("event", "is rubbish"), b"rubbish"));
    let accept = async || {
        let when = segmentd::service::ingestion::WhenFull::Refuse;
        app.app.intake.accept(vec![refused()], source, noon(), when).await
    };
    assert_eq!(accept().await.unwrap().len(), 1);
    app.db.close().await;
    let error = accept().await.unwrap_err();
    assert!(matches!(error, segmentd::service::ServiceError::Unavailable(_)), "{error:?}");
    app.stop().await;
}
