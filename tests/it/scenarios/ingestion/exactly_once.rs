//! Exactly-once ingestion: each customer state is the replay of the sent events, each
//! counted once, with any replicas, order, repetitions and crashes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use futures_util::future::join_all;
use segmentd::config::{AppConfig, Environment};
use segmentd::domain::event::CustomerEvent;
use segmentd::domain::feature::{CustomerState, FeatureSet};
use segmentd::domain::id::CustomerKey;
use segmentd::domain::identity::SentinelIds;
use segmentd::domain::json::RawJson;
use segmentd::domain::wire::{EventLimits, native};
use segmentd::service::clock::TimeSource;
use segmentd::store::customers::changes::FeedPosition;
use segmentd::store::customers::{assignments, changes};
use segmentd::store::database::connect::ConnectionSettings;
use segmentd::store::database::private::{PrivatePostgres, PrivateServerSettings};
use segmentd::store::{DatabaseHandle, customers};
use serde_json::{Value, json};

use crate::support::process::{Process, end_postgres_at_once};
use crate::support::random::SeededRandom;
use crate::support::{eventually_within, open_to_all};

const CUSTOMERS: u64 = 200;
const WRITERS: usize = 64;
const EVENTS: u64 = 6000;
const SERVER: PrivateServerSettings =
    PrivateServerSettings { binaries: None, max_connections: 100 };

