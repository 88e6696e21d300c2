//! Fairness between API keys: the load of one key leaves other keys their share of the
//! event queue and of the quota.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{TestApp, eventually};

fn event(customer: usize) -> Value {
    json!({ "type": "page", "name": "p", "customer_id": format!("f{customer}") })
}

/// Without the fair share, most single events of another key were answered 429.
#[tokio::test(flavor = "multi_thread")]
async fn single_events_of_one_key_pass_while_another_key_floods() {
    let settings = [("ingestion.max_waiting_events", "8000")];
    let app = Arc::new(TestApp::start_with(&settings).await);
    let quiet = app.another_key().await;
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
    let other = app.another_key().await;
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
    // A sleep, because it proves that a client that waits for `Retry-After` is accepted.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(app.post("/v1/events", event(2).to_string()).await.0, 200);
    app.stop().await;
}
