//! Receivers that hang, fail, send elsewhere, ask for time or are gone. The clock is the
//! test's.

use segmentd::domain::drift::Severity;
use serde_json::{Value, json};

use crate::support::hook::{Hook, Mood};
use crate::support::house::{House, a_moment, found, hears};

fn attempts(delivery: &Value) -> usize {
    delivery["attempts"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_down_for_an_hour_takes_it_once() {
    let house = House::start().await;
    let (down, fine) = tokio::join!(Hook::start(), Hook::start());
    let channel = house.channel("down", &down, json!({ "owners": ["a"] })).await;
    house.channel("fine", &fine, json!({ "owners": ["b"] })).await;
    // Each in its own way: what is no answer, no success or somewhere else is tried again.
    down.set(Mood::Hangs);
    house.raise(&found("one", Severity::Warning, Some("a"))).await;
    house.raise(&found("two", Severity::Warning, Some("b"))).await;
    // Nobody waits for the one that hangs.
    hears(&fine, &["source.firing of two"]).await;
    assert_eq!(down.heard().len(), 1);
    let waits = [(6, Mood::Says(500)), (331, Mood::Redirects), (1981, Mood::AsksToWait(12_000))];
    for (tries, (seconds, mood)) in waits.into_iter().enumerate() {
        house.log(&channel, |log| attempts(&log[0]) == tries + 1).await;
        down.set(mood);
        house.pass(seconds);
    }
    let log = house.log(&channel, |log| attempts(&log[0]) == 4).await;
    let status = |place: usize| log[0]["attempts"][place]["status"].clone();
    assert_eq!([0, 1, 2, 3].map(status), [json!(null), json!(500), json!(302), json!(429)]);
    assert!(log[0]["attempts"][0]["took_milliseconds"].as_i64().unwrap() >= 1900, "{log:?}");
    // It is over meanwhile: both are told, in order, and not before the time asked for.
    house.resolve("one").await;
    down.set(Mood::Takes(0));
    house.pass(2 * 3600 + 1000);
    a_moment().await;
    assert_eq!(down.says(), [""; 0]);
    house.pass(12_000 - 2 * 3600 - 1000);
    hears(&down, &["source.firing of one", "source.resolved of one"]).await;
    let ids: Vec<String> = down.heard().into_iter().map(|heard| heard.id).collect();
    assert!(ids[..5].iter().all(|id| *id == ids[0]) && ids[5] != ids[0], "{ids:?}");
    let log = house.log(&channel, |log| log.iter().all(|one| one["state"] == "delivered")).await;
    assert_eq!((attempts(&log[1]), attempts(&log[0])), (5, 1));
    let delivered = "segmentd_alert_deliveries_total{kind=\"webhook\",outcome=\"delivered\"}";
    assert_eq!(house.app.metric(delivered).await, 3);
    house.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_gone_or_takes_nothing_is_told_to_the_others() {
    let house = House::start().await;
    let app = &house.app;
    let (gone, deaf, ops) = tokio::join!(Hook::start(), Hook::start(), Hook::start());
    let route = json!({ "topics": ["source"] });
    let gone_id = house.channel("gone", &gone, route.clone()).await;
    let deaf_id = house.channel("deaf", &deaf, json!({ "owners": ["a"] })).await;
    house.channel("ops", &ops, json!({ "topics": ["channel"] })).await;
    gone.set(Mood::Says(410));
    house.raise(&found("one", Severity::Warning, None)).await;
    let lost = format!("channel.firing of channel:{gone_id}");
    hears(&ops, &[&lost]).await;
    assert!(ops.taken()[0].field("what").contains("answered 410"), "{:?}", ops.taken());
    let (_, shown) = app.get(&format!("/v1/channels/{gone_id}")).await;
    assert!(shown["disabled_why"].as_str().unwrap().contains("410"), "{shown}");
    // Nothing more is sent there, by hand neither.
    house.raise(&found("two", Severity::Warning, None)).await;
    house.alerts().sweep().await.unwrap();
    a_moment().await;
    assert_eq!(gone.heard().len(), 1);
    assert_eq!(app.post(&format!("/v1/channels/{gone_id}/test"), "").await.0, 409);
    // Used again: what was given up may be replayed, and what it missed is told.
    gone.set(Mood::Takes(0));
    assert_eq!(app.post(&format!("/v1/channels/{gone_id}/enable"), "").await.0, 200);
    let found_again = format!("channel.resolved of channel:{gone_id}");
    hears(&ops, &[&lost, &found_again]).await;
    house.alerts().sweep().await.unwrap();
    hears(&gone, &["source.firing of two"]).await;
    let (since, until) = (house.now().plus_millis(-1000), house.now().plus_millis(1000));
    let range = json!({ "since": since, "until": until }).to_string();
    let (status, told) = app.post(&format!("/v1/channels/{gone_id}/replay"), range).await;
    assert_eq!((status, &told), (200, &json!({ "replayed": 1 })));
    hears(&gone, &["source.firing of two", "source.firing of one"]).await;

    // Ten attempts over three days, then it is given up.
    deaf.set(Mood::Says(503));
    house.raise(&found("three", Severity::Warning, Some("a"))).await;
    for tries in 1..=10 {
        house.log(&deaf_id, |log| attempts(&log[0]) == tries).await;
        house.pass(97_000);
    }
    let log = house.log(&deaf_id, |log| log[0]["state"] == "dead").await;
    let dead = format!("channel.firing of channel:{deaf_id}");
    hears(&ops, &[&lost, &found_again, &dead]).await;
    // Nobody hears of the end of what they have not heard of; unless it is sent again.
    house.resolve("three").await;
    a_moment().await;
    assert_eq!(deaf.heard().len(), 10);
    deaf.set(Mood::Takes(0));
    let replay = format!("/v1/deliveries/{}/replay", log[0]["delivery"].as_str().unwrap());
    assert_eq!(app.post(&replay, "").await.0, 204);
    hears(&deaf, &["source.firing of three", "source.resolved of three"]).await;
    let well = format!("channel.resolved of channel:{deaf_id}");
    hears(&ops, &[&lost, &found_again, &dead, &well]).await;
    house.app.stop().await;
}