fn event(number: u64, draw: &mut SeededRandom) -> Value {
    let ago = i64::try_from(draw.below(300 * 86_400)).unwrap() * 1000;
    let mut event = json!({
        "message_id": format!("law-{number}"),
        "customer_id": format!("c{:03}", draw.below(CUSTOMERS)),
        "timestamp": TimeSource::System.now().plus_millis(-ago - 60_000).to_string(),
    });
    let more = match draw.below(8) {
        0 => json!({ "type": "track", "name": "Coupon Redeemed" }),
        1 => json!({ "type": "identify", "traits": { "age": format!("{}", draw.below(70)) } }),
        _ => json!({ "type": "track", "name": "Order Completed", "properties": {
            "sales_value": f64::from(draw.number(10_000)) / 100.0,
            "retail_disc": f64::from(draw.number(300)) / 7.0,
            "lines": draw.below(20),
            "store_id": format!("{}", draw.below(9)),
        }}),
    };
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

/// The three replicas; writers address them by number, also after a restart.
struct Replicas {
    urls: Mutex<Vec<String>>,
    key: String,
    client: reqwest::Client,
    sent: AtomicUsize,
}

impl Replicas {
    fn url(&self, number: u64) -> String {
        let urls = self.urls.lock().unwrap();
        urls[usize::try_from(number).unwrap() % urls.len()].clone()
    }

    /// Sends batches until each is acknowledged; returns how often each event was accepted.
    async fn write(&self, events: Vec<Value>, mut draw: SeededRandom) -> BTreeMap<String, usize> {
        let mut accepted = BTreeMap::new();
        let mut events = events.as_slice();
        while !events.is_empty() {
            let size = usize::try_from(1 + draw.below(8)).unwrap().min(events.len());
            let batch = json!(events[..size]).to_string();
            let url = format!("{}/v1/events", self.url(draw.below(3)));
            let sent = self.client.post(url).bearer_auth(&self.key).body(batch).send().await;
            let body: Option<Value> = match sent {
                Ok(answer) if answer.status() == 200 => answer.json().await.ok(),
                Ok(answer) => {
                    // Only a retry later, with `Retry-After`.
                    assert!(matches!(answer.status().as_u16(), 429 | 503), "{answer:?}");
                    assert!(answer.headers().contains_key("retry-after"), "{answer:?}");
                    None
                }
                Err(_) => None,
            };
            let Some(body) = body else {
                // A sleep, because it is the back-off of the client.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            assert_eq!(body["outcomes"].as_array().unwrap().len(), size, "{body}");
            for result in body["outcomes"].as_array().unwrap() {
                let id = result["message_id"].as_str().unwrap().to_owned();
                let is_new = result["status"] == "accepted";
                assert!(is_new || result["status"] == "duplicate", "{result}");
                *accepted.entry(id).or_default() += usize::from(is_new);
            }
            self.sent.fetch_add(size, Ordering::Relaxed);
            events = &events[size..];
        }
        accepted
    }

    /// Waits until this number of events is acknowledged.
    async fn until_sent(&self, events: usize) {
        eventually_within(Duration::from_mins(5), "this share is acknowledged", async || {
            self.sent.load(Ordering::Relaxed) >= events
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn states_are_the_replay_of_the_sent_events() {
    let place = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let server = place.path().join("server");
    std::fs::create_dir(&server).unwrap();
    std::fs::set_permissions(&server, open_to_all()).unwrap();
    let postgres = PrivatePostgres::start(&server, &SERVER).await.unwrap();
    let database = postgres.url();
    let key = Process::key(place.path(), Some(&database));
    let start = || Process::start(place.path(), Some(&database));
    let mut processes = [start(), start(), start()];

    // Each event is sent one to three times, by different writers, in any order.
    let mut draw = SeededRandom(20_170_101);
    let events: Vec<Value> = (0..EVENTS).map(|number| event(number, &mut draw)).collect();
    let mut parts = vec![Vec::new(); WRITERS];
    for event in &events {
        for _ in 0..=draw.below(3) {
            parts[usize::try_from(draw.below(64)).unwrap()].push(event.clone());
        }
    }
    let deliveries: usize = parts.iter().map(Vec::len).sum();
    let replicas = Arc::new(Replicas {
        urls: Mutex::new(processes.iter().map(|process| process.url.clone()).collect()),
        key,
        client: reqwest::Client::new(),
        sent: AtomicUsize::new(0),
    });
    let writers = parts.into_iter().zip(1..).map(|(mut part, number)| {
        let mut draw = SeededRandom(number);
        draw.shuffle(&mut part);
        let replicas = Arc::clone(&replicas);
        async move { replicas.write(part, draw).await }
    });
    let crashes = async {
        replicas.until_sent(deliveries * 2 / 10).await;
        processes[0].kill();
        processes[0] = start();
        replicas.urls.lock().unwrap()[0].clone_from(&processes[0].url);

        replicas.until_sent(deliveries * 4 / 10).await;
        end_postgres_at_once(&server);
        postgres.stop().await.unwrap();
        outage(&replicas).await;
        let restarted = PrivatePostgres::start(&server, &SERVER).await.unwrap();

        replicas.until_sent(deliveries * 7 / 10).await;
        processes[1].kill();
        processes[1] = start();
        replicas.urls.lock().unwrap()[1].clone_from(&processes[1].url);
        restarted
    };
    let (acknowledged, postgres) = tokio::join!(join_all(writers), crashes);

    let mut accepted = BTreeMap::<String, usize>::new();
    for (id, times) in acknowledged.into_iter().flatten() {
        *accepted.entry(id).or_default() += times;
    }
    assert_eq!(accepted.len(), events.len());
    let twice: Vec<_> = accepted.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "acknowledged, lost, and counted again: {twice:?}");
    agrees(&database, &events).await;
    drop(processes);
    postgres.stop().await.unwrap();
}

/// Without Postgres: scores are answered, and events get 503.
async fn outage(replicas: &Replicas) {
    let post = |path: &str, body: &'static str| {
        let url = format!("{}{path}", replicas.url(2));
        replicas.client.post(url).bearer_auth(&replicas.key).body(body).send()
    };
    let score = post("/v1/score", r#"{"features": {"recency_days": 3}}"#).await.unwrap();
    assert_eq!(score.status(), 200);
    let event = r#"{"type": "page", "customer_id": "nobody", "message_id": "outage"}"#;
    assert_eq!(post("/v1/events", event).await.unwrap().status(), 503);
}

/// Every stored state is the replay of all events of its customer, and the change feed
/// leads each customer to its current segment, step by step.
async fn agrees(database: &str, events: &[Value]) {
    let config = AppConfig::load_from(None, &Environment::default(), &[]).unwrap();
    let features: FeatureSet = segmentd::app::features(&config).unwrap();
    let now = TimeSource::System.now();
    let limits = EventLimits {
        max_future_millis: 0,
        max_property_depth: 8,
        max_event_bytes: 32_768,
        sentinel_ids: SentinelIds::default(),
    };
    let mut of_customer = BTreeMap::<CustomerKey, Vec<CustomerEvent>>::new();
    for event in events {
        let text = event.to_string();
        let raw = RawJson::parse(text.as_bytes()).unwrap();
        let event = native::parse_event(raw, now, &limits, || None).unwrap().event;
        let event = features.validate_event(event).unwrap().event;
        of_customer.entry(event.customer.clone()).or_default().push(event);
    }
    let connection = ConnectionSettings {
        url: database.to_owned(),
        max_connections: 4,
        acquire_timeout: Duration::from_secs(3),
        time_limits: segmentd::config::DatabaseTimeLimits::default(),
    };
    let db = DatabaseHandle::connect(&connection).await.unwrap();
    let stored: Vec<_> = customers::stream_states(db.read()).try_collect().await.unwrap();
    assert_eq!(stored.len(), of_customer.len());
    for (stored, (customer, events)) in stored.iter().zip(&of_customer) {
        assert_eq!(stored.customer, *customer);
        let replayed = CustomerState::replay(&features, events);
        assert_eq!(stored.state, replayed.to_bytes(&features), "{customer}");
    }
    let reach = changes::read_bounds(db.read()).await.unwrap();
    let feed =
        changes::read_page(db.read(), FeedPosition::default(), reach.end, 1_000_000).await.unwrap();
    let mut stands = BTreeMap::<String, String>::new();
    for change in feed {
        let before = stands.insert(change.customer.clone(), change.now.segment.id.to_string());
        assert_eq!(
            before,
            change.before.map(|side| side.segment.id.to_string()),
            "{}",
            change.customer
        );
    }
    for customer in of_customer.keys() {
        let now = assignments::find_current(db.read(), customer).await.unwrap().unwrap();
        assert_eq!(*stands[customer.as_str()], *now.segment.id, "{customer}");
    }
    db.close().await;
}
