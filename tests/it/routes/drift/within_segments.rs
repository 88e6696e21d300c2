//! Drift within one segment: found in the hourly sample of stored customers, and reported
//! for that segment.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use segmentd::config::DriftCheckSources;
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};

use crate::support::alerting::watcher;

use crate::support::{TestApp, ndjson};

pub(crate) const CUSTOMERS: usize = 600;
pub(crate) const HOUR_MILLIS: i64 = 3_600_000;

/// The segments depend on spend, and not on the rating.
pub(crate) const FEATURES: &str = r#"
[rfm]
recency = { feature = "recency", cuts = [2, 4, 10, 26] }
frequency = { feature = "orders", cuts = [1, 2, 3, 4] }
monetary = { feature = "spend", cuts = [50, 100, 500, 1000] }

[[feature]]
name = "recency"
title = "Days since the last order"
unit = "days"
owner = "crm@example.com"
sensitivity = "internal"
fold = "recency"
from = { kind = "track", name = "Order Completed" }

[[feature]]
name = "orders"
title = "Orders"
unit = "orders"
owner = "crm@example.com"
sensitivity = "internal"
fold = "count"
from = { kind = "track", name = "Order Completed" }

[[feature]]
name = "spend"
title = "Spend"
unit = "USD"
owner = "finance@example.com"
sensitivity = "internal"
fold = "sum"
property = "amount"
where = [{ property = "amount", above = 0 }]
from = { kind = "track", name = "Order Completed" }
window = "lifetime"
encoding = { as = "number", transform = "log1p", weight = 3.0 }

[[feature]]
name = "rating"
title = "Mean rating"
unit = "stars"
owner = "care@example.com"
sensitivity = "internal"
fold = "mean"
property = "rating"
from = { kind = "track", name = "Order Completed" }
window = "lifetime"
encoding = { as = "number" }
"#;

/// One order of a customer, with an amount and a rating.
pub(crate) fn order(customer: usize, id: &str, (amount, rating): (f64, f64)) -> Value {
    json!({
        "type": "track", "name": "Order Completed", "message_id": format!("{id}-{customer}"),
        "customer_id": format!("c{customer:04}"),
        "properties": { "amount": amount, "rating": rating },
    })
}

fn float(small: usize) -> f64 {
    f64::from(u32::try_from(small).unwrap())
}

/// One order of each customer; every third customer spends alike.
pub(crate) fn first_orders() -> Vec<Value> {
    let first = |i: usize| {
        let amount = [20.0, 200.0, 2000.0][i % 3] * (1.0 + 0.01 * float(i % 17));
        order(i, "first", (amount, 1.0 + 0.5 * float(i % 7)))
    };
    (0..CUSTOMERS).map(first).collect()
}

