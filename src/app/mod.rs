//! Wiring: builds every component once, starts it, and stops it in order.

mod alerting;
mod backfill;
mod check;
mod database;
mod parts;
mod serve;
mod supervise;
mod tasks;
mod threads;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::api::admin::{self, AdminState};
use crate::api::state::{ApiState, Handles, Readiness};
use crate::api::{self, RequestLayers};
use crate::app::parts::CommonParts;
use crate::config::Config;
use crate::domain::feature::FeatureSet;
use crate::service::alerts::deliver::Deliverer;
use crate::service::clock::TimeSource;
use crate::service::error::Chain;
use crate::service::health::clock_check::ClockCheck;
use crate::service::limits::heavy::HeavyWork;
use crate::service::scoring::observations::Observer;
use crate::store::Db;
use crate::telemetry::Metrics;
use crate::telemetry::labels::ListenerName;
pub use backfill::BackfillSession;
pub use check::check_database;
pub use database::{DatabaseServer, ManagedDatabase, connection};
use serve::HttpServer;
use tasks::{BackgroundTasks, WorkerPool};

/// The built-in feature set; it is also the manual of the format.
const RETAIL: &str = include_str!("../../config/features.retail.toml");

/// The complete service: listening, not yet running.
#[derive(Debug)]
pub struct App {
    database: ManagedDatabase,
    api: TcpListener,
    admin: TcpListener,
    api_state: ApiState,
    admin_state: AdminState,
    gate: RequestLayers,
    tasks: BackgroundTasks,
    workers: WorkerPool,
    deliverer: Deliverer,
    clock_check: Arc<ClockCheck>,
    stop: watch::Sender<bool>,
    config: Config,
    clock: TimeSource,
}

