//! The whole program with a private Postgres, on its own runtime.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use segmentd::api::ApiState;
use segmentd::app::Application;
use segmentd::config::{AppConfig, Environment};
use segmentd::domain::access::AccessScope;
use segmentd::domain::id::ModelId;
use segmentd::domain::train::clustering::kmeans::KmeansSettings;
use segmentd::domain::train::{ClusteringAlgorithm, TrainingSpec};
use segmentd::domain::wire::IngestionEndpoint;
use segmentd::domain::wire::elements::JsonElement;
use segmentd::service::alerts::ChangeAuthor;
use segmentd::service::api_keys;
use segmentd::service::audiences::AudienceText;
use segmentd::service::failed_events::EventSource;
use segmentd::service::ingestion::FullQueuePolicy;
use segmentd::service::models::step_request::DeploymentChange;
use segmentd::service::rescoring::on_audience_change::count_pending;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::oneshot;

const DAY_MILLIS: i64 = 86_400_000;
/// Segments of the write-ahead log, of 16 MB each.
const LOG_FILES: usize = 64;

pub(crate) struct Server {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) addr: SocketAddr,
    pub(crate) state: ApiState,
    pub(crate) key: String,
    pub(crate) database_url: String,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
    stop: oneshot::Sender<()>,
    directory: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With additional settings.
    pub(crate) fn start_with(settings: &[(&str, &str)]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let open_to_all = std::fs::Permissions::from_mode(0o755);
        let directory = tempfile::Builder::new().permissions(open_to_all).tempdir().unwrap();
        let set = [
            ("http.bind", "127.0.0.1:0".to_owned()),
            ("admin.bind", "127.0.0.1:0".to_owned()),
            ("database.state_directory", directory.path().display().to_string()),
            ("training.schedule", String::new()),
            ("http.shutdown_delay_seconds", "0".to_owned()),
        ];
        let own = settings.iter().map(|(k, v)| (*k, (*v).to_owned()));
        let set: Vec<_> = set.into_iter().chain(own).map(|(k, v)| (k.to_owned(), v)).collect();
        let config = AppConfig::load_from(None, &Environment::default(), &set).unwrap();
        let (app, key) = runtime.block_on(async {
            let app = Application::build(config).await.unwrap();
            let key = api_keys::create_key(app.db(), app.clock(), "bench", &AccessScope::ALL)
                .await
                .unwrap();
            app.state().api_keys.refresh().await.unwrap();
            (app, key)
        });
        let (stop, stopped) = oneshot::channel();
        let _guard = runtime.enter();
        Self {
            addr: app.api_address().unwrap(),
            state: app.state(),
            database_url: app.database_url().to_owned(),
            running: app.spawn(futures_util::stream::once(async {
                let _ = stopped.await;
            })),
            runtime,
            key,
            stop,
            directory,
        }
    }

    /// The URL of the private Postgres.
    pub(crate) fn postgres_directory(&self) -> PathBuf {
        self.directory.path().join("postgres")
    }

    /// Sends orders of customers from `c0000000` on.
    pub(crate) fn load(&self, customers: usize, orders: usize) {
        self.load_before(0, customers, orders);
    }

    /// Sends orders of customers from `c0000000` on, the last ones `days_ago`.
    pub(crate) fn load_before(&self, days_ago: i64, customers: usize, orders: usize) {
        let ingestion = &self.state.ingestion;
        let now = ingestion.now();
        let order = |customer: usize, order: usize| {
            let days = days_ago + i64::try_from(1 + order * (5 + customer % 40)).unwrap();
            json!({
                "type": "track",
                "name": "Order Completed",
                "message_id": format!("load-{days_ago}-{customer}-{order}"),
                "customer_id": format!("c{customer:07}"),
                "timestamp": now.plus_millis(-days * DAY_MILLIS).to_string(),
                "properties": {
                    "sales_value": 3 + customer % 70,
                    "lines": 1 + customer % 9,
                    "store_id": "1",
                },
            })
        };
        let all: Vec<usize> = (0..customers).collect();
        for some in all.chunks(1000) {
            let events = some.iter().flat_map(|c| (0..orders).map(|o| order(*c, o)));
            let texts: Vec<String> = events.map(|event| event.to_string()).collect();
            let events = texts.iter().map(|text| JsonElement::parse(text.as_bytes()));
            let events: Vec<_> = events.map(|event| ingestion.read(event, now)).collect();
            let source = EventSource {
                endpoint: IngestionEndpoint::Events,
                key_id: "bench",
                is_public: false,
            };
            self.runtime
                .block_on(ingestion.accept_events(events, source, now, FullQueuePolicy::Wait))
                .unwrap();
        }
    }

    /// Trains a model and makes it live.
    pub(crate) fn train(&self, segments: usize) -> ModelId {
        let training = &self.state.training;
        // Always the same kind of model: the default choice may change with the rows, and the cost
        // of a score grows with the prototypes.
        let algorithms = vec![ClusteringAlgorithm::Kmeans(KmeansSettings::default())];
        let spec =
            TrainingSpec { segments: segments.into(), algorithms, ..training.default_spec() };
        self.runtime.block_on(async {
            training.request_run(spec, "bench", None).await.unwrap();
            training.execute_queued_runs().await.unwrap();
            // Otherwise the background job of the program has the lease.
            loop {
                let deployment = self.state.deployments.snapshot();
                match &deployment.active {
                    Some(model) if model.segments().len() == segments => return model.id().clone(),
                    _ => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                }
            }
        })
    }

    /// Makes a model live.
    pub(crate) fn promote(&self, model: &ModelId) {
        let change = DeploymentChange { author: "bench".into(), reason: "benchmark".into() };
        self.runtime.block_on(self.state.registry.promote(model, change)).unwrap();
    }

    /// Defines audiences by name and rule, and waits until all customers are evaluated.
    pub(crate) fn define_audiences(&self, rules: &[(String, String)]) {
        for (name, expression) in rules {
            self.define_audience(name, expression);
        }
        self.until_evaluated();
    }

    pub(crate) fn define_audience(&self, name: &str, expression: &str) {
        let text =
            AudienceText { expression: expression.to_owned(), description: None, owner: None };
        self.runtime
            .block_on(self.state.definitions.audiences.define(name, text, &author()))
            .unwrap();
    }

    /// Deletes all audiences, and waits until all customers have left them.
    pub(crate) fn delete_audiences(&self, rules: &[(String, String)]) {
        // An audience is deleted after those that name it.
        for (name, _) in rules.iter().rev() {
            self.runtime
                .block_on(self.state.definitions.audiences.delete(name, &author()))
                .unwrap();
        }
        self.until_evaluated();
    }

    /// Waits until no customer awaits a rescore or an evaluation.
    pub(crate) fn until_evaluated(&self) {
        while self.pending_customers() > 0 {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    /// Customers that the audiences in force are not evaluated for yet.
    pub(crate) fn pending_customers(&self) -> usize {
        let deployment = self.state.deployments.snapshot();
        let pending = self.runtime.block_on(count_pending(&self.state.db, &deployment)).unwrap();
        usize::try_from(pending).unwrap()
    }

    pub(crate) fn stop(self) {
        self.stop.send(()).unwrap();
        self.runtime.block_on(self.running).unwrap().unwrap();
    }
}

fn author() -> ChangeAuthor {
    ChangeAuthor { name: "bench".into(), reason: "benchmark".into() }
}

/// Brings a database to the state after some time in service: tables are vacuumed, and the
/// files of the write-ahead log exist and are recycled. Before the first checkpoints each
/// segment of 16 MB has to be created, which takes as long as some hundred commits.
pub(crate) async fn settle(database_url: &str) {
    let mut connection = PgConnection::connect(database_url).await.unwrap();
    for _ in 0..LOG_FILES {
        let fill = "select pg_logical_emit_message(false, 'bench', ''), pg_switch_wal()";
        sqlx::query(fill).execute(&mut connection).await.unwrap();
    }
    for tidy in ["vacuum analyze", "checkpoint"] {
        sqlx::query(tidy).execute(&mut connection).await.unwrap();
    }
}
