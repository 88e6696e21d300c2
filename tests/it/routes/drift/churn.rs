//! `GET /v1/drift/churn`: churn between segments, counted from the history, with the
//! previous period.

use std::io::Write;
use std::sync::atomic::Ordering;

use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};

use super::within_segments::{CUSTOMERS, FEATURES, HOUR_MILLIS, first_orders, order};
use crate::support::{TestApp, eventually, ndjson};

/// The additional spend that moves a customer to the next kind.
const UP: [f64; 2] = [180.0, 1800.0];

/// Customers of one kind, which is every third customer.
fn kind(kind: usize, some: std::ops::Range<usize>) -> impl Iterator<Item = usize> {
    some.map(move |place| kind + 3 * place)
}

async fn spend(app: &TestApp, id: &str, customers: impl Iterator<Item = usize>, amount: f64) {
    let events: Vec<Value> = customers.map(|i| order(i, id, (amount, 2.0))).collect();
    let (status, answer) = app.post("/v1/events/bulk", ndjson(&events)).await;
    assert_eq!(status, 200, "{answer}");
}

async fn segment_of(app: &TestApp, customer: usize) -> Value {
    app.get(&format!("/v1/customers/c{customer:04}")).await.1["segment_id"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn churn_is_shown_with_the_previous_period() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(FEATURES.as_bytes()).unwrap();
    let file = file.path().display().to_string();
    let settings = [("drift.flush_seconds", "86400"), ("features.file", &file)];
    let (clock, now) = TimeSource::manual(TimeSource::System.now());
    let app = TestApp::start_at(clock, &settings).await;
    assert_eq!(app.get("/v1/drift/churn").await.0, 409);
    app.post("/v1/events/bulk", ndjson(&first_orders())).await;
    let pass = |hours: i64| now.fetch_add(hours * HOUR_MILLIS, Ordering::Relaxed);
    pass(30);
    app.train_with(r#"{"segments": 3, "starts": 5}"#).await;
    eventually("the model has scored every customer", async || {
        let (_, answer) = app.get("/v1/segments").await;
        let segments = answer["segments"].as_array().unwrap();
        segments.iter().filter_map(|one| one["customers"].as_u64()).sum::<u64>() == 600
    })
    .await;
    let keys = [segment_of(&app, 0).await, segment_of(&app, 1).await, segment_of(&app, 2).await];

    // The day of the first model: no moves.
    let (status, answer) = app.get("/v1/drift/churn?hours=24").await;
    assert_eq!((status, &answer["total"]["customers"]), (200, &json!(CUSTOMERS)));
    assert_eq!((&answer["total"]["moved"], &answer["moves"]), (&json!(0), &json!(0)), "{answer}");
    assert_eq!(answer["separate_changes"]["by_rules"], json!(CUSTOMERS));
    assert_eq!(answer["total"]["churn_before"], json!(null));

    // A day with 12 moves, and another with many, some of them double.
    pass(30);
    spend(&app, "day-one", kind(0, 0..12), UP[0]).await;
    pass(25);
    spend(&app, "many", kind(0, 20..70), UP[0]).await;
    spend(&app, "twice", kind(0, 60..70), UP[1]).await;
    spend(&app, "few", kind(1, 0..3), UP[1]).await;
    spend(&app, "new", CUSTOMERS..CUSTOMERS + 6, 2000.0).await;
    let (status, answer) = app.get("/v1/drift/churn?hours=24").await;
    assert_eq!(status, 200, "{answer}");
    let all = &answer["total"];
    assert_eq!((&all["customers"], &all["moved"]), (&json!(CUSTOMERS), &json!(53)), "{answer}");
    assert_eq!((&all["churn"], &all["churn_before"]), (&json!(53.0 / 600.0), &json!(12.0 / 600.0)));
    assert!(all["p_value"].as_f64() < Some(1e-5), "{all}");
    assert_eq!((&answer["moves"], &answer["movers"]), (&json!(63), &json!(53)));
    let apart = json!({ "by_another_model": 0, "by_rules": 0, "merged": 0 });
    assert_eq!(answer["separate_changes"], apart);

    let segment = |key: &Value| {
        let mut segments = answer["segments"].as_array().unwrap().iter();
        segments.find(|one| one["segment_id"] == *key).unwrap()
    };
    let low = segment(&keys[0]);
    assert!(low["segment_id"].as_str().unwrap().starts_with("seg_") && low["name"].is_string());
    assert_eq!((&low["customers"], &low["moved"]), (&json!(188), &json!(50)), "{low}");
    assert_eq!((&low["churn"], &low["churn_before"]), (&json!(50.0 / 188.0), &json!(0.06)));
    assert!(low["adjusted_p_value"].as_f64() >= low["p_value"].as_f64());
    assert!(low["adjusted_p_value"].as_f64() < Some(1e-5));
    // Flows of three customers are not shown.
    let middle = segment(&keys[1]);
    assert_eq!((&middle["customers"], &middle["moved"]), (&json!(212), &json!(null)), "{middle}");
    assert_eq!((&middle["churn"], &middle["p_value"]), (&json!(null), &json!(null)));
    assert_eq!(segment(&keys[2])["new"], 6);
    assert_eq!(segment(&json!("unassigned"))["customers"], 0);

    let flow = &answer["flow"];
    let flows = flow["flows"].as_array().unwrap();
    let customers = |from: usize, to: usize| {
        let is_it = |one: &&Value| {
            one["from"]["segment_id"] == keys[from] && one["to"]["segment_id"] == keys[to]
        };
        flows.iter().find(is_it).map(|one| one["customers"].as_u64().unwrap())
    };
    assert_eq!((customers(0, 1), customers(0, 2), customers(1, 2)), (Some(40), Some(10), None));
    assert_eq!((customers(0, 0), customers(1, 1)), (Some(138), Some(209)));
    assert_eq!((&flow["in_small_flows"], &flow["small_flows"]), (&json!(3), &json!(1)));
    assert_eq!((&flow["stay"], &flow["move_away"]), (&json!(547), &json!(53)));

    // In the metrics, and over a longer period with the first model in it.
    app.app.drift.update_metrics().await.unwrap();
    let (_, metrics) = app.admin("/metrics").await;
    let line = format!("segmentd_segment_churn_ratio {}", 53.0 / 600.0);
    assert!(metrics.lines().any(|one| one == line), "{metrics}");
    let (_, longer) = app.get("/v1/drift/churn?hours=72").await;
    assert_eq!((&longer["moves"], &longer["total"]["moved"]), (&json!(75), &json!(65)));
    assert_eq!(longer["separate_changes"]["by_rules"], json!(CUSTOMERS));
    // Without history in the previous period, there is no previous churn.
    assert_eq!(longer["total"]["churn_before"], Value::Null);
    // A day without moves; the day before is the previous period.
    pass(25);
    let (_, quiet) = app.get("/v1/drift/churn?hours=24").await;
    assert_eq!((&quiet["total"]["churn"], &quiet["moves"]), (&json!(0.0), &json!(0)));
    assert_eq!(quiet["total"]["churn_before"], json!(53.0 / 600.0));
    assert_eq!(quiet["total"]["customers"], json!(CUSTOMERS + 6));

    // Changes by another model are no moves.
    app.train_with(r#"{"segments": 2, "starts": 5}"#).await;
    eventually("the other model has scored every customer", async || {
        let (_, answer) = app.get("/v1/drift/churn?hours=24").await;
        answer["separate_changes"]["by_another_model"] == json!(CUSTOMERS + 6)
    })
    .await;
    let (_, fresh) = app.get("/v1/drift/churn?hours=24").await;
    assert_eq!((&fresh["moves"], &fresh["total"]["moved"]), (&json!(0), &json!(0)), "{fresh}");
    for wrong in ["hours=0", "hours=2209", "hours=day", "days=1"] {
        let status = app.get(&format!("/v1/drift/churn?{wrong}")).await.0;
        assert!(status == 422 || status == 400, "{wrong}: {status}");
    }
    app.stop().await;
}
