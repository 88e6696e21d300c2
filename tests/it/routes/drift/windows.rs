//! `GET /v1/drift`: scores are counted on every replica, and compared with the training
//! rows.

use std::sync::atomic::Ordering;
use std::time::Duration;

use segmentd::domain::drift::{
    self, CountedRow, CustomerBucket, DriftLimits, DriftWindow, ScoreSource, WindowLayout,
};
use segmentd::domain::feature::{FeatureRow, FeatureValue};
use segmentd::domain::model::Model;
use segmentd::service::clock::TimeSource;
use segmentd::store::{TimeRange, drift as windows};
use serde_json::{Value, json};

use crate::support::{TestApp, ndjson, orders};

/// Enough customers that the held-out ones calibrate outliers.
const CUSTOMERS: usize = 400;
/// Only the test flushes the counts.
const BY_HAND: [(&str, &str); 1] = [("drift.flush_seconds", "86400")];
const HOUR_MILLIS: i64 = 3_600_000;

/// The features of every customer as a row, and as JSON.
async fn rows(app: &TestApp) -> Vec<(FeatureRow, Value)> {
    let mut rows = Vec::new();
    for customer in 0..CUSTOMERS {
        let (_, body) = app.get(&format!("/v1/customers/c{customer:04}")).await;
        rows.push((row(app, &body["features"]), body["features"].clone()));
    }
    rows
}

fn row(app: &TestApp, features: &Value) -> FeatureRow {
    let value = |name: &str| match &features[name] {
        Value::Number(number) => FeatureValue::Number(number.as_f64().unwrap()),
        Value::String(text) => FeatureValue::Category(text.as_str().into()),
        _ => FeatureValue::Missing,
    };
    let deployment = app.app.deployments.snapshot();
    FeatureRow(deployment.features.features().iter().map(|def| value(&def.name)).collect())
}

/// The expected window of these rows, of unknown customers.
fn counted<'r>(model: &Model, rows: impl IntoIterator<Item = &'r FeatureRow>) -> DriftWindow {
    counted_of(model, rows, None)
}

/// The expected window of these rows of one customer.
fn counted_of<'r>(
    model: &Model,
    rows: impl IntoIterator<Item = &'r FeatureRow>,
    customer: Option<CustomerBucket>,
) -> DriftWindow {
    let layout = WindowLayout::of(model);
    let (mut window, mut scratch) = (layout.empty(), model.scratch());
    for row in rows {
        let score = model.score(row, &mut scratch);
        let counted = CountedRow::new(row, &score, score.is_outlier(0.01));
        layout.count_row(&mut window, &CountedRow { customer, ..counted });
    }
    window
}

fn sum<'w>(model: &Model, windows: impl IntoIterator<Item = &'w DriftWindow>) -> DriftWindow {
    let mut sum = WindowLayout::of(model).empty();
    windows.into_iter().for_each(|window| sum.merge(window).unwrap());
    sum
}

/// The stored window of this model, of all replicas.
async fn stored(app: &TestApp, model: &Model) -> DriftWindow {
    let width = WindowLayout::of(model).width();
    let since = segmentd::domain::time::Timestamp::default();
    let until = TimeSource::System.now().plus_millis(365 * 24 * HOUR_MILLIS);
    let query = windows::DriftWindowQuery {
        model: model.id(),
        sources: &ScoreSource::ANSWERED,
        width,
        period: TimeRange { since, until },
    };
    let hours = windows::list_hours(app.db.read(), &query, 0).await.unwrap();
    sum(model, hours.iter().map(|hour| &hour.window))
}

