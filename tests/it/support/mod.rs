//! The program under test: an own database for each app, one private Postgres for the test
//! binary.

pub(crate) mod alerting;
pub(crate) mod clients;
pub(crate) mod contract;
pub(crate) mod http_receiver;
pub(crate) mod lossy_proxy;
pub(crate) mod models;
pub(crate) mod openapi_requests;
pub(crate) mod pages;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod readiness_proxy;
pub(crate) mod webhook_receiver;

use std::io::Write as _;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use segmentd::app::Application;
use segmentd::config::{AppConfig, Environment};
use segmentd::domain::access::AccessScope;
use segmentd::domain::audience::CustomerAudiences;
use segmentd::domain::time::Timestamp;
use segmentd::service::api_keys;
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};
use sha2::Digest as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The audiences of a customer in none.
pub(crate) static NO_AUDIENCES: LazyLock<CustomerAudiences> =
    LazyLock::new(CustomerAudiences::default);

pub(crate) struct TestApp {
    pub(crate) url: String,
    pub(crate) admin: String,
    pub(crate) key: String,
    pub(crate) app: segmentd::api::ApiState,
    pub(crate) db: segmentd::store::DatabaseHandle,
    client: reqwest::Client,
    pub(crate) database_url: String,
    stop: oneshot::Sender<()>,
    running: JoinHandle<anyhow::Result<()>>,
    _state: tempfile::TempDir,
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Another replica on the same database.
    pub(crate) async fn replica(&self) -> Self {
        self.replica_with(&[]).await
    }

    /// As [`Self::replica`], with additional settings.
    pub(crate) async fn replica_with(&self, settings: &[(&str, &str)]) -> Self {
        let settings = [&[("database.url", &*self.database_url)], settings].concat();
        let app = Self::start_with(&settings).await;
        self.app.api_keys.refresh().await.unwrap();
        app
    }

