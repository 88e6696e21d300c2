//! `GET /v1/customers/{customer_id}` and `/history`: hysteresis of a customer at the border of two
//! segments, and changes of one instant.

use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};
use segmentd::service::clock::TimeSource;
use segmentd::store::customers::assignments::{NewAssignmentChange, record_changes};
use serde_json::{Value, json};

use crate::support::models::assigned_by_rules;
use crate::support::pages::all_pages;
use crate::support::{NO_AUDIENCES, TestApp, ndjson, orders};

const CUSTOMERS: usize = 120;

/// The customers three days after the first model, after one more order each.
async fn three_days_later(settings: &[(&str, &str)]) -> (TestApp, Vec<Value>) {
    let (clock, handle) = TimeSource::manual(TimeSource::System.now());
    let settings = [&[("scheduled_rescoring.poll_seconds", "86400")], settings].concat();
    let app = TestApp::start_at(clock.clone(), &settings).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 6))).await;
    app.train_with(r#"{"segments": 4, "starts": 3}"#).await;
    // Every customer orders once more: most stay, some come near a border or cross it.
    let now = clock.now().plus_millis(3 * MILLIS_PER_DAY);
    handle.store(now.millis(), std::sync::atomic::Ordering::Relaxed);
    let more: Vec<Value> = (0..CUSTOMERS).map(|customer| order(customer, now)).collect();
    app.post("/v1/events/bulk", ndjson(&more)).await;
    let mut standings = Vec::new();
    for customer in 0..CUSTOMERS {
        standings.push(app.get(&format!("/v1/customers/c{customer:04}")).await.1);
    }
    (app, standings)
}

fn order(customer: usize, at: Timestamp) -> Value {
    json!({
        "type": "track", "name": "Order Completed", "message_id": format!("more-{customer}"),
        "customer_id": format!("c{customer:04}"), "timestamp": at.to_string(),
        "properties": { "sales_value": 40 + customer % 50, "lines": 3, "store_id": "1" },
    })
}

/// The stateless scores of the stored feature rows.
async fn scores(app: &TestApp, standings: &[Value]) -> Vec<Value> {
    let rows: Vec<&Value> = standings.iter().map(|assignment| &assignment["features"]).collect();
    let (status, answer) = app.post("/v1/score", json!({ "rows": rows }).to_string()).await;
    assert_eq!(status, 200, "{answer}");
    answer["scores"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_customer_is_marked_and_stateless_rows_are_not() {
    let (app, standings) = three_days_later(&[("hysteresis.min_relative_advantage", "0.3")]).await;
    let mut held = 0;
    for (assignment, score) in standings.iter().zip(scores(&app, &standings).await) {
        let is_nearest = assignment["segment_id"] == score["segment_id"];
        assert_eq!(
            assignment["retained_by_hysteresis"],
            json!(!is_nearest),
            "{assignment} {score}"
        );
        let (own, nearest) = (&assignment["distance"], &score["distance"]);
        if !is_nearest {
            held += 1;
            assert_eq!(assignment["confidence"], 0.0);
            let (own, nearest) = (own.as_f64().unwrap(), nearest.as_f64().unwrap());
            assert!(nearest < own && nearest >= 0.7 * own, "{nearest} {own}");
            let path =
                format!("/v1/customers/{}/history", assignment["customer_id"].as_str().unwrap());
            let (_, history) = app.get(&path).await;
            assert_eq!(history["changes"][0]["segment_id"], assignment["segment_id"]);
        }
        assert_eq!(
            (&assignment["p_value"], &assignment["outlier"]),
            (&score["p_value"], &score["outlier"])
        );
    }
    assert!(held > 0, "no customer is near a border");
    assert_eq!(
        app.metric(r#"segmentd_assignments_total{decision="retained_by_hysteresis"}"#).await,
        held
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_hysteresis_every_customer_is_in_the_nearest_segment() {
    let (app, standings) = three_days_later(&[("hysteresis.min_relative_advantage", "0")]).await;
    for (assignment, score) in standings.iter().zip(scores(&app, &standings).await) {
        assert_eq!(assignment["segment_id"], score["segment_id"]);
        assert_eq!(assignment["retained_by_hysteresis"], json!(false));
    }
    assert_eq!(
        app.metric(r#"segmentd_assignments_total{decision="retained_by_hysteresis"}"#).await,
        0
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_one_instant_are_listed_once() {
    let app = TestApp::start().await;
    let event = json!({ "type": "track", "name": "Order Completed", "customer_id": "c1" });
    assert_eq!(app.post("/v1/events", event.to_string()).await.0, 200);
    let at = Timestamp::from_millis(1_000);
    let customer = "c1".parse().unwrap();
    let mut tx = app.db.begin().await.unwrap();
    for segment in ["lost", "at_risk", "promising"] {
        let now = assigned_by_rules(segment, at);
        let change = NewAssignmentChange {
            customer: &customer,
            now: &now,
            before: None,
            audiences: &NO_AUDIENCES,
            is_of_audiences_only: false,
        };
        record_changes(&mut tx, &[change]).await.unwrap();
    }
    tx.commit().await.unwrap();
    for limit in [1, 2, 3, 4] {
        let all = all_pages(&app, "/v1/customers/c1/history?", "changes", limit).await;
        let segments: Vec<&str> =
            all[1..].iter().map(|change| change["segment_id"].as_str().unwrap()).collect();
        assert_eq!(segments, ["promising", "at_risk", "lost"], "{limit}");
    }
    let (status, problem) = app.get("/v1/customers/c1/history?cursor=x").await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("cursor")), "{problem}");
    app.stop().await;
}
