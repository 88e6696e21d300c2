//! Customer value, from orders to answers, exports, segments and metrics; with the clock.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use segmentd::domain::stats::RandomStream;
use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};

use crate::support::{TestApp, eventually, ndjson};

pub(super) const START: i64 = 19_700 * MILLIS_PER_DAY + MILLIS_PER_DAY / 3;
pub(super) const CUSTOMERS: usize = 1_000;
const SPAN_DAYS: f64 = 500.0;

/// Orders of customers who leave after an order with a probability of their own.
pub(super) fn shop() -> Vec<Value> {
    let mut rng = RandomStream::new(24, 0);
    let mut events = Vec::new();
    for customer in 0..CUSTOMERS {
        // Rates from a gamma distribution, leaving probabilities from a beta distribution.
        let rate = -(rng.uniform_unit() * rng.uniform_unit()).ln() / 60.0;
        let leaves = 1.0 - rng.uniform_unit().powf(0.25);
        let value = 20.0 + 60.0 * rng.uniform_unit();
        let mut day = SPAN_DAYS * 0.4 * rng.uniform_unit();
        let mut order = 0;
        while day < SPAN_DAYS {
            let amount = value * (0.5 + rng.uniform_unit());
            events.push(order_event(customer, order, day - SPAN_DAYS, amount));
            if rng.uniform_unit() < leaves {
                break;
            }
            day += -rng.uniform_unit().ln() / rate;
            order += 1;
        }
    }
    events
}

pub(super) fn order_event(customer: usize, order: usize, day: f64, amount: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "days of two years")]
    let millis = START + (day * 86_400_000.0) as i64;
    json!({
        "type": "track",
        "name": "Order Completed",
        "message_id": format!("m{customer}-{order}"),
        "customer_id": format!("c{customer:04}"),
        "timestamp": Timestamp::from_millis(millis).to_string(),
        "properties": {
            "order_id": format!("o{customer}-{order}"), "sales_value": (amount * 100.0).round() / 100.0,
            "lines": 3,
        },
    })
}

