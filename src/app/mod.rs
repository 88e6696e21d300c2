//! Wiring: builds every component once, starts it, and stops it in order.

mod alerting;
mod backfill;
mod backoff;
mod check;
mod database;
mod parts;
mod serve;
mod shutdown;
mod supervise;
mod task_supervisor;
mod tasks;
mod threads;
mod train;
mod workers;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use anyhow::Context;
use futures_util::Stream;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::api::admin::{self, AdminState};
use crate::api::state::{ApiServices, ApiState, Readiness};
use crate::api::{self, RequestLayers};
use crate::app::parts::CommonParts;
use crate::config::{AppConfig, BuiltInFeatures};
use crate::domain::feature::{FeatureSet, RateTable};
use crate::service::clock::TimeSource;
use crate::service::error::ErrorChain;
use crate::service::health::clock_check::ClockCheck;
use crate::service::scoring::observations::DriftCounters;
use crate::service::training;
use crate::store::DatabaseHandle;
use crate::telemetry::labels::{BackgroundTask, ListenerName};
use alerting::Deliverers;
pub use alerting::alert_service;
pub use backfill::BackfillSession;
pub use check::check_database;
pub use database::{DatabaseServer, DatabaseUse, ManagedDatabase, connection};
use serve::HttpServer;
use task_supervisor::{TaskGroup, TaskSupervisor};
use tasks::BackgroundTasks;
pub use train::FinishedTraining;
use workers::WorkerPool;

/// The default feature set; it is also the manual of the format.
const RETAIL: &str = include_str!("../../config/features.retail.toml");
/// The feature set for Segment's e-commerce spec.
const SEGMENT_ECOMMERCE: &str = include_str!("../../config/features.segment-ecommerce.toml");

/// The complete service: listening, not yet running.
#[derive(Debug)]
pub struct Application {
    database: ManagedDatabase,
    api: TcpListener,
    admin: TcpListener,
    api_state: ApiState,
    admin_state: AdminState,
    gate: RequestLayers,
    tasks: BackgroundTasks,
    workers: WorkerPool,
    deliverers: Deliverers,
    clock_check: Arc<ClockCheck>,
    supervisor: TaskSupervisor,
    stop: CancellationToken,
    config: AppConfig,
    clock: TimeSource,
}

impl Application {
    pub async fn build(config: AppConfig) -> anyhow::Result<Self> {
        Self::build_with(config, TimeSource::System).await
    }

    /// Like [`Application::build`], with a clock that a test may control.
    pub async fn build_with(config: AppConfig, clock: TimeSource) -> anyhow::Result<Self> {
        DatabaseServer::check_unused(&config)?;
        Box::pin(Self::build_on(config, clock, DatabaseUse::Service)).await
    }

    /// Like [`Application::build`], for a command beside running services.
    pub(crate) async fn build_for_command(config: AppConfig) -> anyhow::Result<Self> {
        Box::pin(Self::build_on(config, TimeSource::System, DatabaseUse::CommandOnData)).await
    }

