//! `/v1/channels/{channel_id}/deliveries` and replay: receivers that hang, fail, redirect, ask for
//! a later retry, or are gone. The test controls the clock.

use segmentd::domain::drift::Severity;
use serde_json::{Value, json};

use crate::support::alerting::{AlertingApp, a_moment, found, receives};
use crate::support::webhook_receiver::{Behaviour, WebhookReceiver};

fn attempts(delivery: &Value) -> usize {
    delivery["attempts"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_was_down_for_an_hour_accepts_each_message_once() {
    let alerting = AlertingApp::start().await;
    let (down, fine) = tokio::join!(WebhookReceiver::start(), WebhookReceiver::start());
    let channel = alerting.channel("down", &down, json!({ "owners": ["a"] })).await;
    alerting.channel("fine", &fine, json!({ "owners": ["b"] })).await;
    // A timeout, an error, a redirect and a request to wait are all retried.
    down.set(Behaviour::Hangs);
    alerting.raise(&found("one", Severity::Warning, Some("a"))).await;
    alerting.raise(&found("two", Severity::Warning, Some("b"))).await;
    // Other channels do not wait for the one that hangs.
    receives(&fine, &["source.firing of two"]).await;
    assert_eq!(down.received().len(), 1);
    let waits = [
        (6, Behaviour::Answers(500)),
        (331, Behaviour::Redirects),
        (1981, Behaviour::AsksToWait(12_000)),
    ];
    for (tries, (seconds, behaviour)) in waits.into_iter().enumerate() {
        alerting.log(&channel, |log| attempts(&log[0]) == tries + 1).await;
        down.set(behaviour);
        alerting.pass(seconds);
    }
    let log = alerting.log(&channel, |log| attempts(&log[0]) == 4).await;
    let status = |place: usize| log[0]["attempts"][place]["status"].clone();
    assert_eq!([0, 1, 2, 3].map(status), [json!(null), json!(500), json!(302), json!(429)]);
    assert!(log[0]["attempts"][0]["duration_milliseconds"].as_i64().unwrap() >= 1900, "{log:?}");
    // The alert is resolved meanwhile: both messages are sent in order, and not before the
    // requested time.
    alerting.resolve("one").await;
    down.set(Behaviour::Accepts(0));
    alerting.pass(2 * 3600 + 1000);
    a_moment().await;
    assert_eq!(down.summaries(), [""; 0]);
    alerting.pass(12_000 - 2 * 3600 - 1000);
    receives(&down, &["source.firing of one", "source.resolved of one"]).await;
    let ids: Vec<String> = down.received().into_iter().map(|message| message.id).collect();
    assert!(ids[..5].iter().all(|id| *id == ids[0]) && ids[5] != ids[0], "{ids:?}");
    let log = alerting.log(&channel, |log| log.iter().all(|one| one["state"] == "delivered")).await;
    assert_eq!((attempts(&log[1]), attempts(&log[0])), (5, 1));
    let delivered = "segmentd_alert_deliveries_total{kind=\"webhook\",outcome=\"delivered\"}";
    assert_eq!(alerting.app.metric(delivered).await, 3);
    alerting.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_gone_or_fails_is_announced_on_other_channels() {
    let alerting = AlertingApp::start().await;
    let app = &alerting.app;
    let (gone, deaf, ops) =
        tokio::join!(WebhookReceiver::start(), WebhookReceiver::start(), WebhookReceiver::start());
    let route = json!({ "topics": ["source"] });
    let gone_id = alerting.channel("gone", &gone, route.clone()).await;
    let deaf_id = alerting.channel("deaf", &deaf, json!({ "owners": ["a"] })).await;
    alerting.channel("ops", &ops, json!({ "topics": ["channel"] })).await;
    gone.set(Behaviour::Answers(410));
    alerting.raise(&found("one", Severity::Warning, None)).await;
    let lost = format!("channel.firing of channel:{gone_id}");
    receives(&ops, &[&lost]).await;
    assert!(
        ops.accepted()[0].field("description").contains("answered 410"),
        "{:?}",
        ops.accepted()
    );
    let (_, shown) = app.get(&format!("/v1/channels/{gone_id}")).await;
    assert!(shown["disabled_reason"].as_str().unwrap().contains("410"), "{shown}");
    // Nothing more is sent to the channel, not even a test.
    alerting.raise(&found("two", Severity::Warning, None)).await;
    alerting.alerts().notify_due_alerts().await.unwrap();
    a_moment().await;
    assert_eq!(gone.received().len(), 1);
    assert_eq!(app.post(&format!("/v1/channels/{gone_id}/test"), "").await.0, 409);
    // Enabled again: abandoned messages can be replayed, and missed alerts are sent.
    gone.set(Behaviour::Accepts(0));
    assert_eq!(app.post(&format!("/v1/channels/{gone_id}/enable"), "").await.0, 200);
    let found_again = format!("channel.resolved of channel:{gone_id}");
    receives(&ops, &[&lost, &found_again]).await;
    alerting.alerts().notify_due_alerts().await.unwrap();
    receives(&gone, &["source.firing of two"]).await;
    let (since, until) = (alerting.now().plus_millis(-1000), alerting.now().plus_millis(1000));
    let range = json!({ "since": since, "until": until }).to_string();
    let (status, answer) = app.post(&format!("/v1/channels/{gone_id}/replay"), range).await;
    assert_eq!((status, &answer), (200, &json!({ "replayed": 1 })));
    receives(&gone, &["source.firing of two", "source.firing of one"]).await;

    // Ten attempts over three days, then the message is abandoned.
    deaf.set(Behaviour::Answers(503));
    alerting.raise(&found("three", Severity::Warning, Some("a"))).await;
    for tries in 1..=10 {
        alerting.log(&deaf_id, |log| attempts(&log[0]) == tries).await;
        alerting.pass(97_000);
    }
    let log = alerting.log(&deaf_id, |log| log[0]["state"] == "failed").await;
    let dead = format!("channel.firing of channel:{deaf_id}");
    receives(&ops, &[&lost, &found_again, &dead]).await;
    // The resolution of an undelivered alert is not sent, unless the alert is replayed.
    alerting.resolve("three").await;
    a_moment().await;
    assert_eq!(deaf.received().len(), 10);
    deaf.set(Behaviour::Accepts(0));
    let replay = format!("/v1/deliveries/{}/replay", log[0]["delivery_id"].as_str().unwrap());
    assert_eq!(app.post(&replay, "").await.0, 204);
    receives(&deaf, &["source.firing of three", "source.resolved of three"]).await;
    let well = format!("channel.resolved of channel:{deaf_id}");
    receives(&ops, &[&lost, &found_again, &dead, &well]).await;
    alerting.app.stop().await;
}