impl App {
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        Self::build_with(config, TimeSource::System).await
    }

    /// Like [`App::build`], with a clock that a test may control.
    pub async fn build_with(config: Config, clock: TimeSource) -> anyhow::Result<Self> {
        let features = Arc::new(features(&config)?);
        let api = bind(config.http.bind, "http.bind").await?;
        let admin = bind(config.admin.bind, "admin.bind").await?;
        let database = ManagedDatabase::open(&config).await?;
        let db = &database.db;
        let metrics = Arc::new(Metrics::new(clock.now(), config.objectives).context("metrics")?);
        let common = CommonParts { config: &config, db, clock: &clock, metrics: &metrics };
        let clock_check = parts::clock_check(&common).await?;
        let observer = Arc::new(Observer::new(config.drift.enabled));
        let live = parts::live(&common, features, &observer).await?;
        let policies = parts::policies(&config, db, &clock).await?;
        let drift = parts::drift(&common, &live, observer, &policies);
        let (models, shadow_worker) = parts::models(&common, &live, policies);
        let alerting = alerting::build(&common, &live, &drift)?;
        let storage = parts::storage(&config, &database, &alerting.alerts, &metrics);
        let sources = parts::sources(&common, &alerting.alerts);
        let training = parts::training(&common, &models, &alerting.alerts);
        let (probation, reactor) =
            parts::automation(&common, &models, &drift, &alerting.alerts, &training);
        let failed = parts::failed_events(&common);
        let (intake, intake_workers) = parts::intake(&common, &models, &clock_check, &failed);
        let (stop, stopped) = watch::channel(false);
        let (feed, reading) = parts::feed(&common, stopped)?;
        let heavy = Arc::new(HeavyWork::start().context("cannot start the threads of heavy work")?);
        let (exports, exporter) = parts::exports(&config, db, &heavy, &metrics);
        let watched = config.drift.enabled.then(|| (Arc::clone(&drift), Arc::clone(&clock_check)));
        let workers = WorkerPool::start(intake_workers, exporter, reading, shadow_worker, watched)
            .context("cannot start the ingestion threads")?;
        let reassigner = parts::reassigner(&common, &live, &intake);
        let rechecker = parts::rechecker(&common, &live, &intake);
        let sampler = parts::sampler(&common, &live);
        let readiness = Readiness::new(Arc::clone(&live));
        let memory = parts::memory_budget(&config, &metrics);
        let gate = RequestLayers::new(Arc::clone(&metrics), parts::limits(&config))?;
        let api_state = ApiState(Arc::new(Handles {
            access: parts::access(db).await?,
            live,
            readiness,
            intake: Arc::new(intake.refusing_without_room_on(Arc::clone(&storage))),
            registry: models.registry,
            training: Arc::clone(&training),
            feed,
            exports: Arc::new(exports),
            drift,
            alerts: alerting.alerts,
            policies: models.policies,
            probation,
            sources,
            db: db.read().clone(),
            clock: clock.clone(),
            metrics,
            memory,
            heavy,
            bounds: parts::body_bounds(&config),
            allowed_hosts: config.http.allowed_hosts.clone(),
            slow_reads: parts::slow_reads(&config, db),
        }));
        let admin_state = parts::admin_state(&api_state, &storage, &clock_check);
        let tasks = BackgroundTasks {
            db: db.clone(),
            storage,
            api: api_state.clone(),
            training,
            rollout: models.rollout,
            reassigner,
            rechecker,
            sampler,
            failed,
            watcher: alerting.watcher,
            reactor,
            react_every: config.policy_check,
            sender: alerting.sender,
            poll: config.lineup.poll,
            refresh_keys: config.auth.refresh,
            keep_history_days: config.history.keep_days,
            clock: clock.clone(),
            clock_check: Arc::clone(&clock_check),
        };
        Ok(Self {
            database,
            api,
            admin,
            api_state,
            admin_state,
            gate,
            tasks,
            workers,
            deliverer: alerting.deliverer,
            clock_check,
            stop,
            config,
            clock,
        })
    }

    pub fn addr(&self) -> std::io::Result<SocketAddr> {
        self.api.local_addr()
    }

    pub fn admin_addr(&self) -> std::io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    pub fn db(&self) -> &Db {
        &self.database.db
    }

    /// For another replica on the same database.
    pub fn database_url(&self) -> &str {
        &self.database.url
    }

    pub fn clock(&self) -> &TimeSource {
        &self.clock
    }

    /// Handler state, for commands that run beside the server.
    pub fn state(&self) -> ApiState {
        self.api_state.clone()
    }

    /// Trains once without serving, with `changes` to the default spec.
    pub async fn train_once(
        self,
        changes: serde_json::Map<String, serde_json::Value>,
    ) -> anyhow::Result<String> {
        let training = Arc::clone(&self.api_state.training);
        let spec = training.default_spec().over(changes)?;
        let run = training.request(spec, "command line", None).await?;
        let run = run.context("the training run was not queued")?;
        training.run_queued().await?;
        let row = crate::store::models::runs::find(self.db().read(), &run).await?;
        let row = row.context("the training run no longer exists")?;
        self.database.close().await?;
        match (row.model, row.error) {
            (Some(model), _) => Ok(model.to_string()),
            (None, Some(error)) => anyhow::bail!("{error}"),
            (None, None) => {
                anyhow::bail!("training run {run} is queued: another replica is training")
            }
        }
    }

    /// Runs as a background task.
    pub fn spawn(
        self,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::task::JoinHandle<anyhow::Result<()>> {
        tasks::spawn(self.run(until))
    }

    /// Serves until `until` resolves. Then stops accepting, finishes requests, stops
    /// background tasks, and closes the database, in this order.
    pub async fn run(self, until: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        tracing::info!(api = %self.addr()?, admin = %self.admin_addr()?, "listening");
        let stop = self.stop;
        let stopped = stop.subscribe();
        let drift = Arc::clone(&self.api_state.drift);
        let sources = Arc::clone(&self.api_state.sources);
        let metrics = Arc::clone(&self.api_state.metrics);
        let router = api::router(self.api_state, &self.gate)?;
        let readiness = self.admin_state.readiness.clone();
        let mut database = self.database;
        database.supervise(&self.admin_state.metrics);
        let mut background = self.tasks.start(&stopped);
        let mut workers = self.workers;
        workers.start_delivery(self.deliverer);
        workers.monitor_sources(Arc::clone(&sources), Arc::clone(&self.clock_check));
        let (api_limits, admin_limits) = serve::limits(&self.config);
        let admin = admin::router(self.admin_state);
        let admin = HttpServer::new(ListenerName::Admin, self.admin, admin, admin_limits, &metrics);
        let admin = tasks::spawn(admin.run(stopped.clone()));
        let api = HttpServer::new(ListenerName::Api, self.api, router, api_limits, &metrics);
        let mut serve = tasks::spawn(api.run(stopped));

        tokio::select! {
            () = until => {}
            ended = &mut serve => { ended?; }
        }
        tracing::info!("stopping");
        readiness.drain();
        // Fails only if all receivers have been dropped.
        let _ = stop.send(true);
        if tokio::time::timeout(self.config.http.drain, &mut serve).await.is_err() {
            tracing::warn!("requests aborted at the shutdown deadline");
            serve.abort();
        }
        background.stop(self.config.http.drain).await;
        // After the requests: those in progress waited for the workers.
        workers.stop(self.config.http.drain).await;
        // No requests remain, so the counts are final. A wrong clock would add them to
        // another hour.
        if !self.clock_check.is_right() {
            tracing::warn!("the latest drift counts were discarded: the clock is wrong");
        } else if let Err(error) = drift.flush().await {
            tracing::warn!(error = %Chain(&error), "the latest drift counts could not be written");
        }
        if let Err(error) = sources.flush().await {
            tracing::warn!(error = %Chain(&error), "the latest source counts could not be written");
        }
        admin.abort();
        database.close().await?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// The configured feature set, or the built-in one.
pub fn features(config: &Config) -> anyhow::Result<FeatureSet> {
    let Some(file) = &config.features.file else {
        return Ok(FeatureSet::parse(RETAIL)?);
    };
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the feature set {}", file.display()))?;
    FeatureSet::parse(&text).with_context(|| format!("in {}", file.display()))
}

async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} ({key}): is it in use?"))
}