    async fn build_on(
        config: AppConfig,
        clock: TimeSource,
        purpose: DatabaseUse,
    ) -> anyhow::Result<Self> {
        let features = features(&config)?;
        let (api, admin) = listeners(&config).await?;
        let database = ManagedDatabase::open(&config, purpose).await?;
        let db = &database.db;
        let metrics = parts::metrics(&config, &clock)?;
        let common = CommonParts { config: &config, db, clock: &clock, metrics: &metrics };
        let clock_check = parts::clock_check(&common).await?;
        let drift_counters = Arc::new(DriftCounters::new(config.drift.is_enabled));
        let features = parts::features(&common, features).await?;
        let serving = parts::serving(&common, features, &drift_counters).await?;
        let policies = parts::policies(&config, db, &clock).await?;
        let drift = parts::drift(&common, &serving, drift_counters, &policies);
        let (models, shadow_worker) = parts::models(&common, &serving, policies);
        let alerting = alerting::build(&common, &serving, &drift)?;
        let storage = parts::storage(&config, &database, &alerting.alerts, &metrics);
        let sources = parts::sources(&common, &alerting.alerts);
        let (training, rollout) = train::build(&common, &models, &alerting.alerts);
        let (probation, policy_actions) =
            parts::automation(&common, &models, &drift, &alerting.alerts, &training);
        let failed = parts::failed_events(&common);
        let rate_limits = parts::rate_limits(&config, &metrics);
        let (ingestion, ingestion_workers) =
            parts::ingestion(&common, &models, &clock_check, &failed, &rate_limits);
        let stop = CancellationToken::new();
        let (feed, reading) = parts::feed(&common, stop.clone())?;
        let heavy = parts::heavy_work()?;
        let (exports, exporter) = parts::exports(&common, &serving, &heavy);
        let supervisor = TaskSupervisor::new(Arc::clone(&metrics));
        let workers =
            WorkerPool::start(&supervisor, ingestion_workers, exporter, reading, shadow_worker)
                .context("cannot start the ingestion threads")?;
        let (bulk_rescorer, scheduled_rescorer) = parts::rescorers(&common, &serving, &ingestion);
        let consistency_check = Arc::new(parts::consistency_check(&common, &serving));
        let gate = RequestLayers::new(Arc::clone(&metrics), parts::limits(&config))?;
        let api_state = ApiState(Arc::new(ApiServices {
            api_keys: parts::access(&common, &rate_limits).await?,
            key_registry: parts::key_registry(&common),
            rate_limits,
            definitions: parts::definitions(&common, &serving),
            segment_values: train::segment_values(&common, &serving, &heavy),
            readiness: Readiness::new(Arc::clone(&serving), supervisor.failed_tasks()),
            deployments: serving,
            ingestion: Arc::new(ingestion.with_storage_monitor(Arc::clone(&storage))),
            registry: models.registry,
            training: Arc::clone(&training),
            change_feed: feed,
            exports: Arc::new(exports),
            drift,
            alerts: alerting.alerts,
            policies: models.policies,
            probation,
            sources,
            db: db.read().clone(),
            clock: clock.clone(),
            memory: parts::memory_budget(&config, &metrics),
            metrics,
            heavy,
            body_limits: parts::body_bounds(&config),
            allowed_hosts: config.http.allowed_hosts.clone(),
            slow_reads: parts::slow_reads(&config, db),
        }));
        let admin_state = parts::admin_state(&api_state, &storage, &clock_check);
        let tasks = BackgroundTasks {
            db: db.clone(),
            storage,
            api: api_state.clone(),
            training,
            rollout,
            bulk_rescorer,
            scheduled_rescorer,
            consistency_check,
            failed,
            drift_monitor: Arc::new(alerting.drift_monitor),
            policy_actions,
            policy_interval: config.policy_check_interval,
            sender: alerting.sender,
            poll: config.deployment.poll_interval,
            refresh_keys: config.api_keys.refresh_interval,
            keep_history_days: config.history.retention_days,
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
            deliverers: alerting.deliverers,
            clock_check,
            supervisor,
            stop,
            config,
            clock,
        })
    }

    pub fn api_address(&self) -> std::io::Result<SocketAddr> {
        self.api.local_addr()
    }

    pub fn admin_address(&self) -> std::io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    pub fn db(&self) -> &DatabaseHandle {
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

    /// Runs as a background task.
    pub fn spawn(
        self,
        stop_requests: impl Stream<Item = ()> + Send + 'static,
    ) -> tokio::task::JoinHandle<anyhow::Result<()>> {
        task_supervisor::spawn(self.run(stop_requests))
    }

    /// Serves until the first item of `stop_requests`. Then the process is not ready, but
    /// serves for the shutdown delay or until the second item. Then it stops accepting,
    /// finishes requests, stops background tasks, stores the last counts, closes the admin
    /// listener, and closes the database, in this order.
    pub async fn run(
        self,
        stop_requests: impl Stream<Item = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let mut stop_requests = pin!(stop_requests);
        tracing::info!(api = %self.api_address()?, admin = %self.admin_address()?, "listening");
        let (supervisor, stop) = (self.supervisor, self.stop);
        let drift = Arc::clone(&self.api_state.drift);
        let sources = Arc::clone(&self.api_state.sources);
        let unused_events = self.api_state.ingestion.unused_events();
        let metrics = Arc::clone(&self.api_state.metrics);
        let router = api::router(self.api_state, &self.gate)?;
        let readiness = self.admin_state.readiness.clone();
        let mut database = self.database;
        database.supervise(&self.admin_state.metrics, &supervisor);
        let background = self.tasks.start(supervisor.clone(), stop.clone());
        let mut workers = self.workers;
        if self.config.drift.is_enabled {
            workers.start_drift_counts(Arc::clone(&drift), Arc::clone(&self.clock_check));
        }
        workers.start_deliveries(self.deliverers.notifications);
        workers.start_move_deliveries(self.deliverers.moves);
        workers.start_source_monitor(Arc::clone(&sources), Arc::clone(&self.clock_check));
        let check = Arc::clone(&self.clock_check);
        workers.start_unused_event_counts(Arc::clone(&unused_events), check);
        let (api_limits, admin_limits) = serve::limits(&self.config);
        let admin = admin::router(self.admin_state);
        let admin = HttpServer::new(
            ListenerName::Admin,
            self.admin,
            admin,
            admin_limits,
            readiness.clone(),
            &metrics,
        );
        // Health and metrics are served until the last counts are stored.
        let stop_admin = CancellationToken::new();
        let mut admin_group = TaskGroup::new(supervisor, stop_admin.clone());
        // Not restarted after a panic: its socket is lost. Then no check reaches the process.
        admin_group.spawn_once(BackgroundTask::AdminListener, &Handle::current(), |stopped| {
            admin.run(stopped)
        });
        let api = HttpServer::new(
            ListenerName::Api,
            self.api,
            router,
            api_limits,
            readiness.clone(),
            &metrics,
        );
        let mut serve = task_supervisor::spawn(api.run(stop.clone()));

        tokio::select! {
            () = shutdown::next_request(&mut stop_requests) => {}
            ended = &mut serve => { ended?; }
        }
        readiness.drain();
        shutdown::delay(self.config.http.shutdown_delay, &mut stop_requests).await;
        tracing::info!("stopping: no more connections are accepted");
        stop.cancel();
        if tokio::time::timeout(self.config.http.shutdown_timeout, &mut serve).await.is_err() {
            tracing::warn!("requests aborted at the shutdown deadline");
            serve.abort();
        }
        background.stop(self.config.http.shutdown_timeout).await;
        // After the requests: those in progress waited for the workers.
        workers.stop(self.config.http.shutdown_timeout).await;
        // No requests remain, so the counts are final. A wrong clock would add them to
        // another hour.
        if !self.clock_check.is_clock_right() {
            tracing::warn!("the latest drift counts were discarded: the clock is wrong");
        } else if let Err(error) = drift.flush().await {
            tracing::warn!(error = %ErrorChain(&error), "the latest drift counts could not be written");
        }
        if let Err(error) = sources.flush().await {
            tracing::warn!(error = %ErrorChain(&error), "the latest source counts could not be written");
        }
        if let Err(error) = unused_events.flush().await {
            tracing::warn!(error = %ErrorChain(&error), "the latest counts of unused events could not be written");
        }
        stop_admin.cancel();
        database.close().await?;
        // Aborts the connections of clients that do not end them.
        drop(admin_group);
        tracing::info!("stopped");
        Ok(())
    }
}

