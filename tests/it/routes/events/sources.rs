//! `GET /v1/sources`: the volume of a source of events is usual, higher, lower, or zero.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use segmentd::domain::access::AccessScope;
use segmentd::service::api_keys;
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};

use crate::support::contract::assert_described;
use crate::support::webhook_receiver::WebhookReceiver;
use crate::support::{TestApp, eventually};

const HOUR_MILLIS: i64 = 3_600_000;
/// Only the test flushes the counts; a source is learned after three days.
const BY_HAND: [(&str, &str); 5] = [
    ("sources.check_seconds", "600"),
    ("sources.min_history_hours", "72"),
    ("sources.min_usual_events", "5"),
    ("alerts.poll_seconds", "3600"),
    ("alerts.allow_private_addresses", "true"),
];

struct Sender {
    app: TestApp,
    now: Arc<AtomicI64>,
    sent: usize,
}

impl Sender {
    fn pass(&self, millis: i64) {
        self.now.fetch_add(millis, Ordering::Relaxed);
        self.app.app.alerts.wake_delivery();
    }

    /// Sends new events, and one of them twice.
    async fn send(&mut self, path: &str, events: usize) {
        let event = |i: usize| {
            json!({
                "type": "track", "name": "Order Completed", "customer_id": format!("c{i}"),
                "message_id": format!("m{i}"), "properties": { "revenue": 5 },
            })
        };
        let mut body: Vec<Value> = (self.sent..self.sent + events).map(event).collect();
        body.extend(body.first().cloned());
        self.sent += events;
        let (status, answer) = self.app.post(path, json!(body).to_string()).await;
        assert_eq!((status, &answer["accepted"]), (200, &json!(events)), "{answer}");
    }

    async fn look(&self) {
        let sources = &self.app.app.sources;
        // Twice at once, as two replicas would: it counts once.
        let both = tokio::join!(sources.flush(), sources.flush());
        assert!(both.0.is_ok() && both.1.is_ok());
        let both = tokio::join!(sources.check_sources(), sources.check_sources());
        assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    }

