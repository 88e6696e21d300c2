//! A well-behaved caller: scores and sends events at a fixed rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::percentile;
use crate::service::Running;

/// Feature rows to score each second.
const SCORES_PER_SECOND: u64 = 100;
/// Single events each second.
const EVENTS_PER_SECOND: u64 = 50;

/// Results of one kind of request.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) times: Vec<Duration>,
    /// Responses other than 200, with their number.
    pub(crate) failures: std::collections::BTreeMap<String, usize>,
}

impl Measured {
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.times.clone();
        sorted.sort();
        percentile(&sorted, percent)
    }

    pub(crate) fn failed(&self) -> usize {
        self.failures.values().sum()
    }
}

/// Sends scoring requests and events for `duration`; times run from when each request
/// was due, so a stall counts for every request that it delays.
pub(crate) async fn run(url: &str, key: &str, duration: Duration) -> (Measured, Measured) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let features =
        json!({ "features": { "recency_days": 1, "orders_365d": 20, "spend_365d": 300 } });
    let score = move || features.to_string();
    let event = || {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        order(&format!("calm-{number}"), &format!("c{:05}", number % 997)).to_string()
    };
    let scores = pace(url, "/v1/score", key, SCORES_PER_SECOND, duration, score);
    let events = pace(url, "/v1/events", key, EVENTS_PER_SECOND, duration, event);
    tokio::join!(scores, events)
}

async fn pace(
    url: &str,
    path: &str,
    key: &str,
    per_second: u64,
    duration: Duration,
    body: impl Fn() -> String,
) -> Measured {
    let client = client();
    let address = format!("{url}{path}");
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..per_second * duration.as_secs() {
        let due = started + Duration::from_micros(number * 1_000_000 / per_second);
        tokio::time::sleep_until(due.into()).await;
        let request = client.post(&address).bearer_auth(key).body(body());
        tasks.spawn(async move {
            let outcome = match request.send().await {
                Ok(answer) if answer.status() == 200 => {
                    answer.bytes().await.map(drop).map_err(|error| error.to_string())
                }
                Ok(answer) => Err(answer.status().to_string()),
                Err(error) => Err(format!("{error:?}")),
            };
            (due.elapsed(), outcome)
        });
    }
    let mut measured = Measured::default();
    while let Some(done) = tasks.join_next().await {
        let (time, outcome) = done.unwrap();
        measured.times.push(time);
        if let Err(why) = outcome {
            *measured.failures.entry(why).or_default() += 1;
        }
    }
    measured
}

pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_secs(40)).build().unwrap()
}

pub(crate) fn order(message_id: &str, customer_id: &str) -> Value {
    json!({
        "type": "track",
        "name": "Order Completed",
        "message_id": message_id,
        "customer_id": customer_id,
        "properties": { "sales_value": 30, "lines": 3, "store_id": "1" },
    })
}

/// Sends the orders of 2,000 customers and trains a model on them.
pub(crate) async fn prepare(running: &Running, key: &str) {
    let client = client();
    let lines: Vec<String> = (0..6000_usize)
        .map(|number| {
            let customer = number % 2000;
            let mut event = order(&format!("prepare-{number}"), &format!("c{customer:05}"));
            event["properties"]["sales_value"] = (3 + customer % 70).into();
            event["properties"]["lines"] = (1 + customer % 9).into();
            event.to_string()
        })
        .collect();
    let bulk = client.post(format!("{}/v1/events/bulk", running.url)).bearer_auth(key);
    let answer = bulk.body(lines.join("\n")).send().await.unwrap().text().await.unwrap();
    assert_eq!(answer.matches(r#""status":"accepted""#).count(), lines.len());
    let training = client.post(format!("{}/v1/training-runs", running.url)).bearer_auth(key);
    let asked = training.body("{}").send().await.unwrap();
    assert!(asked.status().is_success(), "{}", asked.text().await.unwrap());
    for _ in 0..600 {
        let segments = client.get(format!("{}/v1/segments", running.url)).bearer_auth(key);
        let segments: Value = segments.send().await.unwrap().json().await.unwrap();
        if segments["model_id"].is_string() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no model after a minute: {:?}", running.log.lock().unwrap());
}

/// Raised when a scenario is over.
pub(crate) type Over = Arc<AtomicBool>;
