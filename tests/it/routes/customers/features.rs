//! `GET /v1/customers/{customer_id}/features`: features as of an earlier instant, and as known by
//! then.

use std::sync::atomic::{AtomicI64, Ordering};

use segmentd::domain::event::CustomerEvent;
use segmentd::domain::feature::{CustomerState, FeatureValue as Feature};
use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};
use segmentd::domain::wire::elements::JsonElement;
use segmentd::service::clock::TimeSource;
use serde_json::{Map, Value, json};

use crate::support::{TestApp, ndjson};

const HOUR: i64 = 3_600_000;

fn noon() -> Timestamp {
    Timestamp::parse("2024-06-01T12:00:00Z").unwrap()
}

fn days(count: i64) -> Timestamp {
    noon().plus_millis(count * MILLIS_PER_DAY)
}

fn order(id: &str, at: Timestamp, value: impl Into<f64>) -> Value {
    json!({
        "type": "track", "name": "Order Completed", "message_id": id, "customer_id": "c1",
        "timestamp": at.to_string(),
        "properties": {
            "sales_value": value.into(), "retail_disc": 0.1, "coupon_disc": 0.0, "lines": 3,
            "store_id": format!("s{}", id.len() % 3),
        },
    })
}

/// The features computed from the sent events before `at`, without the database.
fn replayed(app: &TestApp, sent: &[Value], at: Timestamp) -> (usize, Map<String, Value>) {
    let set = &app.app.deployments.snapshot().features;
    let read = |event: &Value| {
        let text = event.to_string();
        let event = JsonElement::parse(text.as_bytes());
        app.app.ingestion.read(event, app.app.ingestion.now()).unwrap().event
    };
    let events: Vec<CustomerEvent> = sent.iter().map(read).filter(|e| e.timestamp <= at).collect();
    let row = CustomerState::replay(set, &events).feature_row(set, at);
    let value = |value| match value {
        Feature::Missing => Value::Null,
        Feature::Number(number) => json!(number),
        Feature::Category(text) => json!(text),
    };
    let names = set.features().iter().map(|def| def.name.to_string());
    (events.len(), names.zip(row.0.into_iter().map(value)).collect())
}

