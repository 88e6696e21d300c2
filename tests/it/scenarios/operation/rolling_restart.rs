//! A rolling restart behind a load balancer: no request fails, and no event is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use segmentd::store::database::private::{PrivatePostgres, PrivateServerSettings};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::support::process::Process;
use crate::support::readiness_proxy::ReadinessProxy;
use crate::support::{eventually, open_to_all};

/// 200 requests a second.
const REQUEST_INTERVAL: Duration = Duration::from_millis(5);
/// Many intervals of the proxy's readiness checks.
const SETTINGS: [&str; 1] = ["http.shutdown_delay_seconds=3"];
/// Shorter than the shutdown delay, so that an idle connection is not used when it is closed.
const IDLE_TIMEOUT: Duration = Duration::from_millis(500);
/// Requests that each state of the rollout must see.
const REQUESTS_BETWEEN: usize = 200;

/// A steady client: events and rows to score, over lasting connections and over new ones.
struct SteadyClient {
    url: String,
    key: String,
    lasting: reqwest::Client,
    single: reqwest::Client,
    answered: AtomicUsize,
    events: AtomicUsize,
}

impl SteadyClient {
    fn new(url: &str, key: &str) -> Self {
        let lasting = reqwest::Client::builder().pool_idle_timeout(IDLE_TIMEOUT).build().unwrap();
        let single = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        let (answered, events) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { url: url.into(), key: key.into(), lasting, single, answered, events }
    }

    /// Sends requests until `stopped`; returns the number of failures by their description.
    async fn run(self: Arc<Self>, stopped: CancellationToken) -> BTreeMap<String, usize> {
        let mut ticks = tokio::time::interval(REQUEST_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut requests = JoinSet::new();
        for number in 0.. {
            if stopped.run_until_cancelled(ticks.tick()).await.is_none() {
                break;
            }
            requests.spawn(Arc::clone(&self).send(number));
        }
        let mut failures = BTreeMap::new();
        for failure in requests.join_all().await.into_iter().flatten() {
            *failures.entry(failure).or_default() += 1;
        }
        failures
    }

    /// Sends one request; returns its failure.
    async fn send(self: Arc<Self>, number: usize) -> Option<String> {
        let is_event = number.is_multiple_of(2);
        let (path, body) = if is_event {
            let event = json!({
                "type": "track", "name": "Order Completed", "message_id": format!("m{number}"),
                "customer_id": format!("c{}", number % 50), "properties": { "sales_value": 5 },
            });
            ("/v1/events", event)
        } else {
            ("/v1/score", json!({ "features": { "recency_days": number % 100 } }))
        };
        let client = if number % 4 < 2 { &self.lasting } else { &self.single };
        let request = client.post(format!("{}{path}", self.url)).bearer_auth(&self.key);
        let answer = match request.body(body.to_string()).send().await {
            Ok(answer) => answer,
            Err(error) => return Some(format!("{path}: {error:?}")),
        };
        let status = answer.status();
        if status != 200 {
            return Some(format!("{path}: {status}"));
        }
        if let Err(error) = answer.bytes().await {
            return Some(format!("{path}: {error:?}"));
        }
        self.events.fetch_add(usize::from(is_event), Ordering::Relaxed);
        self.answered.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Waits until some more requests are answered.
    async fn continue_for(&self, requests: usize) {
        let from = self.answered.load(Ordering::Relaxed);
        eventually("requests are answered", async || {
            self.answered.load(Ordering::Relaxed) >= from + requests
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_each_replica_is_restarted() {
    let state = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let server = PrivateServerSettings { binaries: None, max_connections: 200 };
    let postgres = PrivatePostgres::start(state.path(), &server).await.unwrap();
    let database = postgres.url();
    let key = Process::key(state.path(), Some(&database));
    let start = || Process::start_with(state.path(), Some(&database), &SETTINGS);
    let mut replicas = [start(), start()];
    let proxy = ReadinessProxy::start(&replicas).await;
    eventually("both replicas are ready", async || proxy.ready_replicas() == 2).await;

    let client = Arc::new(SteadyClient::new(&proxy.url, &key));
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    running.spawn(Arc::clone(&client).run(stop.clone()));
    client.continue_for(REQUESTS_BETWEEN).await;
    for (index, replica) in replicas.iter_mut().enumerate() {
        replica.terminate();
        eventually("the proxy avoids the replica", async || proxy.ready_replicas() == 1).await;
        assert_eq!(replica.exit_code().await, Some(0), "{:#?}", replica.log());
        client.continue_for(REQUESTS_BETWEEN).await;
        *replica = start();
        proxy.replace(index, replica);
        eventually("the new process is ready", async || proxy.ready_replicas() == 2).await;
        client.continue_for(REQUESTS_BETWEEN).await;
    }
    stop.cancel();
    let failures = running.join_next().await.unwrap().unwrap();
    let answered = client.answered.load(Ordering::Relaxed);
    assert_eq!(failures, BTreeMap::new(), "of {answered} requests");
    assert!(answered >= 5 * REQUESTS_BETWEEN, "{answered}");

    // Each acknowledged event is stored, and no other.
    let mut connection = PgConnection::connect(&database).await.unwrap();
    let stored: i64 =
        sqlx::query_scalar("select count(*) from event").fetch_one(&mut connection).await.unwrap();
    assert_eq!(usize::try_from(stored).unwrap(), client.events.load(Ordering::Relaxed));
    connection.close().await.unwrap();
    drop(replicas);
    postgres.stop().await.unwrap();
}
