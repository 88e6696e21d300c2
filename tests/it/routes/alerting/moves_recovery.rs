//! Moves as webhooks after a restart, after failures of the receiver, and after lost changes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use segmentd::domain::time::Timestamp;
use segmentd::service::clock::TimeSource;
use segmentd::store::customers::assignments::drop_partitions;
use segmentd::store::database::private::{PrivatePostgres, PrivateServerSettings};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use super::moves::{events, moves_only, receives_moves, record_moves, summaries};
use crate::support::alerting::{AlertingApp, BY_HAND, a_moment, receives};
use crate::support::webhook_receiver::{Behaviour, WebhookReceiver};
use crate::support::{TestApp, eventually, open_to_all};

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_service_and_an_enabled_channel_continue_where_they_stopped() {
    let (clock, now) = TimeSource::manual(TimeSource::System.now());
    // A server of its own, because a database that an app runs itself stops with the app.
    let place = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let server = PrivateServerSettings { binaries: None, max_connections: 100 };
    let server = PrivatePostgres::start(place.path(), &server).await.unwrap();
    let url = server.url();
    let settings = [&BY_HAND[..], &[("database.url", &*url)]].concat();
    let one = TestApp::start_at(clock.clone(), &settings).await;
    let (receiver, ops) = tokio::join!(WebhookReceiver::start(), WebhookReceiver::start());
    let create = async |name: &str, receiver: &WebhookReceiver, topics: Value| {
        let target = json!({ "kind": "webhook", "url": receiver.url });
        let body = json!({ "name": name, "target": target, "topics": topics });
        let (status, made) = one.post("/v1/channels", body.to_string()).await;
        assert_eq!(status, 201, "{made}");
        made["channel_id"].as_str().unwrap().to_owned()
    };
    let id = create("moves", &receiver, json!(["moves"])).await;
    create("ops", &ops, json!(["channel"])).await;
    let at = TimeSource::System.now();
    record_moves(&one, "c1", &["a"], at).await;
    let first = ["c1 segment.entered a"];
    receives_moves(&receiver, &first).await;

    // The channel fails while the service is stopped.
    receiver.set(Behaviour::Answers(503));
    record_moves(&one, "c2", &["a"], at).await;
    eventually("the move is tried", async || receiver.received().len() >= 2).await;
    record_moves(&one, "c3", &["a"], at).await;
    let two = TestApp::start_at(clock, &settings).await;
    two.app.api_keys.refresh().await.unwrap();
    one.stop().await;
    receiver.set(Behaviour::Accepts(0));
    now.fetch_add(6000, Ordering::Relaxed);
    let second = ["c1 segment.entered a", "c2 segment.entered a", "c3 segment.entered a"];
    receives_moves(&receiver, &second).await;

    // A receiver that fails for long raises an alert, which is resolved later.
    receiver.set(Behaviour::Answers(500));
    let count = receiver.received().len();
    record_moves(&two, "c4", &["a"], at).await;
    for (attempt, seconds) in [6, 331, 1981].into_iter().enumerate() {
        eventually("it is tried", async || receiver.received().len() > count + attempt).await;
        a_moment().await;
        now.fetch_add(1000 * seconds, Ordering::Relaxed);
    }
    let failing = format!("channel.firing of channel:{id}");
    receives(&ops, &[&failing]).await;
    receiver.set(Behaviour::Accepts(0));
    now.fetch_add(1000 * 8000, Ordering::Relaxed);
    let third = [&second[..], &["c4 segment.entered a"]].concat();
    receives_moves(&receiver, &third).await;
    let works = format!("channel.resolved of channel:{id}");
    receives(&ops, &[&failing, &works]).await;

    // A receiver that is gone disables the channel. Its position stays.
    receiver.set(Behaviour::Answers(410));
    record_moves(&two, "c5", &["a"], at).await;
    receives(&ops, &[&failing, &works, &failing]).await;
    let (_, shown) = two.get(&format!("/v1/channels/{id}")).await;
    assert!(shown["disabled_reason"].as_str().unwrap().contains("410"), "{shown}");
    receiver.set(Behaviour::Accepts(0));
    record_moves(&two, "c6", &["a"], at).await;
    // A sleep, because it proves a negative: nothing is sent.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(summaries(&events(&receiver)), third);
    assert_eq!(two.post(&format!("/v1/channels/{id}/enable"), "").await.0, 200);
    let last = [&third[..], &["c5 segment.entered a", "c6 segment.entered a"]].concat();
    receives_moves(&receiver, &last).await;
    two.stop().await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_after_lost_changes_says_that_there_is_a_gap() {
    // Otherwise retention drops the partition of this test by itself, sooner or later.
    let alerting = AlertingApp::start_with(&[("history.retention_days", "0")]).await;
    let app = &alerting.app;
    let receiver = WebhookReceiver::start().await;
    alerting.channel("moves", &receiver, moves_only()).await;
    let gaps = || {
        let accepted = receiver.accepted();
        accepted.iter().map(|message| message.body["data"]["gap"] == true).collect::<Vec<_>>()
    };
    record_moves(app, "c1", &["a"], alerting.now()).await;
    receives_moves(&receiver, &["c1 segment.entered a"]).await;

    // Retention drops changes that were not sent.
    receiver.set(Behaviour::Answers(500));
    record_moves(app, "old", &["a"], Timestamp::parse("2020-01-15T00:00:00Z").unwrap()).await;
    eventually("the old move is tried", async || receiver.received().len() == 2).await;
    a_moment().await;
    let mut tx = app.db.begin().await.unwrap();
    let before = Timestamp::parse("2021-01-01T00:00:00Z").unwrap();
    assert_eq!(drop_partitions(&mut tx, before).await.unwrap(), 2);
    tx.commit().await.unwrap();
    receiver.set(Behaviour::Accepts(0));
    alerting.pass(6);
    record_moves(app, "c2", &["a"], alerting.now()).await;
    receives_moves(&receiver, &["c1 segment.entered a", "c2 segment.entered a"]).await;
    record_moves(app, "c3", &["a"], alerting.now()).await;
    eventually("the next move arrives", async || gaps().len() == 3).await;
    assert_eq!(gaps(), [false, true, false]);

    // A restore begins an epoch: the receiver may know changes that no longer exist.
    let mut connection = PgConnection::connect(app.database_url()).await.unwrap();
    sqlx::query("select begin_change_epoch('a test')").execute(&mut connection).await.unwrap();
    record_moves(app, "c4", &["a"], alerting.now()).await;
    record_moves(app, "c5", &["a"], alerting.now()).await;
    eventually("the moves arrive", async || events(&receiver).len() == 5).await;
    record_moves(app, "c6", &["a"], alerting.now()).await;
    eventually("the last move arrives", async || events(&receiver).len() == 6).await;
    assert!(gaps()[3] && !gaps().last().unwrap(), "{:?}", gaps());
    alerting.app.stop().await;
}
