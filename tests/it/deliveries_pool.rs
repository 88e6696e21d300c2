//! Delivery of alerts beside the API: receivers that are slow, fail or hang take no
//! connection from it, and failing channels do not multiply their messages.

use std::time::Duration;

use segmentd::domain::access::Scope;
use segmentd::domain::drift::Severity;
use segmentd::service::api_keys;
use segmentd::service::clock::Clock;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::support::hook::{Hook, Mood};
use crate::support::house::{found, raise};
use crate::support::{TestApp, eventually, ndjson, orders};

const RECEIVERS: usize = 20;
const ALERTS: usize = 5;
/// A caller who waits longer for a connection than this is refused.
const SETTINGS: [(&str, &str); 4] = [
    ("alerts.poll_seconds", "1"),
    ("alerts.allow_private_addresses", "yes"),
    ("alerts.timeout_seconds", "1"),
    ("database.acquire_timeout_seconds", "1"),
];

async fn channel(app: &TestApp, name: &str, hook: &Hook) -> String {
    let wish = json!({ "name": name, "target": { "kind": "webhook", "url": hook.url } });
    let (status, made) = app.post("/v1/channels", wish.to_string()).await;
    assert_eq!(status, 201, "{made}");
    made["channel"].as_str().unwrap().to_owned()
}

async fn start(mood: Mood) -> (TestApp, Vec<Hook>, Vec<String>) {
    let app = TestApp::start_with(&SETTINGS).await;
    let (mut hooks, mut channels) = (Vec::new(), Vec::new());
    for number in 0..RECEIVERS {
        let hook = Hook::start().await;
        hook.set(mood);
        channels.push(channel(&app, &format!("receiver {number}"), &hook).await);
        hooks.push(hook);
    }
    (app, hooks, channels)
}

/// Writes of the API and a rollback, one after the other, while messages are sent.
async fn writes_go_on(app: &TestApp, rounds: usize) {
    for round in 0..rounds {
        let wish = json!({
            "name": format!("another {round}"),
            "target": { "kind": "webhook", "url": "http://127.0.0.1:9/" },
            "owners": ["none"],
        });
        let (status, made) = app.post("/v1/channels", wish.to_string()).await;
        assert_eq!(status, 201, "round {round}: {made}");
        let path = format!("/v1/channels/{}", made["channel"].as_str().unwrap());
        assert_eq!(app.delete(&path).await.0, 204, "round {round}");
        // There is no model to go back to, which only a transaction can find out.
        let (status, answer) = app.post("/v1/models/rollback", "").await;
        assert_eq!(status, 409, "round {round}: {answer}");
    }
}

async fn many_receivers(mood: Mood, heard_by_each: usize) {
    let (app, hooks, _) = start(mood).await;
    for number in 0..ALERTS {
        let key = format!("source:{number}");
        raise(&app.app.alerts, &found(&key, Severity::Warning, None)).await;
    }
    let heard = eventually("every receiver is tried", async || {
        hooks.iter().all(|hook| hook.heard().len() >= heard_by_each)
    });
    tokio::join!(heard, writes_go_on(&app, 25));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_answer_leave_the_api_its_connections() {
    many_receivers(Mood::Takes(0), ALERTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_fail_leave_the_api_its_connections() {
    many_receivers(Mood::Says(500), ALERTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_hang_leave_the_api_its_connections() {
    many_receivers(Mood::Hangs, 1).await;
}

/// The calls of an emergency work while other work holds every shared connection.
#[tokio::test(flavor = "multi_thread")]
async fn critical_writes_need_no_shared_connection() {
    let app = TestApp::start_with(&SETTINGS).await;
    let key =
        api_keys::create(&app.db, &Clock::System, "to be revoked", &Scope::ALL).await.unwrap();
    app.app.access.refresh().await.unwrap();
    assert_eq!(app.get_as(&key, "/v1/segments").await.0, 200);
    assert_eq!(app.post("/v1/events/bulk", ndjson(&orders(150, 4))).await.0, 200);
    app.train().await;
    app.train_with(r#"{"segments": 2, "starts": 3}"#).await;
    let mut held = Vec::new();
    while let Ok(tx) = app.db.begin().await {
        held.push(tx);
    }
    assert!(held.len() >= 8, "{}", held.len());
    let wish =
        json!({ "name": "x", "target": { "kind": "webhook", "url": "http://127.0.0.1:9/" } });
    assert_eq!(app.post("/v1/channels", wish.to_string()).await.0, 503, "the pool is not empty");

    let (status, back) = app.post("/v1/models/rollback", "").await;
    assert_eq!(status, 200, "{back}");
    let promote = format!("/v1/models/{}/promote", back["previous_model"].as_str().unwrap());
    let forced = json!({ "force": true, "reason": "a test" }).to_string();
    assert_eq!(app.post(&promote, forced).await.0, 200);
    assert_eq!(app.post("/v1/models/fall-back", "").await.0, 200);
    let freeze = json!({
        "policy": { "actions": { "warning": ["freeze"] } }, "reason": "a test"
    });
    let (status, policy) = app.patch("/v1/policy", freeze.to_string()).await;
    assert_eq!(status, 200, "{policy}");
    let key_id = key.split('_').nth(1).unwrap();
    api_keys::revoke(&app.db, &Clock::System, key_id).await.unwrap();
    eventually("the key is refused", async || app.get_as(&key, "/v1/segments").await.0 == 401)
        .await;
    drop(held);
    app.stop().await;
}

/// Each failing channel used to send an alert to every other one.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_failing_channels_sends_few_messages() {
    let (app, hooks, channels) = start(Mood::Says(410)).await;
    let good = Hook::start().await;
    let watching = channel(&app, "watching", &good).await;
    raise(&app.app.alerts, &found("source:1", Severity::Warning, None)).await;
    eventually("all are disabled", async || {
        let (_, told) = app.get("/v1/channels").await;
        let disabled = |channel: &&serde_json::Value| !channel["disabled_at"].is_null();
        told["channels"].as_array().unwrap().iter().filter(disabled).count() == RECEIVERS
    })
    .await;
    eventually("the other channel hears of it", async || good.taken().len() >= 5).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let said = good.says();
    let about = |what: &str| said.iter().filter(|one| one.starts_with(what)).count();
    assert_eq!(about("channel.firing of channel:"), 3, "{said:?}");
    assert_eq!(about("channel.firing of channels"), 1, "{said:?}");
    assert_eq!(said.len(), 5, "{said:?}");
    let mut connection = PgConnection::connect(app.database_url()).await.unwrap();
    let messages: i64 = sqlx::query_scalar("select count(*) from delivery")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    // One and, of the first three that fail, one each; and one for all others.
    let bound = i64::try_from(5 * (RECEIVERS + 1)).unwrap();
    assert!(messages <= bound, "{messages} messages, more than {bound}");
    // All are listed, those without a message too.
    let (_, told) = app.get("/v1/alerts?topic=channel").await;
    assert_eq!(told["alerts"].as_array().unwrap().len(), RECEIVERS + 1);

    for hook in &hooks {
        hook.set(Mood::Takes(0));
    }
    for id in &channels {
        assert_eq!(app.post(&format!("/v1/channels/{id}/enable"), "").await.0, 200);
    }
    eventually("all of it is over", async || {
        let (_, told) = app.get("/v1/alerts?topic=channel").await;
        told["alerts"].as_array().unwrap().is_empty()
            && good.says().iter().any(|one| one == "channel.resolved of channels")
    })
    .await;
    assert!(app.get(&format!("/v1/channels/{watching}")).await.1["disabled_at"].is_null());
    app.stop().await;
}
