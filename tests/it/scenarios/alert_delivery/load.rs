//! Notifications to slow, failing or hanging receivers use no database connection of the
//! API, and failing channels do not multiply messages.

use std::time::Duration;

use segmentd::domain::access::AccessScope;
use segmentd::domain::drift::Severity;
use segmentd::service::api_keys;
use segmentd::service::clock::TimeSource;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::support::alerting::{found, raise};
use crate::support::webhook_receiver::{Behaviour, WebhookReceiver};
use crate::support::{TestApp, eventually, ndjson, orders};

const RECEIVERS: usize = 20;
const ALERTS: usize = 5;
/// A request that waits longer than a second for a connection is refused.
const SETTINGS: [(&str, &str); 4] = [
    ("alerts.poll_seconds", "1"),
    ("alerts.allow_private_addresses", "true"),
    ("alerts.timeout_seconds", "1"),
    ("database.acquire_timeout_seconds", "1"),
];

async fn channel(app: &TestApp, name: &str, receiver: &WebhookReceiver) -> String {
    let body = json!({ "name": name, "target": { "kind": "webhook", "url": receiver.url } });
    let (status, made) = app.post("/v1/channels", body.to_string()).await;
    assert_eq!(status, 201, "{made}");
    made["channel_id"].as_str().unwrap().to_owned()
}

async fn start(behaviour: Behaviour) -> (TestApp, Vec<WebhookReceiver>, Vec<String>) {
    let app = TestApp::start_with(&SETTINGS).await;
    let (mut receivers, mut channels) = (Vec::new(), Vec::new());
    for number in 0..RECEIVERS {
        let receiver = WebhookReceiver::start().await;
        receiver.set(behaviour);
        channels.push(channel(&app, &format!("receiver {number}"), &receiver).await);
        receivers.push(receiver);
    }
    (app, receivers, channels)
}

/// Writes through the API and rolls back, repeatedly, while messages are sent.
async fn writes_go_on(app: &TestApp, rounds: usize) {
    for round in 0..rounds {
        let body = json!({
            "name": format!("another {round}"),
            "target": { "kind": "webhook", "url": "http://127.0.0.1:9/" },
            "owners": ["none"],
        });
        let (status, made) = app.post("/v1/channels", body.to_string()).await;
        assert_eq!(status, 201, "round {round}: {made}");
        let path = format!("/v1/channels/{}", made["channel_id"].as_str().unwrap());
        assert_eq!(app.delete(&path).await.0, 204, "round {round}");
        // There is no previous model. Only a transaction finds this out.
        let (status, answer) = app.post("/v1/deployment/rollback", "").await;
        assert_eq!(status, 409, "round {round}: {answer}");
    }
}