fn segment<'t>(answer: &'t Value, key: &str) -> &'t Value {
    let segments = answer["within"].as_array().unwrap();
    segments.iter().find(|within| within["segment"]["segment_id"] == *key).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_within_one_segment_is_shown_and_raises_an_alert() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(FEATURES.as_bytes()).unwrap();
    let file = file.path().display().to_string();
    let settings = [
        ("drift.flush_seconds", "86400"),
        ("alerts.poll_seconds", "3600"),
        ("features.file", &file),
    ];
    let (clock, now) = TimeSource::manual(TimeSource::System.now());
    let app = TestApp::start_at(clock, &settings).await;
    app.post("/v1/events/bulk", ndjson(&first_orders())).await;
    app.train_with(r#"{"segments": 3, "starts": 5}"#).await;
    let drift = Arc::clone(&app.app.drift);
    let watcher = watcher(&app, DriftCheckSources::Rows);
    let a_day = async || {
        for _ in 0..24 {
            now.fetch_add(HOUR_MILLIS, Ordering::Relaxed);
            // Two replicas count at once: it counts once.
            let both = tokio::join!(drift.count_hourly_sample(), drift.count_hourly_sample());
            assert!(both.0.is_ok() && both.1.is_ok());
            watcher.check_if_due().await.unwrap();
        }
    };

    a_day().await;
    let (status, answer) = app.get("/v1/drift?source=customers").await;
    assert_eq!((status, &answer["scored"]), (200, &json!(CUSTOMERS)));
    // Only recency drifts, with time.
    let findings = answer["findings"].as_array().unwrap();
    assert!(findings.iter().all(|one| one["feature"] == "recency"), "{answer}");
    let within = answer["within"].as_array().unwrap();
    assert_eq!(within.len(), 3);
    for segment in within {
        assert_eq!((&segment["rows_before"], &segment["rows_now"]), (&json!(200), &json!(200)));
        assert!(segment["movement"].as_f64() < Some(1e-6), "{segment}");
        assert!(segment["movement_by_chance"].as_f64() > Some(0.09));
        assert!(segment["features"][1]["adjusted_p_value"].as_f64() > Some(0.9), "{segment}");
    }
    // Drift within segments is computed for stored customers only.
    assert!(app.get("/v1/drift").await.1.get("within").is_none());

    // Customers of the middle segment rate one star more: a third of a star over all
    // customers.
    let (_, middle) = app.get("/v1/customers/c0001").await;
    let key = middle["segment_id"].as_str().unwrap();
    let again =
        (1..CUSTOMERS).step_by(3).map(|i| order(i, "again", (0.0, 3.0 + 0.5 * float(i % 7))));
    app.post("/v1/events/bulk", ndjson(&again.collect::<Vec<_>>())).await;
    a_day().await;
    let (_, answer) = app.get("/v1/drift?source=customers").await;
    let moved = segment(&answer, key);
    let rating = &moved["features"][1];
    assert_eq!((&rating["feature"], &rating["column"]), (&json!("rating"), &json!("rating")));
    assert!((rating["in_unit"].as_f64().unwrap() - 1.0).abs() < 0.01, "{rating}");
    assert!(rating["d"].as_f64() > Some(0.9) && rating["adjusted_p_value"].as_f64() < Some(1e-6));
    assert!(moved["movement"].as_f64() > Some(0.5));
    let findings = answer["findings"].as_array().unwrap();
    let found: Vec<&Value> = findings.iter().filter(|one| one["about"] == "within").collect();
    assert_eq!(found.len(), 1, "{answer}");
    assert_eq!(
        (&found[0]["feature"], &found[0]["segment"]["segment_id"]),
        (&json!("rating"), &json!(key))
    );
    assert_eq!(found[0]["owner"], "care@example.com");
    let what = found[0]["description"].as_str().unwrap();
    let name = found[0]["segment"]["name"].as_str().unwrap();
    let start = format!("Mean rating rose in the segment “{name}”: ");
    assert!(what.starts_with(&start), "{what}");
    assert!(what.contains("by about 1 stars on average, "), "{what}");

    // The alert of the owner has a part for that segment.
    let alerts = app.get("/v1/alerts").await.1;
    let alerts = alerts["alerts"].as_array().unwrap();
    let alert = alerts
        .iter()
        .find(|alert| alert["key"] == "drift:values:customers:Order_Completed:care@example.com")
        .unwrap_or_else(|| panic!("{alerts:?}"));
    assert_eq!(alert["severity"], "critical");
    let parts = alert["parts"].as_array().unwrap();
    let within: Vec<&Value> = parts.iter().filter(|part| part["about"] == "within").collect();
    assert_eq!(within.len(), 1, "{alert}");
    assert_eq!((&within[0]["feature"], &within[0]["segment_id"]), (&json!("rating"), &json!(key)));
    assert!(!alerts.iter().any(|alert| alert.to_string().contains("\"spend")), "{alerts:?}");

    // The policy can change the thresholds at run time.
    let change = json!({
        "policy": { "drift": { "movement": { "notice": 3.0, "warning": 4.0, "critical": 5.0 } } },
        "reason": "a campaign",
    });
    assert_eq!(app.patch("/v1/policy", change.to_string()).await.0, 200);
    let (_, answer) = app.get("/v1/drift?source=customers").await;
    let findings = answer["findings"].as_array().unwrap();
    assert!(!findings.iter().any(|one| one["about"] == "within"), "{answer}");
    let wrong = json!({ "policy": { "drift": { "movement": { "notice": 9.0 } } }, "reason": "no" });
    let (status, problem) = app.patch("/v1/policy", wrong.to_string()).await;
    assert!(status == 422 && problem.to_string().contains("drift.movement"), "{problem}");
    app.stop().await;
}