async fn score(app: &TestApp, rows: &[Value]) {
    let (status, answer) = app.post("/v1/score", json!({ "rows": rows }).to_string()).await;
    assert_eq!((status, answer["fallback"].as_bool()), (200, Some(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_score_is_counted_once_across_replicas() {
    let (clock, _) = TimeSource::manual(TimeSource::System.now());
    let app = TestApp::start_at(clock, &BY_HAND).await;
    let (status, problem) = app.get("/v1/drift").await;
    assert_eq!((status, &problem["type"]), (409, &json!("/docs#problem-conflict")));
    // Scores of the fallback are not counted.
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    app.train().await;
    let model = app.app.deployments.snapshot().active.clone().unwrap();
    app.app.drift.flush().await.unwrap();
    assert_eq!(stored(&app, &model).await, WindowLayout::of(&model).empty());

    // On every endpoint: many rows, one with reasons, one as tensors.
    let (rows, bodies): (Vec<FeatureRow>, Vec<Value>) = rows(&app).await.into_iter().unzip();
    score(&app, &bodies).await;
    let explained = json!({ "features": bodies[3], "explain": true }).to_string();
    assert!(app.post("/v1/score", explained).await.1["reasons"].is_array());
    let numbers = bodies[4].as_object().unwrap().iter().filter(|(_, value)| value.is_number());
    let numbers: serde_json::Map<String, Value> =
        numbers.map(|(name, value)| (name.clone(), value.clone())).collect();
    let input = |(name, value): (&String, &Value)| json!({ "name": name, "datatype": "FP64", "shape": [1], "data": [value] });
    let inputs: Vec<Value> = numbers.iter().map(input).collect();
    let request = json!({ "inputs": inputs }).to_string();
    let (status, reply) = app.post("/v2/models/segments/infer", request).await;
    assert_eq!(status, 200, "{reply}");
    let as_tensors = row(&app, &numbers.into());
    // A refused request is not counted.
    let wrong = json!({ "rows": [bodies[0], { "spend_365d": "much" }] }).to_string();
    assert_eq!(app.post("/v1/score", wrong).await.0, 422);
    // Two new events of one customer in one commit, and a duplicate.
    let mut new = orders(2, 0);
    new[1] = new[0].clone();
    new[0]["message_id"] = "new-1".into();
    new[1]["message_id"] = "new-2".into();
    new.push(orders(1, 0).remove(0));
    let (_, answer) = app.post("/v1/events", json!(new).to_string()).await;
    assert_eq!((&answer["accepted"], &answer["duplicate"]), (&json!(2), &json!(1)));
    let (_, customer) = app.get("/v1/customers/c0000").await;
    let after = row(&app, &customer["features"]);
    // One more event of the customer, which is in the cache now.
    new[0]["message_id"] = "new-3".into();
    let (_, answer) = app.post("/v1/events", new[0].to_string()).await;
    assert_eq!(answer["accepted"], 1);
    let (_, customer) = app.get("/v1/customers/c0000").await;
    let alone = row(&app, &customer["features"]);

    let of_requests = counted(&model, rows.iter().chain([&rows[3], &as_tensors]));
    let customer = CustomerBucket::of(&"c0000".parse().unwrap());
    let of_events = counted_of(&model, [&after, &alone], Some(customer));
    let expected = sum(&model, [&of_requests, &of_events]);
    // The counts are in memory until the flush.
    assert_eq!(stored(&app, &model).await, WindowLayout::of(&model).empty());
    app.app.drift.flush().await.unwrap();
    app.app.drift.flush().await.unwrap();
    assert_eq!(stored(&app, &model).await, expected);
    let check = drift::check_window(&model, &expected, &DriftLimits::default()).unwrap();
    let (status, report) = app.get("/v1/drift?source=all").await;
    assert_eq!((status, &report["scored"]), (200, &json!(CUSTOMERS + 4)));
    for (name, figures) in serde_json::to_value(&check).unwrap().as_object().unwrap() {
        assert_eq!(report[name], *figures, "{name}");
    }
    assert_eq!(app.get("/v1/drift?source=events").await.1["scored"], 2);
    assert_eq!(app.get("/v1/drift").await.1["scored"], json!(CUSTOMERS + 2));

    // Two replicas flush at the same time; one with drift disabled counts nothing.
    let two = app.replica_with(&BY_HAND).await;
    let quiet = app.replica_with(&[("drift.enabled", "false")]).await;
    for replica in [&app, &two, &quiet] {
        score(replica, &bodies).await;
    }
    let flushed = tokio::join!(app.app.drift.flush(), two.app.drift.flush());
    assert!(flushed.0.is_ok() && flushed.1.is_ok());
    quiet.app.drift.flush().await.unwrap();
    let once = counted(&model, &rows);
    assert_eq!(stored(&app, &model).await, sum(&model, [&expected, &once, &once]));

    // A process flushes when it stops.
    score(&two, &bodies).await;
    two.stop().await;
    assert_eq!(stored(&app, &model).await, sum(&model, [&expected, &once, &once, &once]));
    quiet.stop().await;
    app.stop().await;
}

/// The previous model keeps its counts; scores of a canary count for the canary.
#[tokio::test(flavor = "multi_thread")]
async fn each_model_counts_its_own_scores() {
    let app = TestApp::start_with(&BY_HAND).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    let first = app.train().await["model_id"].as_str().unwrap().to_owned();
    let (_, bodies): (Vec<FeatureRow>, Vec<Value>) = rows(&app).await.into_iter().unzip();
    score(&app, &bodies[..40]).await;
    let second = app.train_with(r#"{"segments": 2, "starts": 3}"#).await;
    let second = second["model_id"].as_str().unwrap().to_owned();
    score(&app, &bodies[..30]).await;
    let ask = json!({ "share": 1.0, "force": true, "reason": "a test" }).to_string();
    let (status, deployment) = app.post(&format!("/v1/models/{first}/canary"), ask).await;
    assert_eq!(status, 200, "{deployment}");
    let named = json!({ "features": bodies[0], "customer_id": "c0000" }).to_string();
    assert_eq!(app.post("/v1/score", named).await.1["model_id"], json!(first));
    app.app.drift.flush().await.unwrap();
    for (model, scored) in [(&first, 41), (&second, 30)] {
        let (_, answer) = app.get(&format!("/v1/drift?model_id={model}")).await;
        assert_eq!((&answer["model_id"], &answer["scored"]), (&json!(model), &json!(scored)));
    }
    assert_eq!(app.get("/v1/drift").await.1["model_id"], json!(second));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shift_is_found_and_names_its_owner() {
    let start = TimeSource::System.now();
    let (clock, now) = TimeSource::manual(start);
    let settings = [BY_HAND[0], ("drift.retention_days", "2")];
    let app = TestApp::start_at(clock, &settings).await;
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    app.train().await;
    let (_, mut bodies): (Vec<FeatureRow>, Vec<Value>) = rows(&app).await.into_iter().unzip();

    // The training rows are no drift.
    score(&app, &bodies).await;
    app.app.drift.flush().await.unwrap();
    let (_, answer) = app.get("/v1/drift").await;
    assert_eq!((&answer["is_enough"], &answer["findings"]), (&json!(true), &json!([])), "{answer}");

    // Three hours later every customer seems to spend three times as much.
    now.store(start.plus_millis(3 * HOUR_MILLIS).millis(), Ordering::Relaxed);
    for body in &mut bodies {
        body["spend_365d"] = json!(body["spend_365d"].as_f64().unwrap() * 3.0);
    }
    score(&app, &bodies).await;
    app.app.drift.flush().await.unwrap();
    let (_, answer) = app.get("/v1/drift?hours=1").await;
    let findings = answer["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["feature"] == "spend_365d").unwrap();
    assert_eq!((&found["about"], &found["severity"]), (&json!("values"), &json!("critical")));
    assert_eq!((&found["owner"], &found["unit"]), (&json!("finance@example.com"), &json!("USD")));
    assert!(
        found["description"].as_str().unwrap().starts_with("Spend net of returns, 365 days rose"),
        "{found}"
    );
    assert!(found["advice"].as_str().unwrap().starts_with("finance@example.com: "), "{found}");
    assert_eq!(findings.iter().filter(|one| !one["feature"].is_null()).count(), 1, "{answer}");

    // The history.
    assert_eq!(app.get("/v1/drift").await.1["scored"], json!(2 * CUSTOMERS));
    let (_, answer) = app.get("/v1/drift/history?by=hour").await;
    let lines = answer["history"].as_array().unwrap();
    assert_eq!(lines.len(), 2, "{answer}");
    assert_eq!((&lines[0]["findings"], &lines[0]["scored"]), (&json!(0), &json!(CUSTOMERS)));
    assert_eq!(lines[1]["largest_psi"]["feature"], "spend_365d");
    assert!(lines[1]["findings"].as_u64() > Some(0) && lines[1]["outlier_rate"].is_number());
    let (_, answer) = app.get("/v1/drift/history?by=day&hours=48").await;
    let days = answer["history"].as_array().unwrap();
    let scored: u64 = days.iter().map(|day| day["scored"].as_u64().unwrap()).sum();
    assert_eq!(scored, 2 * CUSTOMERS as u64);

    // As a picture, and in the metrics.
    let (status, picture) = app.get("/v1/drift/features/spend_365d/picture.svg?hours=1").await;
    let picture = picture.as_str().unwrap();
    assert!(
        status == 200
            && picture.starts_with("<svg")
            && picture.contains("Spend net of returns, 365 days")
    );
    app.app.drift.update_metrics().await.unwrap();
    let (_, metrics) = app.admin("/metrics").await;
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    };
    assert!(value("segmentd_drift_psi{feature=\"spend_365d\"}") > 0.1);
    assert!(value("segmentd_drift_findings{source=\"rows\"}") >= 1.0);
    let at = Duration::from_millis(now.load(Ordering::Relaxed).unsigned_abs()).as_secs_f64();
    assert!((value("segmentd_drift_last_flush_timestamp_seconds") - at).abs() < 1.0);

    // Invalid requests.
    for (path, status) in [
        ("/v1/drift?hours=0", 422),
        ("/v1/drift?hours=2209", 422),
        ("/v1/drift?source=both", 422),
        ("/v1/drift?model_id=mine", 422),
        ("/v1/drift/history?by=week", 422),
        ("/v1/drift/features/nothing/picture.svg", 404),
    ] {
        assert_eq!(app.get(path).await.0, status, "{path}");
    }
    let unknown = format!("/v1/drift?model_id={}", "0".repeat(64));
    assert_eq!(app.get(&unknown).await.0, 404);

    // Old windows are deleted.
    now.store(start.plus_millis(60 * HOUR_MILLIS).millis(), Ordering::Relaxed);
    app.app.drift.flush().await.unwrap();
    assert_eq!(app.get("/v1/drift?hours=240").await.1["scored"], 0);
    app.stop().await;
}

/// Each customer is sampled once a day, by any number of replicas.
#[tokio::test(flavor = "multi_thread")]
async fn each_stored_customer_is_sampled_once_a_day() {
    let start = TimeSource::System.now();
    let (clock, now) = TimeSource::manual(start);
    let app = TestApp::start_at(clock.clone(), &BY_HAND).await;
    assert_eq!(app.app.drift.count_hourly_sample().await.unwrap(), 0);
    app.post("/v1/events/bulk", ndjson(&orders(CUSTOMERS, 5))).await;
    app.train().await;
    let few = [BY_HAND[0], ("drift.customers_per_hour", "2"), ("database.url", &app.database_url)];
    let two = TestApp::start_at(clock.clone(), &few).await;
    let none = [BY_HAND[0], few[2], ("drift.customers_per_hour", "0")];
    let none = TestApp::start_at(clock, &none).await;

    let mut drawn = Vec::new();
    for hour in 0..24 {
        now.store(start.plus_millis(hour * HOUR_MILLIS).millis(), Ordering::Relaxed);
        assert_eq!(none.app.drift.count_hourly_sample().await.unwrap(), 0);
        let drift = &app.app.drift;
        let both = tokio::join!(drift.count_hourly_sample(), drift.count_hourly_sample());
        let (one, other) = (both.0.unwrap(), both.1.unwrap());
        assert!(one == 0 || other == 0, "{one} and {other}");
        // A later replica has nothing to do.
        assert_eq!(two.app.drift.count_hourly_sample().await.unwrap(), 0);
        drawn.push(one + other);
    }
    assert_eq!(drawn.iter().sum::<u64>(), CUSTOMERS as u64, "{drawn:?}");
    assert!(drawn.iter().all(|customers| (3..50).contains(customers)), "{drawn:?}");
    let (status, answer) = app.get("/v1/drift?source=customers").await;
    assert_eq!((status, &answer["scored"]), (200, &json!(CUSTOMERS)));
    assert_eq!(answer["is_enough"], true);
    // Sampling counts as no score of a caller.
    assert_eq!(app.get("/v1/drift?source=all").await.1["scored"], 0);
    app.app.drift.update_metrics().await.unwrap();
    let (_, metrics) = app.admin("/metrics").await;
    for line in [
        format!("segmentd_drift_scored_rows{{source=\"customers\"}} {CUSTOMERS}"),
        format!("segmentd_drift_customers_total {CUSTOMERS}"),
    ] {
        assert!(metrics.lines().any(|one| one == line), "{metrics}");
    }

    // A day later the sample of the first hour is due again.
    now.store(start.plus_millis(24 * HOUR_MILLIS).millis(), Ordering::Relaxed);
    assert_eq!(two.app.drift.count_hourly_sample().await.unwrap(), 2);
    assert_eq!(app.app.drift.count_hourly_sample().await.unwrap(), 0);
    let scored = CUSTOMERS as u64 - drawn[0] + 2;
    assert_eq!(app.get("/v1/drift?source=customers").await.1["scored"], json!(scored));
    none.stop().await;
    two.stop().await;
    app.stop().await;
}