    /// A `segmentd` command on this database.
    pub(crate) fn start_command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_segmentd"));
        command.args(arguments).env("DATABASE_URL", &self.database_url).kill_on_drop(true);
        command
    }

    /// Runs the command; returns whether it succeeded, and its output.
    pub(crate) async fn command(&self, arguments: &[&str]) -> (bool, String) {
        let ended = self.start_command(arguments).output().await.unwrap();
        let text = [ended.stdout, ended.stderr].concat();
        (ended.status.success(), String::from_utf8(text).unwrap())
    }

    /// As [`Self::start`], with additional settings.
    pub(crate) async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_at(TimeSource::System, settings).await
    }

    /// As [`Self::start_with`], with a clock that the test controls.
    pub(crate) async fn start_at(clock: TimeSource, settings: &[(&str, &str)]) -> Self {
        let state = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
        let mut set: Vec<(String, String)> = vec![
            ("http.bind".into(), "127.0.0.1:0".into()),
            ("admin.bind".into(), "127.0.0.1:0".into()),
            ("database.state_directory".into(), state.path().display().to_string()),
            ("training.schedule".into(), String::new()),
            ("http.shutdown_delay_seconds".into(), "0".into()),
            // A search of all algorithms takes longer than most tests need.
            ("training.algorithms".into(), "kmeans".into()),
            ("training.segments".into(), "4..8".into()),
            // The clock of a test may differ from the clock of the database.
            ("clock.tolerance_seconds".into(), "0".into()),
            // Tests replace models by arbitrarily different ones.
            ("gates.score_loss".into(), "2.0".into()),
            ("gates.relabelled".into(), "1.0".into()),
        ];
        set.extend(settings.iter().map(|(k, v)| ((*k).into(), (*v).into())));
        let config = AppConfig::load_from(None, &Environment::default(), &set).unwrap();
        let app = Application::build_with(config, clock).await.unwrap();
        let key =
            api_keys::create_key(app.db(), app.clock(), "test", &AccessScope::ALL).await.unwrap();
        let handles = app.state();
        handles.api_keys.refresh().await.unwrap();
        let (stop, stopped) = oneshot::channel();
        Self {
            url: format!("http://{}", app.api_address().unwrap()),
            admin: format!("http://{}", app.admin_address().unwrap()),
            key,
            app: handles,
            db: app.db().clone(),
            client: reqwest::Client::new(),
            database_url: app.database_url().to_owned(),
            stop,
            running: app.spawn(futures_util::stream::once(async {
                let _ = stopped.await;
            })),
            _state: state,
        }
    }

    /// For SQL that the program itself never runs.
    pub(crate) fn database_url(&self) -> &str {
        &self.database_url
    }

    /// A SHA-256 digest of the stored states of all customers.
    pub(crate) async fn states_digest(&self) -> String {
        let states = segmentd::store::customers::stream_states(self.db.read());
        let states: Vec<_> = states.try_collect().await.unwrap();
        assert!(!states.is_empty());
        let bytes: Vec<u8> = states
            .iter()
            .flat_map(|stored| [stored.customer.as_str().as_bytes(), &stored.state].concat())
            .collect();
        segmentd::domain::id::encode_hex(&sha2::Sha256::digest(&bytes))
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_mins(1), self.running).await.unwrap().unwrap().unwrap();
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        self.send(self.client.post(format!("{}{path}", self.url)).body(body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.send(self.client.get(format!("{}{path}", self.url))).await
    }

    pub(crate) async fn put(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        self.send(self.client.put(format!("{}{path}", self.url)).body(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        self.send(self.client.patch(format!("{}{path}", self.url)).body(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (u16, Value) {
        self.send(self.client.delete(format!("{}{path}", self.url))).await
    }

    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        let answer = self.client.get(format!("{}{path}", self.admin)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The value of a metric once it has stopped changing: after ten equal readings.
    ///
    /// A sleep separates the readings: no condition shows that a counter has stopped.
    pub(crate) async fn settled(&self, name: &str) -> u64 {
        let mut before = 0;
        let mut same = 0;
        while same < 10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = self.metric(name).await;
            same = if now == before { same + 1 } else { 0 };
            before = now;
        }
        before
    }

    /// The value of a metric; `name` includes its labels.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let (_, text) = self.admin("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    /// Sends the request with the key of the test.
    async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        exchange(&self.client, request.bearer_auth(&self.key)).await
    }

    /// Creates a second key with every scope.
    pub(crate) async fn another_key(&self) -> String {
        let key = api_keys::create_key(&self.db, &TimeSource::System, "another", &AccessScope::ALL)
            .await
            .unwrap();
        self.app.api_keys.refresh().await.unwrap();
        key
    }

    pub(crate) async fn post_as(&self, key: Option<&str>, path: &str, body: &str) -> (u16, Value) {
        let mut request = self.client.post(format!("{}{path}", self.url)).body(body.to_owned());
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        exchange(&self.client, request).await
    }

    pub(crate) async fn get_as(&self, key: &str, path: &str) -> (u16, Value) {
        let request = self.client.get(format!("{}{path}", self.url)).bearer_auth(key);
        exchange(&self.client, request).await
    }

    /// Trains a model, and waits until it has scored every customer.
    pub(crate) async fn train(&self) -> Value {
        self.train_with(r#"{"segments": 3, "starts": 3}"#).await
    }

    pub(crate) async fn train_with(&self, spec: &str) -> Value {
        let (status, run) = self.post("/v1/training-runs", spec.to_owned()).await;
        assert_eq!(status, 202, "{run}");
        let path = format!("/v1/training-runs/{}", run["training_run_id"].as_str().unwrap());
        let mut trained = Value::Null;
        eventually("the model is live, and has scored every customer", async || {
            let (_, run) = self.get(&path).await;
            assert_ne!(run["status"], "failed", "{run}");
            // A run ends when its model is registered. Then the model is promoted. Then
            // rescoring begins; the number of pending customers is known from its start.
            // The requests are in this order.
            let (_, live) = self.get("/v1/segments").await;
            let is_live = run["model_id"].is_string() && live["model_id"] == run["model_id"];
            let mut segments = live["segments"].as_array().into_iter().flatten();
            let has_begun = segments.any(|segment| segment["customers"] != 0);
            let (_, metrics) = self.admin("/metrics").await;
            let settled =
                metrics.lines().any(|l| l == "segmentd_bulk_rescoring_pending_customers 0");
            let is_over = run["finished_at"].is_string();
            trained = run;
            is_over && is_live && has_begun && settled
        })
        .await;
        trained
    }
}

/// Sends the request; returns the status of the response and its body: JSON, or a text.
async fn exchange(client: &reqwest::Client, request: reqwest::RequestBuilder) -> (u16, Value) {
    let received = contract::exchange(client, request).await;
    let body = serde_json::from_str(&received.text);
    (received.status, body.unwrap_or(Value::String(received.text)))
}

/// Orders of `customers` customers in the past, `1 + per_customer * (number % 3)` of each.
/// The same order is the same event in each call.
pub(crate) fn orders(customers: usize, per_customer: usize) -> Vec<Value> {
    static NOW: LazyLock<Timestamp> = LazyLock::new(|| TimeSource::System.now());
    let day = 86_400_000_i64;
    let now = *NOW;
    (0..customers)
        .flat_map(|customer| {
            let orders = 1 + per_customer * (customer % 3);
            (0..orders).map(move |order| {
                let age = day * i64::try_from(1 + order * (3 + customer % 7)).unwrap();
                json!({
                    "type": "track",
                    "name": "Order Completed",
                    "message_id": format!("order-{customer}-{order}"),
                    "customer_id": format!("c{customer:04}"),
                    "timestamp": now.plus_millis(-age).to_string(),
                    "properties": {
                        "store_id": format!("{}", customer % 4),
                        "sales_value": 5 * (1 + customer % 11) + order,
                        "lines": 1 + order % 9,
                        "retail_disc": 0.5,
                        "coupon_disc": 0.0,
                        "unknown_property": "dropped before storage",
                    },
                })
            })
        })
        .collect()
}

/// The retail features, and those that the guide declares as outcomes: survey answers and
/// costs of campaigns.
pub(crate) fn features_with_outcomes() -> tempfile::NamedTempFile {
    let guide = std::fs::read_to_string("config/guides/training.md").unwrap();
    let (_, outcomes) = guide.split_once("```toml\n").unwrap();
    let (outcomes, _) = outcomes.split_once("```").unwrap();
    let retail = std::fs::read_to_string("config/features.retail.toml").unwrap();
    let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    std::fs::write(file.path(), format!("{retail}\n{outcomes}")).unwrap();
    file
}

/// Events as newline-delimited JSON.
pub(crate) fn ndjson(events: &[Value]) -> String {
    events.iter().fold(String::new(), |lines, event| lines + &event.to_string() + "\n")
}

pub(crate) fn open_to_all() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o755)
}

/// The longest wait for a condition: far longer than any takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until the condition holds. Fails after [`PATIENCE`].
pub(crate) async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    eventually_within(PATIENCE, what, holds).await;
}

/// As [`eventually`], for a condition that may take longer.
pub(crate) async fn eventually_within(
    patience: Duration,
    what: &str,
    mut holds: impl AsyncFnMut() -> bool,
) {
    let asked = Instant::now();
    while !holds().await {
        assert!(asked.elapsed() < patience, "not within {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Prints that a test is skipped, and why.
pub(crate) fn print_skipped(why: &str) {
    // Unlike `eprintln!`, this is not captured.
    std::io::stderr().write_all(format!("\n*** SKIPPED: {why}\n").as_bytes()).unwrap();
}

/// The metric of the memory that requests have reserved.
pub(crate) const RESERVED_BYTES: &str = r#"segmentd_memory_budget_used_bytes{part="requests"}"#;

/// Waits until no request holds any of the memory budget.
pub(crate) async fn nothing_is_reserved(app: &TestApp) {
    eventually("nothing is reserved", async || app.metric(RESERVED_BYTES).await == 0).await;
}
