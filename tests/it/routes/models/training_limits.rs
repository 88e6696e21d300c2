//! `/v1/training-runs`: limits of rows, of queued runs, and of the duration of a run.

use segmentd::store::database::lease::LeaseName;
use serde_json::{Value, json};

use crate::support::{TestApp, eventually, ndjson, orders};

/// At most `training.max_rows` customers are in memory, and the report says so.
#[tokio::test(flavor = "multi_thread")]
async fn more_customers_than_memory_allows_are_sampled() {
    let app = TestApp::start_with(&[("training.max_rows", "150")]).await;
    app.post("/v1/events/bulk", ndjson(&orders(300, 3))).await;
    let first = app.train().await;
    let data = &first["report"]["data"];
    assert_eq!((&data["seen"], &data["admitted"]), (&json!(300), &json!(300)), "{data}");
    assert_eq!((&data["kept"], &data["sampled"]), (&json!(150), &json!(true)), "{data}");
    assert_eq!(first["report"]["rows"], 150);
    assert_eq!(first["spec"]["sample"], 150);
    let (status, answer) = app.post("/v1/training-runs", r#"{"sample": 151}"#).await;
    assert_eq!((status, &answer["errors"][0]["field"]), (422, &json!("sample")), "{answer}");
    app.stop().await;
}

/// Runs in the queue and fits in a spec are bounded.
#[tokio::test(flavor = "multi_thread")]
async fn queued_training_runs_are_bounded() {
    let settings = [("training.max_queued_runs_per_key", "2"), ("training.max_queued_runs", "3")];
    let app = TestApp::start_with(&settings).await;
    let other = app.another_key().await;
    // Another replica trains, so that every run waits.
    let mut lease = None;
    eventually("the lease is free", async || {
        lease = app.db.try_lease(LeaseName::Training).await.unwrap();
        lease.is_some()
    })
    .await;
    let huge = r#"{"segments": {"from": 2, "to": 200}, "starts": 1000, "minimum_rows": 1000,
                   "algorithms": ["kmeans", "kmedians"]}"#;
    let (status, problem) = app.post("/v1/training-runs", huge).await;
    assert_eq!(status, 422, "{problem}");
    let fields: Vec<&Value> =
        problem["errors"].as_array().unwrap().iter().map(|error| &error["field"]).collect();
    assert_eq!(fields, ["algorithms", "segments", "starts"]);
    assert!(problem["detail"].as_str().unwrap().contains("training.max_fits"), "{problem}");
    let trials = r#"{"stability": {"bootstraps": 1000, "seeds": 100, "rows": 20000},
                     "slices": ["category_1", "category_2"], "starts": 1000}"#;
    assert_eq!(app.post("/v1/training-runs", trials).await.0, 422);

    for _ in 0..2 {
        assert_eq!(app.post("/v1/training-runs", "{}").await.0, 202);
    }
    let (status, problem) = app.post("/v1/training-runs", "{}").await;
    assert_eq!(status, 429);
    assert!(problem["detail"].as_str().unwrap().contains("max_queued_runs_per_key"), "{problem}");
    assert_eq!(app.post_as(Some(&other), "/v1/training-runs", "{}").await.0, 202);
    let (status, problem) = app.post_as(Some(&other), "/v1/training-runs", "{}").await;
    assert_eq!(status, 429);
    assert!(problem["detail"].as_str().unwrap().contains("max_queued_runs)"), "{problem}");

    // A scheduled run is queued beyond the limits, and starts first.
    let training = &app.app.training;
    let due = Some(app.app.clock.now());
    let scheduled = training.request_run(training.default_spec(), "schedule", due).await.unwrap();
    lease.unwrap().release().await;
    let path = format!("/v1/training-runs/{}", scheduled.unwrap());
    eventually("every run is over", async || {
        let (_, runs) = app.get("/v1/training-runs").await;
        runs["training_runs"].as_array().unwrap().iter().all(|run| run["finished_at"].is_string())
    })
    .await;
    let (_, first) = app.get(&path).await;
    let (_, runs) = app.get("/v1/training-runs").await;
    let started = |run: &Value| run["started_at"].as_str().unwrap().to_owned();
    for run in runs["training_runs"].as_array().unwrap() {
        assert!(started(&first) <= started(run), "{first} {run}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_too_long_is_cancelled() {
    let settings = [("training.max_run_seconds", "1"), ("training.max_fits", "10000000")];
    let app = TestApp::start_with(&settings).await;
    app.post("/v1/events/bulk", ndjson(&orders(900, 2))).await;
    let long = r#"{"segments": {"from": 2, "to": 64}, "starts": 1000, "tolerance": 0.0, "minimum_rows": 200,
                   "stability": {"bootstraps": 1000, "seeds": 100, "rows": 20000}}"#;
    let (status, run) = app.post("/v1/training-runs", long).await;
    assert_eq!(status, 202, "{run}");
    let path = format!("/v1/training-runs/{}", run["training_run_id"].as_str().unwrap());
    eventually("the run is over", async || app.get(&path).await.1["finished_at"].is_string()).await;
    let (_, run) = app.get(&path).await;
    assert_eq!(run["status"], "failed", "{run}");
    assert!(run["error"].as_str().unwrap().contains("training.max_run_seconds"), "{run}");
    app.stop().await;
}