    /// The only source.
    async fn source(&self) -> Value {
        let (status, answer) = self.app.get("/v1/sources").await;
        let sources = answer["sources"].as_array().unwrap();
        assert_eq!((status, sources.len()), (200, 1), "{answer}");
        assert_described("EventSourceList", &answer);
        sources[0].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_raises_an_alert_when_its_volume_changes_or_stops() {
    let start = TimeSource::System.now().millis().div_euclid(HOUR_MILLIS) * HOUR_MILLIS;
    let start = segmentd::domain::time::Timestamp::from_millis(start - 240 * HOUR_MILLIS);
    let (clock, now) = TimeSource::manual(start.plus_millis(HOUR_MILLIS / 2));
    let app = TestApp::start_at(clock.clone(), &BY_HAND).await;
    let receiver = WebhookReceiver::start().await;
    let channel = json!({
        "name": "ops", "topics": ["source"], "target": { "kind": "webhook", "url": receiver.url },
    });
    assert_eq!(app.post("/v1/channels", channel.to_string()).await.0, 201);
    let mut sender = Sender { app, now, sent: 0 };

    // Four days with ten events an hour, by two kinds of requests.
    for hour in 0..96 {
        sender.send("/v1/events", 6).await;
        sender.send("/v1/events?strict=true", 4).await;
        sender.look().await;
        if hour == 5 {
            assert_eq!(sender.source().await["status"], "learning");
        }
        sender.pass(HOUR_MILLIS);
    }
    sender.look().await;
    let calm = sender.source().await;
    assert_eq!((&calm["status"], &calm["endpoint"]), (&json!("usual"), &json!("events")), "{calm}");
    assert_eq!((&calm["key_name"], &calm["usual_gap_seconds"]), (&json!("test"), &json!(3600.0)));
    assert_eq!(
        (&calm["last_hour"]["events"], &calm["last_hour"]["usual_events"]),
        (&json!(10), &json!(10.0))
    );
    assert_eq!(sender.app.get("/v1/alerts?state=all").await.1["alerts"], json!([]));

    // Far more events; then as before.
    sender.send("/v1/events", 300).await;
    sender.pass(HOUR_MILLIS);
    sender.send("/v1/events", 10).await;
    sender.look().await;
    let more = sender.source().await;
    assert_eq!(
        (&more["status"], &more["last_hour"]["events"]),
        (&json!("high"), &json!(300)),
        "{more}"
    );
    let key = more["key_id"].as_str().unwrap().to_owned();
    let volume = format!("source:volume:{key}:events");
    eventually("the alert fires", async || {
        receiver.summaries() == [format!("source.firing of {volume}")]
    })
    .await;
    let message = receiver.accepted()[0].clone();
    assert!(
        message.field("description").contains("300 new events")
            && message.field("description").contains("10 are")
    );
    sender.pass(HOUR_MILLIS);
    sender.send("/v1/events", 10).await;
    sender.look().await;
    eventually("the alert is resolved", async || {
        receiver.summaries().last() == Some(&format!("source.resolved of {volume}"))
    })
    .await;

    // No events for less than twice the longest gap; then for longer.
    sender.pass(2 * HOUR_MILLIS - 1000);
    sender.look().await;
    assert_eq!(sender.source().await["status"], "usual");
    sender.pass(HOUR_MILLIS);
    sender.look().await;
    sender.look().await;
    let quiet = format!("source:silent:{key}:events");
    eventually("the alert fires", async || {
        receiver.summaries().last() == Some(&format!("source.firing of {quiet}"))
    })
    .await;
    let (_, metrics) = sender.app.admin("/metrics").await;
    for line in [
        "segmentd_sources{status=\"silent\"} 1",
        "segmentd_source_last_event_age_seconds{endpoint=\"events\"} 10799",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line}: {metrics}");
    }
    // An event at another replica resolves it, even if that replica stops at once.
    let other = [BY_HAND.as_slice(), &[("database.url", &sender.app.database_url)]].concat();
    let other = TestApp::start_at(clock, &other).await;
    let back = json!({ "type": "track", "name": "Order Completed", "customer_id": "back" });
    // With the same key, which defines the source.
    let client = reqwest::Client::new().post(format!("{}/v1/events", other.url));
    let sent = client.bearer_auth(&sender.app.key).body(back.to_string()).send().await.unwrap();
    assert_eq!(sent.status(), 200);
    other.stop().await;
    sender.pass(HOUR_MILLIS / 6);
    sender.look().await;
    eventually("the alert is resolved", async || {
        receiver.summaries().contains(&format!("source.resolved of {quiet}"))
    })
    .await;

    // A revoked key is no source.
    let replacement =
        api_keys::create_key(&sender.app.db, &TimeSource::System, "new", &AccessScope::ALL).await;
    assert!(replacement.is_ok());
    api_keys::revoke_key(&sender.app.db, &TimeSource::System, &key).await.unwrap();
    assert!(sender.app.app.sources.assess_sources().await.unwrap().is_empty());
    sender.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_are_listed_in_pages() {
    let app = TestApp::start_with(&BY_HAND).await;
    for n in 0..2 {
        let key = format!("k{n}");
        let key = api_keys::create_key(&app.db, &TimeSource::System, &key, &AccessScope::ALL).await;
        app.app.api_keys.refresh().await.unwrap();
        let key = key.unwrap();
        let event = json!({ "type": "page", "customer_id": "c1", "message_id": key[..12] });
        app.post_as(Some(&key), "/v1/events/bulk", &event.to_string()).await;
        app.post_as(Some(&key), "/v1/page", r#"{"userId": "c1"}"#).await;
    }
    app.app.sources.flush().await.unwrap();
    let source = |source: &Value| (source["endpoint"].to_string(), source["key_id"].to_string());
    let (_, all) = app.get("/v1/sources").await;
    let all: Vec<_> = all["sources"].as_array().unwrap().iter().map(source).collect();
    assert_eq!(all.len(), 4);
    assert!(all.is_sorted());
    let mut paged = Vec::new();
    let mut path = "/v1/sources?limit=3".to_owned();
    loop {
        let (status, page) = app.get(&path).await;
        assert_eq!(status, 200, "{page}");
        paged.extend(page["sources"].as_array().unwrap().iter().map(source));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/sources?limit=3&cursor={cursor}");
    }
    assert_eq!(paged, all);
    app.stop().await;
}
