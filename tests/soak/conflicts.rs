//! Random resends with and without changes through three replicas on one database: every
//! change is reported, no event is lost, and none is counted twice.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use segmentd::store::database::private::{PrivatePostgres, PrivateServerSettings};
use serde_json::{Value, json};

use crate::caller::{client, order};
use crate::service::{Running, Service};
use crate::{bound, runtime};

const SENDERS: u64 = 12;
/// Sends for each identity, on average.
const SENDS_PER_EVENT: u64 = 8;
const EVENTS_PER_CUSTOMER: u64 = 50;
/// Contents of one identity. Half of the sends have the first.
const CONTENTS: u64 = 4;

/// A send and its verdict.
#[derive(Debug, Clone, Copy)]
struct Send {
    event: u32,
    content: u8,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accepted,
    Duplicate,
    Conflict,
}

/// The shared state of the senders.
#[derive(Debug)]
struct Load {
    urls: Vec<String>,
    key: String,
    events: u64,
    sends: u64,
    sent: AtomicU64,
}

pub(crate) fn run() {
    let sends = bound("SOAK_RESENDS", 1_000_000);
    let open_to_all = fs::Permissions::from_mode(0o755);
    let directory = tempfile::Builder::new().permissions(open_to_all).tempdir().unwrap();
    let runtime = runtime();
    let settings = PrivateServerSettings { binaries: None, max_connections: 200 };
    let postgres = runtime.block_on(PrivatePostgres::start(directory.path(), &settings)).unwrap();
    let url = format!("database.url={}", postgres.url());
    let settings =
        [&url, "failed_events.max_per_minute=1000000000", "failed_events.max_rows=1000000000"];
    let services = [0, 1, 2].map(|_| Service::new(&settings));
    let key = services[0].key("soak", "ingest,read");
    let running: Vec<Running> = services.iter().map(Service::start).collect();
    let load = Arc::new(Load {
        urls: running.iter().map(|running| running.url.clone()).collect(),
        key,
        events: (sends / SENDS_PER_EVENT).max(1),
        sends,
        sent: AtomicU64::new(0),
    });
    let started = Instant::now();
    let seed = bound("SOAK_SEED", 1);
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| runtime.spawn(Arc::clone(&load).send(seed * SENDERS + sender)))
        .collect();
    let mut all = Vec::new();
    for sender in senders {
        all.extend(runtime.block_on(sender).unwrap());
    }
    println!("  {} sends in {:.0?}", all.len(), started.elapsed());
    runtime.block_on(load.verify(&all));
    for running in running {
        running.stop();
    }
    runtime.block_on(postgres.stop()).unwrap();
}

impl Load {
    /// Sends batches of 1 to 100 random events to random replicas, by two endpoints.
    async fn send(self: Arc<Self>, seed: u64) -> Vec<Send> {
        let client = client();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut below = move |end: u64| random.next_u64() % end;
        let mut all = Vec::new();
        loop {
            let size = [1, 1, 10, 100][usize::try_from(below(4)).unwrap()];
            let before = self.sent.fetch_add(size, Ordering::Relaxed);
            if before >= self.sends {
                return all;
            }
            if before / 100_000 != (before + size) / 100_000 {
                println!("  {} sends", before + size);
            }
            let mut sends = Vec::new();
            for _ in 0..size {
                let content = below(2 * CONTENTS - 2).saturating_sub(CONTENTS - 2);
                let event = u32::try_from(below(self.events)).unwrap();
                sends.push((event, u8::try_from(content).unwrap()));
            }
            let replica = usize::try_from(below(self.urls.len() as u64)).unwrap();
            let verdicts = if below(2) == 0 {
                self.post_array(&client, replica, &sends).await
            } else {
                self.post_lines(&client, replica, &sends).await
            };
            assert_eq!(verdicts.len(), sends.len());
            for ((event, content), verdict) in sends.into_iter().zip(verdicts) {
                all.push(Send { event, content, verdict });
            }
        }
    }

    async fn post_array(
        &self,
        client: &reqwest::Client,
        replica: usize,
        sends: &[(u32, u8)],
    ) -> Vec<Verdict> {
        let events: Vec<Value> =
            sends.iter().map(|(event, content)| body(*event, *content)).collect();
        let text = self.post(client, replica, "/v1/events", json!(events).to_string()).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        let outcomes = answer["outcomes"].as_array().unwrap_or_else(|| panic!("{answer}"));
        outcomes.iter().map(Verdict::of).collect()
    }