async fn many_receivers(behaviour: Behaviour, received_by_each: usize) {
    let (app, receivers, _) = start(behaviour).await;
    for number in 0..ALERTS {
        let key = format!("source:{number}");
        raise(&app.app.alerts, &found(&key, Severity::Warning, None)).await;
    }
    let attempts = eventually("every receiver is tried", async || {
        receivers.iter().all(|receiver| receiver.received().len() >= received_by_each)
    });
    tokio::join!(attempts, writes_go_on(&app, 25));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_answer_leave_the_api_its_connections() {
    many_receivers(Behaviour::Accepts(0), ALERTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_fail_leave_the_api_its_connections() {
    many_receivers(Behaviour::Answers(500), ALERTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_hang_leave_the_api_its_connections() {
    many_receivers(Behaviour::Hangs, 1).await;
}

/// Critical writes succeed while other work holds every shared connection.
#[tokio::test(flavor = "multi_thread")]
async fn critical_writes_need_no_shared_connection() {
    let app = TestApp::start_with(&SETTINGS).await;
    let key =
        api_keys::create_key(&app.db, &TimeSource::System, "to be revoked", &AccessScope::ALL)
            .await
            .unwrap();
    app.app.api_keys.refresh().await.unwrap();
    assert_eq!(app.get_as(&key, "/v1/segments").await.0, 200);
    assert_eq!(app.post("/v1/events/bulk", ndjson(&orders(150, 4))).await.0, 200);
    app.train().await;
    app.train_with(r#"{"segments": 2, "starts": 3}"#).await;
    let mut held = Vec::new();
    while let Ok(tx) = app.db.begin().await {
        held.push(tx);
    }
    assert!(held.len() >= 8, "{}", held.len());
    let body =
        json!({ "name": "x", "target": { "kind": "webhook", "url": "http://127.0.0.1:9/" } });
    assert_eq!(app.post("/v1/channels", body.to_string()).await.0, 503, "the pool is not empty");

    let (status, back) = app.post("/v1/deployment/rollback", "").await;
    assert_eq!(status, 200, "{back}");
    let promote = format!("/v1/models/{}/promote", back["previous_model_id"].as_str().unwrap());
    let forced = json!({ "force": true, "reason": "a test" }).to_string();
    assert_eq!(app.post(&promote, forced).await.0, 200);
    assert_eq!(app.post("/v1/deployment/fallback", "").await.0, 200);
    let freeze = json!({
        "policy": { "actions": { "warning": ["freeze"] } }, "reason": "a test"
    });
    let (status, policy) = app.patch("/v1/policy", freeze.to_string()).await;
    assert_eq!(status, 200, "{policy}");
    let key_id = key.split('_').nth(1).unwrap();
    api_keys::revoke_key(&app.db, &TimeSource::System, key_id).await.unwrap();
    eventually("the key is refused", async || app.get_as(&key, "/v1/segments").await.0 == 401)
        .await;
    drop(held);
    app.stop().await;
}

/// A failing channel does not send an alert of its own to every other channel.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_failing_channels_sends_few_messages() {
    let (app, receivers, channels) = start(Behaviour::Answers(410)).await;
    let good = WebhookReceiver::start().await;
    let watching = channel(&app, "watching", &good).await;
    raise(&app.app.alerts, &found("source:1", Severity::Warning, None)).await;
    eventually("all channels are disabled", async || {
        let (_, answer) = app.get("/v1/channels").await;
        let disabled = |channel: &&serde_json::Value| !channel["disabled_at"].is_null();
        answer["channels"].as_array().unwrap().iter().filter(disabled).count() == RECEIVERS
    })
    .await;
    eventually("the other channel gets the alerts", async || good.accepted().len() >= 5).await;
    // A sleep, because it proves a negative: no further message arrives.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let output = good.summaries();
    let about = |what: &str| output.iter().filter(|one| one.starts_with(what)).count();
    assert_eq!(about("channel.firing of channel:"), 3, "{output:?}");
    assert_eq!(about("channel.firing of channels"), 1, "{output:?}");
    assert_eq!(output.len(), 5, "{output:?}");
    let mut connection = PgConnection::connect(app.database_url()).await.unwrap();
    let messages: i64 = sqlx::query_scalar("select count(*) from delivery")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    // One for the source, one for each of the first three failing channels, one for all
    // others.
    let bound = i64::try_from(5 * (RECEIVERS + 1)).unwrap();
    assert!(messages <= bound, "{messages} messages, more than {bound}");
    // All alerts are listed, including those without a message.
    let (_, answer) = app.get("/v1/alerts?topic=channel").await;
    assert_eq!(answer["alerts"].as_array().unwrap().len(), RECEIVERS + 1);

    for receiver in &receivers {
        receiver.set(Behaviour::Accepts(0));
    }
    for id in &channels {
        assert_eq!(app.post(&format!("/v1/channels/{id}/enable"), "").await.0, 200);
    }
    eventually("all alerts are resolved", async || {
        let (_, answer) = app.get("/v1/alerts?topic=channel").await;
        answer["alerts"].as_array().unwrap().is_empty()
            && good.summaries().iter().any(|one| one == "channel.resolved of channels")
    })
    .await;
    assert!(app.get(&format!("/v1/channels/{watching}")).await.1["disabled_at"].is_null());
    app.stop().await;
}
