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

/// A GET with a key; returns the status and the fields about rate limits.
async fn get(app: &TestApp, key: &str, path: &str) -> (u16, [Option<String>; 3]) {
    let request = reqwest::Client::new().get(format!("{}{path}", app.url)).bearer_auth(key);
    let answer = request.send().await.unwrap();
    let field = |name: &str| Some(answer.headers().get(name)?.to_str().unwrap().to_owned());
    let (status, fields) =
        (answer.status(), ["ratelimit-policy", "ratelimit", "retry-after"].map(field));
    // An export ends when its response has been read.
    answer.bytes().await.unwrap();
    (status.as_u16(), fields)
}

async fn key_with_limits(app: &TestApp, limits: Value) -> String {
    let request = json!({ "name": "limited", "scopes": ["ingest", "read"], "limits": limits });
    let (status, created) = app.post("/v1/keys", request.to_string()).await;
    assert_eq!(status, 201, "{created}");
    created["key"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_of_a_key_are_limited_and_every_answer_says_what_is_left() {
    let app = TestApp::start().await;
    let limited = key_with_limits(&app, json!({ "requests_per_second": 1 })).await;
    let (status, [policy, left, _]) = get(&app, &limited, "/v1/segments").await;
    assert_eq!(status, 200);
    assert_eq!(policy.unwrap(), "\"requests\";q=1;w=1");
    assert_eq!(left.unwrap(), "\"requests\";r=0;t=1");
    // Requests in a loop exceed one a second on every machine.
    let mut refused = None;
    eventually("a request is refused", async || {
        let (status, fields) = get(&app, &limited, "/v1/segments").await;
        assert!([200, 429].contains(&status), "{status}");
        refused = (status == 429).then_some(fields);
        refused.is_some()
    })
    .await;
    let [policy, left, retry_after] = refused.unwrap();
    assert_eq!(policy.unwrap(), "\"requests\";q=1;w=1");
    assert!(left.unwrap().starts_with("\"requests\";r=0;t="));
    assert_eq!(retry_after.unwrap(), "1");
    let (status, fields) = get(&app, &app.key, "/v1/segments").await;
    assert_eq!((status, fields), (200, [None, None, None]), "another key has no limit");
    assert!(app.metric(r#"segmentd_limit_refusals_total{limit="request_rate"}"#).await > 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expensive_requests_have_a_limit_of_their_own() {
    let settings = [("limits.expensive_requests_per_minute_per_key", "2")];
    let app = TestApp::start_with(&settings).await;
    app.post("/v1/events", event(1).to_string()).await;
    let expensive = "/v1/assignments";
    let (status, [policy, left, _]) = get(&app, &app.key, expensive).await;
    assert_eq!(status, 200);
    assert_eq!(policy.unwrap(), "\"expensive-requests\";q=2;w=60");
    assert!(left.unwrap().starts_with("\"expensive-requests\";r=1;t="));
    let now = app.app.clock.now();
    let past = format!("/v1/customers/f1/features?as_of={now}");
    assert_eq!(get(&app, &app.key, &past).await.0, 200);
    let (status, [_, _, retry_after]) = get(&app, &app.key, expensive).await;
    assert_eq!(status, 429);
    let seconds: u64 = retry_after.unwrap().parse().unwrap();
    assert!((1..=30).contains(&seconds), "{seconds}");
    assert_eq!(app.post("/v1/training-runs", "").await.0, 429);
    // Reads without an instant and lists of runs are not expensive.
    assert_eq!(get(&app, &app.key, "/v1/customers/f1/features").await.0, 200);
    assert_eq!(get(&app, &app.key, "/v1/training-runs").await.0, 200);
    // A key may have more, or no limit.
    let unlimited = key_with_limits(&app, json!({ "expensive_requests_per_minute": 0 })).await;
    for _ in 0..4 {
        assert_eq!(get(&app, &unlimited, expensive).await, (200, [None, None, None]));
    }
    app.stop().await;
}

/// A tracking request may have its key in the body, where it is found late.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_key_in_the_body_are_limited_too() {
    let app = TestApp::start_with(&[("limits.events_per_request", "10")]).await;
    let key = key_with_limits(&app, json!({ "events_per_second": 1 })).await;
    let messages: Vec<Value> =
        (0..10).map(|n| json!({ "type": "page", "userId": format!("u{n}") })).collect();
    let body = json!({ "writeKey": key, "batch": messages }).to_string();
    let client = reqwest::Client::new();
    let send = async || {
        client.post(format!("{}/v1/batch", app.url)).body(body.clone()).send().await.unwrap()
    };
    let answer = send().await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["ratelimit-policy"], "\"events\";q=10;w=10");
    assert!(answer.headers()["ratelimit"].to_str().unwrap().starts_with("\"events\";r=0;t="));
    let answer = send().await;
    assert_eq!(answer.status(), 429);
    assert!(answer.headers().contains_key("retry-after"));
    assert!(answer.headers().contains_key("ratelimit"));
    app.stop().await;
}
