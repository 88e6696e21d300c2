//! Constructors of the service's components, from the settings and their dependencies.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;

use crate::api::admin::AdminState;
use crate::api::request::slow_reads::SlowReads;
use crate::api::state::{ApiState, BodyBounds, BodyPace, StreamLimits};
use crate::api::{Capacities, RequestLimits};
use crate::app::ManagedDatabase;
use crate::app::threads::DedicatedThread;
use crate::config::{
    BulkRescoringSettings, Config, RequestLimitSettings, ScheduledRescoringSettings,
};
use crate::domain::feature::FeatureSet;
use crate::service::alerts::AlertService;
use crate::service::api_keys::Access;
use crate::service::automation::AutomationDependencies;
use crate::service::automation::actions::Reactor;
use crate::service::automation::probation::ProbationMonitor;
use crate::service::change_feed::Feed;
use crate::service::clock::TimeSource;
use crate::service::consistency_check::Sampler;
use crate::service::drift::{DriftDependencies, DriftService};
use crate::service::export::{self, Exports};
use crate::service::failed_events::FailedEventStore;
use crate::service::health::clock_check::ClockCheck;
use crate::service::health::storage::{DiskBounds, Storage};
use crate::service::ingestion;
use crate::service::ingestion::{IngestionParts, IngestionService};
use crate::service::limits::heavy::HeavyWork;
use crate::service::limits::memory::MemoryBudget;
use crate::service::models::policy::Policies;
use crate::service::models::registry::Registry;
use crate::service::models::registry_dependencies::RegistryDependencies;
use crate::service::models::rollout::Rollout;
use crate::service::models::shadow;
use crate::service::models::shadow::Shadows;
use crate::service::rescoring::on_deployment_change::Reassigner;
use crate::service::rescoring::on_time::Rechecker;
use crate::service::rescoring::{RescoringDependencies, RescoringPace};
use crate::service::scoring::deployment::{ScoringRules, ServingState};
use crate::service::scoring::observations::Observer;
use crate::service::sources::SourceMonitor;
use crate::service::training::{TrainingDependencies, TrainingService};
use crate::store::Db;
use crate::telemetry::Metrics;

/// Dependencies of most components.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommonParts<'a> {
    pub(super) config: &'a Config,
    pub(super) db: &'a Db,
    pub(super) clock: &'a TimeSource,
    pub(super) metrics: &'a Arc<Metrics>,
}

/// Authentication, with the stored keys loaded.
pub(super) async fn access(db: &Db) -> anyhow::Result<Access> {
    let access = Access::new(db.critical_read().clone());
    access.refresh().await.context("cannot load the API keys")?;
    Ok(access)
}

/// Serving state, with the stored deployment loaded.
pub(super) async fn live(
    common: &CommonParts<'_>,
    features: Arc<FeatureSet>,
    observer: &Arc<Observer>,
) -> anyhow::Result<Arc<ServingState>> {
    let &CommonParts { config, db, metrics, .. } = common;
    let (observer, metrics) = (Arc::clone(observer), Arc::clone(metrics));
    let live =
        ServingState::new(db.critical_read().clone(), features, rules(config), observer, metrics);
    live.refresh().await.context("cannot load the deployment")?;
    Ok(Arc::new(live))
}

/// Automation policies, with stored changes loaded.
pub(super) async fn policies(
    config: &Config,
    db: &Db,
    clock: &TimeSource,
) -> anyhow::Result<Arc<Policies>> {
    let policies = Policies::new(db.clone(), clock.clone(), config.policy.clone());
    policies.refresh().await.context("cannot load the policy")?;
    Ok(Arc::new(policies))
}

fn rules(config: &Config) -> ScoringRules {
    ScoringRules { outlier_alpha: config.scoring.outlier_alpha, policy: config.assignment }
}

pub(super) fn drift(
    common: &CommonParts<'_>,
    live: &Arc<ServingState>,
    observer: Arc<Observer>,
    policies: &Arc<Policies>,
) -> Arc<DriftService> {
    let &CommonParts { config, db, clock, metrics } = common;
    Arc::new(DriftService::new(DriftDependencies {
        db: db.clone(),
        live: Arc::clone(live),
        observer,
        clock: clock.clone(),
        settings: config.drift.clone(),
        policies: Arc::clone(policies),
        metrics: Arc::clone(metrics),
    }))
}

pub(super) fn automation(
    common: &CommonParts<'_>,
    models: &ModelParts,
    drift: &Arc<DriftService>,
    alerts: &Arc<AlertService>,
    training: &Arc<TrainingService>,
) -> (Arc<ProbationMonitor>, Arc<Reactor>) {
    let &CommonParts { db, clock, metrics, .. } = common;
    let dependencies = AutomationDependencies {
        db: db.clone(),
        live: Arc::clone(&models.live),
        clock: clock.clone(),
        policies: Arc::clone(&models.policies),
        registry: Arc::clone(&models.registry),
        drift: Arc::clone(drift),
        alerts: Arc::clone(alerts),
        metrics: Arc::clone(metrics),
    };
    let probation = Arc::new(ProbationMonitor::new(dependencies.clone()));
    let reactor = Reactor::new(dependencies, Arc::clone(&probation), Arc::clone(training));
    (probation, Arc::new(reactor))
}