pub(super) fn number(value: &Value, field: &str) -> f64 {
    value[field].as_f64().unwrap_or_else(|| panic!("{field} of {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_become_forecasts_in_every_answer() {
    let (clock, handle) = TimeSource::manual(Timestamp::from_millis(START));
    let app = TestApp::start_at(clock, &[]).await;
    let (status, answer) = app.post("/v1/events/bulk", ndjson(&shop())).await;
    assert_eq!(status, 200, "{answer}");
    let (_, before) = app.get("/v1/customers/c0001").await;
    assert_eq!(before["value"], Value::Null, "before a training: {before}");
    app.train_with(r#"{"segments": 3, "starts": 2}"#).await;

    let (_, deployment) = app.get("/v1/deployment").await;
    let model = deployment["active_model_id"].as_str().unwrap();
    let (status, of_model) = app.get(&format!("/v1/models/{model}/value")).await;
    assert_eq!(status, 200, "{of_model}");
    assert_eq!(of_model["missing"], Value::Null);
    let fitted = &of_model["value"];
    assert_eq!(fitted["reliable"], true, "{fitted}");
    assert_eq!(fitted["customers"], CUSTOMERS);
    assert_eq!(fitted["holdout"]["candidates"].as_array().unwrap().len(), 3);
    let ratio = number(&fitted["holdout"], "spend_ratio");
    assert!((0.8..1.25).contains(&ratio), "{fitted}");

    let (status, picture) = app.get(&format!("/v1/models/{model}/value/picture.svg")).await;
    let picture = picture.as_str().unwrap();
    assert_eq!(status, 200, "{picture}");
    assert!(picture.contains("orders that came") && picture.ends_with("</svg>\n"), "{picture}");

    // The answer of an event has the same forecasts as the customer.
    let event = order_event(1, 1000, 0.0, 50.0);
    let (status, answer) = app.post("/v1/events", event.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    let summary = &answer["outcomes"][0]["value"];
    let (_, customer) = app.get("/v1/customers/c0001").await;
    let value = &customer["value"];
    for (field, expected) in summary.as_object().unwrap() {
        let found = &value[field];
        match (expected.as_f64(), found.as_f64()) {
            (Some(expected), Some(found)) => {
                assert!((found - expected).abs() <= 1e-9 * expected, "{field}: {found}");
            }
            _ => assert_eq!(found, expected, "{field}"),
        }
    }
    assert!(number(value, "churn_probability") < 0.5, "{value}");
    assert!(number(value, "predicted_clv_30d") < number(value, "predicted_clv_90d"));
    assert!(number(value, "predicted_clv_90d") < number(value, "predicted_clv"));
    assert!(number(value, "predicted_clv") < number(value, "lifetime_value"));
    let total = number(value, "historic_clv") + number(value, "predicted_clv");
    assert!((number(value, "total_clv") - total).abs() < 1e-9);
    for field in ["churn_probability", "predicted_number_of_orders", "predicted_clv"] {
        let [low, high] = [0, 1].map(|side| value["intervals"][field][side].as_f64().unwrap());
        assert!(low <= high && high.is_finite(), "{field} of {value}");
    }

    // The export has them too.
    let (_, csv) = app.get("/v1/assignments?format=csv").await;
    let mut lines = csv.as_str().unwrap().lines();
    let (header, row) = (lines.next().unwrap(), lines.find(|line| line.starts_with("c0001")));
    let row: BTreeMap<&str, &str> = header.split(',').zip(row.unwrap().split(',')).collect();
    assert_eq!(row["value_reliable"], "true");
    let exported: f64 = row["predicted_clv"].parse().unwrap();
    assert!((exported - number(value, "predicted_clv")).abs() < 1e-9);

    // Segments add up to all customers, and the metrics show the same.
    let (_, segments) = app.get("/v1/segments").await;
    let segments = segments["segments"].as_array().unwrap();
    let values: Vec<&Value> = segments.iter().map(|segment| &segment["profile"]["value"]).collect();
    let shares: f64 = values.iter().map(|value| number(value, "share")).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{values:?}");
    for value in &values {
        assert!(number(value, "value_at_risk") <= number(value, "predicted_clv"), "{value}");
    }
    eventually("the metrics of segments are exported", async || {
        let (_, metrics) = app.admin("/metrics").await;
        ["churn_probability", "predicted_spend", "value_at_risk"].iter().all(|figure| {
            let name = format!("segmentd_segment_{figure}{{");
            metrics.lines().filter(|line| line.starts_with(&name)).count() == segments.len()
        })
    })
    .await;

    // Forecasts move with the clock, without an event.
    handle.store(START + 120 * MILLIS_PER_DAY, Ordering::Relaxed);
    let (_, later) = app.get("/v1/customers/c0001").await;
    let later = &later["value"];
    assert!(number(later, "churn_probability") > number(value, "churn_probability"), "{later}");
    assert!(number(later, "predicted_clv") < number(value, "predicted_clv"), "{later}");
    app.stop().await;
}

/// A returned order leaves the forecasts at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_return_lowers_the_value() {
    let (clock, _) = TimeSource::manual(Timestamp::from_millis(START));
    let app = TestApp::start_at(clock, &[]).await;
    let (status, _) = app.post("/v1/events/bulk", ndjson(&shop())).await;
    assert_eq!(status, 200);
    app.train_with(r#"{"segments": 3, "starts": 2}"#).await;
    let send = async |event: Value| {
        let (status, answer) = app.post("/v1/events", event.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        answer["outcomes"][0]["value"].clone()
    };
    let before = send(order_event(2, 1000, -0.2, 1.0)).await;
    let bought = send(order_event(2, 1001, -0.1, 500.0)).await;
    assert!(number(&bought, "predicted_clv") > number(&before, "predicted_clv"));
    let mut refund = order_event(2, 1001, 0.0, 500.0);
    refund["name"] = "Order Refunded".into();
    refund["message_id"] = "refund".into();
    let refunded = send(refund).await;
    let [refunded, before] = [&refunded, &before].map(|value| number(value, "predicted_clv"));
    assert!((refunded - before).abs() < 1e-9 * before, "{refunded} is not {before}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_history_has_no_value_and_says_why() {
    let app = TestApp::start().await;
    let (status, _) = app.post("/v1/events/bulk", ndjson(&crate::support::orders(200, 2))).await;
    assert_eq!(status, 200);
    app.train_with(r#"{"segments": 3, "starts": 2}"#).await;
    let (_, deployment) = app.get("/v1/deployment").await;
    let model = deployment["active_model_id"].as_str().unwrap();
    let (status, value) = app.get(&format!("/v1/models/{model}/value")).await;
    assert_eq!((status, &value["value"]), (200, &Value::Null));
    let (status, _) = app.get(&format!("/v1/models/{model}/value/picture.svg")).await;
    assert_eq!(status, 404);
    let missing = value["missing"].as_str().unwrap();
    assert!(missing.contains("270 are needed"), "{missing}");
    let (_, segments) = app.get("/v1/segments").await;
    assert_eq!(segments["segments"][0]["profile"]["value"], Value::Null);
    let segment = segments["segments"][0]["segment_id"].as_str().unwrap();
    assert!(!app.app.segment_values.take_if_due().await.unwrap(), "a snapshot without forecasts");
    let (status, over_time) = app.get(&format!("/v1/segments/{segment}/value")).await;
    assert_eq!((status, &over_time["snapshots"]), (200, &serde_json::json!([])));
    let missing = over_time["missing"].as_str().unwrap();
    assert!(missing.contains("no model of customer value: the orders span"), "{missing}");
    app.stop().await;
}
