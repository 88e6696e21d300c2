//! One key's load leaves the other keys their share: of the queue of events, of their
//! quota, and of training.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use segmentd::domain::access::Scope;
use segmentd::service::api_keys;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{TestApp, eventually};

async fn another_key(app: &TestApp) -> String {
    let clock = segmentd::service::clock::Clock::System;
    let key = api_keys::create(&app.db, &clock, "another", &Scope::ALL).await.unwrap();
    app.app.access.refresh().await.unwrap();
    key
}

fn event(customer: usize) -> Value {
    json!({ "type": "page", "name": "p", "customer_id": format!("f{customer}") })
}

/// Before, 212 of 236 single events of another key were answered 429.
#[tokio::test(flavor = "multi_thread")]
async fn single_events_of_one_key_pass_while_another_key_floods() {
    let settings = [("intake.max_waiting_events", "8000")];
    let app = Arc::new(TestApp::start_with(&settings).await);
    let quiet = another_key(&app).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut floods = JoinSet::new();
    for flood in 0..8 {
        let (app, is_over) = (Arc::clone(&app), Arc::clone(&is_over));
        floods.spawn(async move {
            let events: Vec<Value> = (0..4000).map(|n| event(10_000 * flood + n)).collect();
            let body = json!(events).to_string();
            let mut refused = 0;
            while !is_over.load(Ordering::Relaxed) {
                let (status, _) = app.post("/v1/events", body.clone()).await;
                assert!([200, 429].contains(&status), "{status}");
                refused += u32::from(status == 429);
            }
            refused
        });
    }
    eventually("the flood is there", async || {
        app.metric(r#"segmentd_limit_refusals_total{limit="waiting_events"}"#).await > 0
    })
    .await;
    for number in 0..40 {
        let body = event(number).to_string();
        let sent = app.post_as(Some(&quiet), "/v1/events", &body);
        let (status, answer) = tokio::time::timeout(Duration::from_secs(20), sent).await.unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    is_over.store(true, Ordering::Relaxed);
    let refused: u32 = floods.join_all().await.into_iter().sum();
    assert!(refused > 0, "the flood was no flood");
    let Ok(app) = Arc::try_unwrap(app) else { panic!("the floods are over") };
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_exceeds_its_quota_waits_and_another_does_not() {
    let settings = [("limits.events_per_second_per_key", "2"), ("limits.events_per_request", "10")];
    let app = TestApp::start_with(&settings).await;
    let other = another_key(&app).await;
    let ten: Vec<Value> = (0..10).map(event).collect();
    let (status, _) = app.post("/v1/events", json!(ten).to_string()).await;
    assert_eq!(status, 200, "a whole request at once");
    let answer = reqwest::Client::new()
        .post(format!("{}/v1/events", app.url))
        .bearer_auth(&app.key)
        .body(json!(ten).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 429);
    let seconds: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=5).contains(&seconds), "{seconds}");
    let problem: Value = answer.json().await.unwrap();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("limits.events_per_second_per_key"), "{detail}");
    let (status, _) = app.post_as(Some(&other), "/v1/events", &event(1).to_string()).await;
    assert_eq!(status, 200);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(app.post("/v1/events", event(2).to_string()).await.0, 200);
    app.stop().await;
}

/// Before, 200 runs of huge specs were queued in 1.3 s.
#[tokio::test(flavor = "multi_thread")]
async fn requested_training_runs_are_bounded() {
    let settings = [("training.max_queued_runs_per_key", "2"), ("training.max_queued_runs", "3")];
    let app = TestApp::start_with(&settings).await;
    let other = another_key(&app).await;
    // Another replica trains, so that every run waits.
    let mut lease = None;
    eventually("the lease is free", async || {
        lease = app.db.try_lease(segmentd::store::database::lease::Lease::Training).await.unwrap();
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

    // The schedule's run is queued all the same, and goes first.
    let training = &app.app.training;
    let due = Some(training.clock.now());
    let scheduled = training.request(training.default_spec(), "schedule", due).await.unwrap();
    lease.unwrap().release().await;
    let path = format!("/v1/training-runs/{}", scheduled.unwrap());
    eventually("every run is over", async || {
        let (_, runs) = app.get("/v1/training-runs").await;
        runs["runs"].as_array().unwrap().iter().all(|run| run["finished_at"].is_string())
    })
    .await;
    let (_, first) = app.get(&path).await;
    let (_, runs) = app.get("/v1/training-runs").await;
    let started = |run: &Value| run["started_at"].as_str().unwrap().to_owned();
    for run in runs["runs"].as_array().unwrap() {
        assert!(started(&first) <= started(run), "{first} {run}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_too_long_is_cancelled() {
    let settings = [("training.max_run_seconds", "1"), ("training.max_fits", "10000000")];
    let app = TestApp::start_with(&settings).await;
    let orders = crate::support::orders(900, 2);
    app.post("/v1/events/bulk", crate::support::ndjson(&orders)).await;
    let long = r#"{"segments": {"from": 2, "to": 64}, "starts": 1000, "tolerance": 0.0, "minimum_rows": 200,
                   "stability": {"bootstraps": 1000, "seeds": 100, "rows": 20000}}"#;
    let (status, run) = app.post("/v1/training-runs", long).await;
    assert_eq!(status, 202, "{run}");
    let path = format!("/v1/training-runs/{}", run["run"].as_str().unwrap());
    eventually("the run is over", async || app.get(&path).await.1["finished_at"].is_string()).await;
    let (_, run) = app.get(&path).await;
    assert_eq!(run["status"], "failed", "{run}");
    assert!(run["error"].as_str().unwrap().contains("training.max_run_seconds"), "{run}");
    app.stop().await;
}