/// Clock check after its first comparison. If the database is too slow to compare, the
/// comparison happens later.
pub(super) async fn clock_check(common: &CommonParts<'_>) -> anyhow::Result<Arc<ClockCheck>> {
    let &CommonParts { config, db, clock, metrics } = common;
    let check =
        ClockCheck::new(clock.clone(), db.read().clone(), config.clock, Arc::clone(metrics));
    check.read().await?;
    Ok(Arc::new(check))
}

pub(super) fn sources(common: &CommonParts<'_>, alerts: &Arc<AlertService>) -> Arc<SourceMonitor> {
    let &CommonParts { config, db, clock, metrics } = common;
    let (settings, alerts) = (config.sources.clone(), Arc::clone(alerts));
    Arc::new(SourceMonitor::new(db.clone(), clock.clone(), settings, alerts, Arc::clone(metrics)))
}

pub(super) fn storage(
    config: &Config,
    database: &ManagedDatabase,
    alerts: &Arc<AlertService>,
    metrics: &Arc<Metrics>,
) -> Arc<Storage> {
    let bounds = DiskBounds {
        warn_free_bytes: config.database.warn_free_bytes,
        min_free_bytes: config.database.min_free_bytes,
    };
    // A connection of its own: a check that waits for a shared one would report the
    // database as unavailable.
    let db = database.db.critical_read().dedicated(1);
    let (alerts, metrics) = (Arc::clone(alerts), Arc::clone(metrics));
    Arc::new(Storage::new(db, database.directory(), bounds, alerts, metrics))
}

/// The models in service, and the policy on them.
pub(super) struct ModelParts {
    pub(super) live: Arc<ServingState>,
    pub(super) policies: Arc<Policies>,
    pub(super) shadows: Arc<Shadows>,
    pub(super) registry: Arc<Registry>,
    pub(super) rollout: Arc<Rollout>,
}

pub(super) fn models(
    common: &CommonParts<'_>,
    live: &Arc<ServingState>,
    policies: Arc<Policies>,
) -> (ModelParts, shadow::ShadowWorker) {
    let &CommonParts { config, db, clock, metrics } = common;
    let (life, live) = (&config.life, Arc::clone(live));
    let (shadows, worker) =
        Shadows::new(db.clone(), Arc::clone(&live), life.shadow_share, Arc::clone(metrics));
    let registry = Arc::new(Registry::new(RegistryDependencies {
        db: db.clone(),
        live: Arc::clone(&live),
        shadows: Arc::clone(&shadows),
        clock: clock.clone(),
        gates: config.gates.clone(),
        life: life.clone(),
        policies: Arc::clone(&policies),
    }));
    let (read, theirs) = (db.read().clone(), Arc::clone(&registry));
    let rollout = Arc::new(Rollout::new(read, clock.clone(), life.clone(), theirs));
    (ModelParts { live, policies, shadows, registry, rollout }, worker)
}

pub(super) fn intake(
    common: &CommonParts<'_>,
    models: &ModelParts,
    clock_check: &Arc<ClockCheck>,
    failed: &Arc<FailedEventStore>,
) -> (IngestionService, Vec<ingestion::CommitWorker>) {
    let &CommonParts { config, db, metrics, .. } = common;
    let parts = IngestionParts {
        db: db.clone(),
        live: Arc::clone(&models.live),
        shadows: Arc::clone(&models.shadows),
        clock_check: Arc::clone(clock_check),
        metrics: Arc::clone(metrics),
        failed: Arc::clone(failed),
    };
    IngestionService::new(parts, ingestion::IngestionSettings::from(config))
}

pub(super) fn training(
    common: &CommonParts<'_>,
    models: &ModelParts,
    alerts: &Arc<AlertService>,
) -> Arc<TrainingService> {
    let &CommonParts { config, db, clock, metrics } = common;
    Arc::new(TrainingService::new(TrainingDependencies {
        db: db.clone(),
        registry: Arc::clone(&models.registry),
        live: Arc::clone(&models.live),
        clock: clock.clone(),
        settings: config.training.clone(),
        alerts: Arc::clone(alerts),
        metrics: Arc::clone(metrics),
    }))
}

/// State of the admin listener, beside the API of the same process.
pub(super) fn admin_state(
    api: &ApiState,
    storage: &Arc<Storage>,
    clock_check: &Arc<ClockCheck>,
) -> AdminState {
    AdminState {
        readiness: api.readiness.clone(),
        storage: Arc::clone(storage),
        db: api.db.clone(),
        clock_check: Arc::clone(clock_check),
        metrics: Arc::clone(&api.metrics),
        memory: api.memory.clone(),
    }
}