async fn features(app: &TestApp, query: &str) -> Value {
    let (status, answer) = app.get(&format!("/v1/customers/c1/features{query}")).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn send(app: &TestApp, events: &[Value]) -> Value {
    let (status, answer) = app.post("/v1/events", json!(events).to_string()).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

fn set(hands: &AtomicI64, at: Timestamp) {
    hands.store(at.millis(), Ordering::Relaxed);
}

#[tokio::test(flavor = "multi_thread")]
async fn features_as_of_an_instant_use_the_events_before_it() {
    let (clock, hands) = TimeSource::manual(noon());
    let app = TestApp::start_at(clock, &[]).await;
    let mut sent: Vec<Value> = (0..40_i32)
        .map(|n| {
            order(
                &format!("{n}"),
                days(i64::from(-3 * n)).plus_millis(i64::from(-n) * HOUR),
                7.3 + f64::from(n),
            )
        })
        .collect();
    let answer = send(&app, &sent).await;
    let seen = app.get("/v1/customers/c1").await.1;

    // Two days later a late order of ten days ago arrives, and a new one.
    set(&hands, days(2));
    let late = order("late", days(-8), 1000.5);
    let new = order("new", days(1), 3.25);
    send(&app, &[late.clone(), new.clone()]).await;
    sent.extend([late, new]);

    let last = Timestamp::parse(sent[7]["timestamp"].as_str().unwrap()).unwrap();
    for at in [days(-400), days(-60), last.plus_millis(-1), last, days(-7), noon(), days(2)] {
        let answer = features(&app, &format!("?as_of={at}")).await;
        let (count, expected) = replayed(&app, &sent, at);
        assert_eq!(answer["replayed_events"], count, "{at}");
        assert_eq!(answer["features"], Value::Object(expected), "{at}");
        assert_eq!(answer["as_of"], at.to_string());
        assert_eq!(answer["customer_id"], "c1");
    }
    // Values by plain arithmetic.
    let then = features(&app, &format!("?as_of={}", days(-7))).await;
    assert_eq!(then["features"]["recency_days"], 1.0);
    let by_then = 38.0;
    assert_eq!(then["features"]["orders_365d"], by_then);
    let before = features(&app, &format!("?as_of={}", days(-400))).await;
    assert_eq!(
        (&before["replayed_events"], &before["features"]["orders_365d"]),
        (&json!(0), &json!(0.0))
    );

    // As known then: without the late order.
    let known = features(&app, &format!("?known_by={}", noon())).await;
    assert_eq!(known["features"], seen["features"]);
    assert_eq!(known["replayed_events"], 40);
    let body = json!({ "features": known["features"] }).to_string();
    let (_, score) = app.post("/v1/score", body).await;
    let counted = answer["outcomes"].as_array().unwrap().last().unwrap();
    assert_eq!(score["segment_id"], counted["score"]["segment_id"]);
    let both = features(&app, &format!("?as_of={}&known_by={}", days(2), noon())).await;
    assert_eq!(
        (&both["replayed_events"], &both["as_of"]),
        (&json!(40), &json!(days(2).to_string()))
    );
    assert_ne!(both["features"], known["features"], "windows moved by two days");
    let of_then = features(&app, &format!("?as_of={}", noon())).await;
    assert_eq!(of_then["replayed_events"], 41);

    // The current features come from the stored state; a replay as of now is equal to the
    // bit.
    let now = features(&app, "").await;
    assert_eq!(now["replayed_events"], Value::Null);
    let customer = app.get("/v1/customers/c1").await.1;
    assert_eq!(now["features"], customer["features"]);
    let as_of_now = features(&app, &format!("?as_of={}", now["as_of"].as_str().unwrap())).await;
    assert_eq!(as_of_now["features"], now["features"]);
    assert_eq!(as_of_now["replayed_events"], 42);
    assert_eq!(now["feature_set"], app.app.deployments.snapshot().features.id().as_str());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_is_replayed_page_by_page() {
    let app = TestApp::start().await;
    let now = app.app.ingestion.now();
    // Many events at one instant, so that pages end between them.
    let sent: Vec<Value> = (0..1700_i32)
        .map(|n| {
            let at = now.plus_millis(-HOUR * i64::from(1 + n / 700));
            order(&format!("order-{n}"), at, 0.1 * f64::from(n % 97))
        })
        .collect();
    app.post("/v1/events/bulk", ndjson(&sent)).await;
    let at = app.app.ingestion.now();
    let answer = features(&app, &format!("?as_of={at}")).await;
    assert_eq!(answer["replayed_events"], 1700);
    assert_eq!(answer["features"], Value::Object(replayed(&app, &sent, at).1));
    let middle = now.plus_millis(-HOUR * 2);
    let answer = features(&app, &format!("?as_of={middle}")).await;
    assert_eq!(answer["replayed_events"], 1000);
    assert_eq!(answer["features"], Value::Object(replayed(&app, &sent, middle).1));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_instant_is_refused_by_its_parameter() {
    let (clock, _) = TimeSource::manual(noon());
    let app = TestApp::start_at(clock, &[]).await;
    send(&app, &[order("one", days(-1), 5.0)]).await;
    let refused = async |query: &str| {
        let (status, answer) = app.get(&format!("/v1/customers/c1/features?{query}")).await;
        assert_eq!(status, 422, "{query}: {answer}");
        answer["errors"].as_array().unwrap().clone()
    };
    let faults = refused("as_of=yesterday&known_by=2024-06-01").await;
    let fields: Vec<&Value> = faults.iter().map(|fault| &fault["field"]).collect();
    assert_eq!(fields, ["as_of", "known_by"]);
    let faults = refused("as_of=2024-06-01T00:00:00+02:00").await;
    assert!(faults[0]["problem"].as_str().unwrap().contains("%2B"), "{faults:?}");
    features(&app, "?as_of=2024-06-01T00:00:00%2B02:00").await;
    let faults = refused("known_by=2024-06-01T13:00:00.001Z").await;
    assert_eq!(faults[0]["field"], "known_by");
    assert!(faults[0]["problem"].as_str().unwrap().contains("future"), "{faults:?}");
    let faults = refused("asof=2024-06-01T12:00:00Z").await;
    assert!(faults[0]["problem"].as_str().unwrap().contains("as_of"), "{faults:?}");
    for path in
        ["/v1/customers/c2/features", "/v1/customers/c2/features?as_of=2024-06-01T12:00:00Z"]
    {
        assert_eq!(app.get(path).await.0, 404);
    }
    app.stop().await;
}