/// The configured feature set, or a built-in one, with the configured outcomes among its features.
pub fn features(config: &AppConfig) -> anyhow::Result<FeatureSet> {
    let features = declared_features(config)?;
    training::check_outcomes(&config.training.outcomes, &features)
        .context("in the setting training.outcomes")?;
    Ok(features)
}

fn declared_features(config: &AppConfig) -> anyhow::Result<FeatureSet> {
    let Some(file) = &config.features.file else {
        return Ok(FeatureSet::parse(match config.features.built_in {
            BuiltInFeatures::Retail => RETAIL,
            BuiltInFeatures::SegmentEcommerce => SEGMENT_ECOMMERCE,
        })?);
    };
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the feature set {}", file.display()))?;
    let features = FeatureSet::parse(&text).with_context(|| format!("in {}", file.display()))?;
    match features.rates_file() {
        None => Ok(features),
        Some(rates) => {
            // A relative path begins at the folder of the features file.
            let rates = file.parent().map_or_else(|| rates.into(), |folder| folder.join(rates));
            let text = std::fs::read_to_string(&rates)
                .with_context(|| format!("cannot read the exchange rates {}", rates.display()))?;
            let table =
                RateTable::parse(&text).with_context(|| format!("in {}", rates.display()))?;
            Ok(features.with_rates(table))
        }
    }
}

/// The listeners of the API and of the admin endpoints.
async fn listeners(config: &AppConfig) -> anyhow::Result<(TcpListener, TcpListener)> {
    let api = bind(config.http.listen_address, "http.bind").await?;
    Ok((api, bind(config.admin.bind, "admin.bind").await?))
}

async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let reason = match error.kind() {
            ErrorKind::AddrInUse => "another process uses this port".to_owned(),
            ErrorKind::AddrNotAvailable => "this machine does not have this address".to_owned(),
            _ => ErrorChain(&error).to_string(),
        };
        anyhow::anyhow!("cannot listen on {address} ({key}): {reason}")
    })
}