pub(super) fn exports(
    config: &Config,
    db: &Db,
    heavy: &Arc<HeavyWork>,
    metrics: &Arc<Metrics>,
) -> (Exports, export::ExportWorker) {
    let max_concurrent = config.export.max_concurrent;
    let settings = export::ExportSettings { max_concurrent, stall: config.export.stall };
    Exports::new(db.read().clone(), settings, Arc::clone(heavy), Arc::clone(metrics))
}

pub(super) fn feed(
    common: &CommonParts<'_>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<(Arc<Feed>, DedicatedThread)> {
    let &CommonParts { config, db, metrics, .. } = common;
    let max_readers = config.changes.max_readers;
    let reading = DedicatedThread::start_below("reading")
        .context("cannot start the thread of the change feed")?;
    let (db, handle) = (db.read().clone(), reading.handle().clone());
    let feed = Feed::new(db, max_readers, handle, stopped, Arc::clone(metrics));
    Ok((Arc::new(feed), reading))
}

pub(super) fn limits(config: &Config) -> RequestLimits {
    let requests = config.http.requests;
    let capacities = Capacities {
        scoring: requests.scoring,
        ingestion: requests.ingestion,
        read: requests.read,
        stream: requests.stream,
        control: requests.control,
        health: requests.health,
        public: requests.public,
        unidentified: requests.unidentified,
    };
    RequestLimits { request_timeout: config.http.request_timeout, capacities }
}

pub(super) fn body_bounds(config: &Config) -> BodyBounds {
    let (http, limits) = (&config.http, &config.limits);
    BodyBounds {
        max_rows: config.scoring.max_rows,
        max_body_bytes: http.max_body_bytes,
        max_unidentified_body_bytes: http.max_unidentified_body_bytes,
        max_line_bytes: http.max_line_bytes,
        pace: BodyPace {
            timeout: http.body_timeout,
            grace: http.body_grace,
            min_bytes_per_second: http.min_body_bytes_per_second,
        },
        stream: StreamLimits {
            flush: limits.stream_flush,
            batch_bytes: limits.stream_bytes,
            idle: limits.stream_idle,
        },
    }
}

/// Limit of slow reads: as configured, but one read connection stays free for short reads,
/// and those of exports for exports.
pub(super) fn slow_reads(config: &Config, db: &Db) -> SlowReads {
    let taken = config.export.max_concurrent.saturating_add(1);
    let spare = db.read().max_connections().saturating_sub(taken).max(1);
    SlowReads::new(config.http.requests.slow_read.min(spare))
}

pub(super) fn memory_budget(config: &Config, metrics: &Arc<Metrics>) -> MemoryBudget {
    let RequestLimitSettings { memory_bytes, buffer_bytes, .. } = config.limits;
    metrics.limits.plan(memory_bytes, buffer_bytes, config.intake.cache_bytes);
    MemoryBudget::new(buffer_bytes, Arc::clone(metrics))
}

pub(super) fn failed_events(common: &CommonParts<'_>) -> Arc<FailedEventStore> {
    let &CommonParts { config, db, clock, metrics } = common;
    let (clock, metrics) = (clock.clone(), Arc::clone(metrics));
    Arc::new(FailedEventStore::new(db.clone(), clock, metrics, config.failed_events))
}

fn rescoring(
    common: &CommonParts<'_>,
    live: &Arc<ServingState>,
    intake: &IngestionService,
) -> RescoringDependencies {
    let &CommonParts { db, clock, metrics, .. } = common;
    RescoringDependencies {
        db: db.clone(),
        live: Arc::clone(live),
        clock: clock.clone(),
        cache: intake.cache(),
        metrics: Arc::clone(metrics),
    }
}

pub(super) fn reassigner(
    common: &CommonParts<'_>,
    live: &Arc<ServingState>,
    intake: &IngestionService,
) -> Reassigner {
    let BulkRescoringSettings { batch_customers, pause_ratio, .. } = common.config.reassign;
    let pace = RescoringPace { batch_customers, pause_ratio };
    Reassigner::new(rescoring(common, live, intake), pace)
}

pub(super) fn rechecker(
    common: &CommonParts<'_>,
    live: &Arc<ServingState>,
    intake: &IngestionService,
) -> Rechecker {
    let ScheduledRescoringSettings { batch_customers, pause_ratio, period } = common.config.recheck;
    let pace = RescoringPace { batch_customers, pause_ratio };
    Rechecker::new(rescoring(common, live, intake), pace, period)
}

pub(super) fn sampler(common: &CommonParts<'_>, live: &Arc<ServingState>) -> Sampler {
    let &CommonParts { config, db, metrics, .. } = common;
    let (db, live, metrics) = (db.read().clone(), Arc::clone(live), Arc::clone(metrics));
    Sampler::new(db, live, config.skew.every, config.skew.customers, metrics)
}
