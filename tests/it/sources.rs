//! Who sends events: as much as usual, far more, far less, or nothing any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use segmentd::domain::access::Scope;
use segmentd::service::api_keys;
use segmentd::service::clock::Clock;
use serde_json::{Value, json};

use crate::support::hook::Hook;
use crate::support::{TestApp, eventually};

const HOUR_MILLIS: i64 = 3_600_000;
/// Nothing is written down but by the test's hand; three days make a source known.
const BY_HAND: [(&str, &str); 5] = [
    ("sources.check_seconds", "600"),
    ("sources.learn_hours", "72"),
    ("sources.least_events", "5"),
    ("alerts.poll_seconds", "3600"),
    ("alerts.allow_private_addresses", "yes"),
];

struct Sender {
    app: TestApp,
    now: Arc<AtomicI64>,
    sent: usize,
}

impl Sender {
    fn pass(&self, millis: i64) {
        self.now.fetch_add(millis, Ordering::Relaxed);
        self.app.app.alerts.wake.notify_one();
    }

    /// So many new events at one of the doors, of which one is sent twice.
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
        // Twice at once, as replicas do: it counts once.
        let both = tokio::join!(sources.flush(), sources.flush());
        assert!(both.0.is_ok() && both.1.is_ok());
        let both = tokio::join!(sources.check(), sources.check());
        assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    }

    /// The one source that there is.
    async fn source(&self) -> Value {
        let (status, told) = self.app.get("/v1/sources").await;
        let sources = told["sources"].as_array().unwrap();
        assert_eq!((status, sources.len()), (200, 1), "{told}");
        sources[0].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_told_of_when_it_sends_unlike_before_and_when_it_goes_quiet() {
    let start = Clock::System.now().millis().div_euclid(HOUR_MILLIS) * HOUR_MILLIS;
    let start = segmentd::domain::time::Timestamp::from_millis(start - 240 * HOUR_MILLIS);
    let (clock, now) = Clock::fixed(start.plus_millis(HOUR_MILLIS / 2));
    let app = TestApp::start_at(clock.clone(), &BY_HAND).await;
    let hook = Hook::start().await;
    let wish = json!({
        "name": "ops", "topics": ["source"], "target": { "kind": "webhook", "url": hook.url },
    });
    assert_eq!(app.post("/v1/channels", wish.to_string()).await.0, 201);
    let mut sender = Sender { app, now, sent: 0 };

    // Four days, ten events an hour: some as one batch, some by another request.
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
    assert_eq!((&calm["status"], &calm["door"]), (&json!("usual"), &json!("events")), "{calm}");
    assert_eq!((&calm["name"], &calm["usual_gap_seconds"]), (&json!("test"), &json!(3600.0)));
    assert_eq!(
        (&calm["last_hour"]["events"], &calm["last_hour"]["usual"]),
        (&json!(10), &json!(10.0))
    );
    assert_eq!(sender.app.get("/v1/alerts?state=all").await.1["alerts"], json!([]));

    // Far more; then as before.
    sender.send("/v1/events", 300).await;
    sender.pass(HOUR_MILLIS);
    sender.send("/v1/events", 10).await;
    sender.look().await;
    let more = sender.source().await;
    assert_eq!(
        (&more["status"], &more["last_hour"]["events"]),
        (&json!("more"), &json!(300)),
        "{more}"
    );
    let key = more["key"].as_str().unwrap().to_owned();
    let volume = format!("source:volume:{key}:events");
    eventually("it is told", async || hook.says() == [format!("source.firing of {volume}")]).await;
    let told = hook.taken()[0].clone();
    assert!(told.field("what").contains("300 new events") && told.field("what").contains("10 are"));
    sender.pass(HOUR_MILLIS);
    sender.send("/v1/events", 10).await;
    sender.look().await;
    eventually("it is over", async || {
        hook.says().last() == Some(&format!("source.resolved of {volume}"))
    })
    .await;

    // Nothing for less than twice its longest gap; then for longer.
    sender.pass(2 * HOUR_MILLIS - 1000);
    sender.look().await;
    assert_eq!(sender.source().await["status"], "usual");
    sender.pass(HOUR_MILLIS);
    sender.look().await;
    sender.look().await;
    let quiet = format!("source:quiet:{key}:events");
    eventually("it is told", async || {
        hook.says().last() == Some(&format!("source.firing of {quiet}"))
    })
    .await;
    let (_, metrics) = sender.app.admin("/metrics").await;
    for line in [
        "segmentd_sources{status=\"quiet\"} 1",
        "segmentd_source_last_event_age_seconds{door=\"events\"} 10799",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line}: {metrics}");
    }
    // What comes at another replica ends it, also when that is stopped at once.
    let other = [BY_HAND.as_slice(), &[("database.url", &sender.app.database_url)]].concat();
    let other = TestApp::start_at(clock, &other).await;
    let back = json!({ "type": "track", "name": "Order Completed", "customer_id": "back" });
    // By the same key: a source is not a process.
    let client = reqwest::Client::new().post(format!("{}/v1/events", other.url));
    let sent = client.bearer_auth(&sender.app.key).body(back.to_string()).send().await.unwrap();
    assert_eq!(sent.status(), 200);
    other.stop().await;
    sender.pass(HOUR_MILLIS / 6);
    sender.look().await;
    eventually("it is over", async || hook.says().contains(&format!("source.resolved of {quiet}")))
        .await;

    // A key that is revoked is no source.
    let replacement = api_keys::create(&sender.app.db, &Clock::System, "new", &Scope::ALL).await;
    assert!(replacement.is_ok());
    api_keys::revoke(&sender.app.db, &Clock::System, &key).await.unwrap();
    assert!(sender.app.app.sources.list().await.unwrap().is_empty());
    sender.app.stop().await;
}