    async fn post_lines(
        &self,
        client: &reqwest::Client,
        replica: usize,
        sends: &[(u32, u8)],
    ) -> Vec<Verdict> {
        let lines: Vec<String> =
            sends.iter().map(|(event, content)| body(*event, *content).to_string()).collect();
        let text = self.post(client, replica, "/v1/events/bulk", lines.join("\n")).await;
        text.lines().map(|line| Verdict::of(&serde_json::from_str(line).unwrap())).collect()
    }

    async fn post(
        &self,
        client: &reqwest::Client,
        replica: usize,
        path: &str,
        body: String,
    ) -> String {
        let request = client.post(format!("{}{path}", self.urls[replica])).bearer_auth(&self.key);
        let answer = request.timeout(Duration::from_mins(2)).body(body).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        assert!(matches!(status, 200 | 207 | 422), "{status} {text}");
        text
    }

    async fn get(&self, client: &reqwest::Client, path: &str) -> Value {
        let request = client.get(format!("{}{path}", self.urls[0])).bearer_auth(&self.key);
        request.send().await.unwrap().json().await.unwrap()
    }

    /// Compares the verdicts with each other, with the failed events and with the states.
    async fn verify(&self, all: &[Send]) {
        let mut counted = HashMap::<u32, u8>::new();
        let mut twice = 0;
        for send in all.iter().filter(|send| send.verdict == Verdict::Accepted) {
            twice += u64::from(counted.insert(send.event, send.content).is_some());
        }
        let (mut lost, mut unreported, mut false_conflicts, mut conflicts) = (0, 0, 0, 0);
        for send in all {
            let Some(content) = counted.get(&send.event) else {
                lost += 1;
                continue;
            };
            let is_same = *content == send.content;
            conflicts += u64::from(send.verdict == Verdict::Conflict);
            unreported += u64::from(!is_same && send.verdict != Verdict::Conflict);
            false_conflicts += u64::from(is_same && send.verdict == Verdict::Conflict);
        }
        let client = client();
        let summary = self.get(&client, "/v1/events/failed/summary").await;
        let groups = summary["groups"].as_array().unwrap();
        let kept: u64 = groups.iter().map(|group| group["events"].as_u64().unwrap()).sum();
        let mut expected = HashMap::<u32, (f64, f64)>::new();
        for (event, content) in &counted {
            let (orders, spend) = expected.entry(customer_number(*event)).or_default();
            *orders += 1.0;
            *spend += value(*content);
        }
        let mut differing = 0;
        for (customer, (orders, spend)) in &expected {
            let customer = self.get(&client, &format!("/v1/customers/c{customer}")).await;
            let feature = |name: &str| customer["features"][name].as_f64().unwrap_or(f64::NAN);
            let is_equal = (feature("orders_365d") - orders).abs() < 1e-9
                && (feature("spend_365d") - spend).abs() < 1e-6;
            differing += u64::from(!is_equal);
        }
        println!(
            "  {} events of {} customers counted, {conflicts} conflicts, {kept} of them kept; \
             {lost} lost, {twice} counted twice, {unreported} changes not reported, \
             {false_conflicts} resends called conflicts, {differing} customers differ",
            counted.len(),
            expected.len(),
        );
        assert_eq!((lost, twice, unreported, false_conflicts, differing), (0, 0, 0, 0, 0));
        assert_eq!(kept, conflicts);
        assert!(conflicts > self.sends / 5, "too few changes were sent");
    }
}

impl Verdict {
    fn of(outcome: &Value) -> Self {
        match outcome["status"].as_str() {
            Some("accepted") => Self::Accepted,
            Some("duplicate") => Self::Duplicate,
            Some("conflict") => Self::Conflict,
            _ => panic!("{outcome}"),
        }
    }
}

fn customer_number(event: u32) -> u32 {
    event / u32::try_from(EVENTS_PER_CUSTOMER).unwrap()
}

fn value(content: u8) -> f64 {
    10.0 + f64::from(content)
}

fn body(event: u32, content: u8) -> Value {
    let mut body = order(&format!("m{event}"), &format!("c{}", customer_number(event)));
    body["properties"]["sales_value"] = json!(value(content));
    body
}
