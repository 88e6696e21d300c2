//! Constructors of the service's components, from the settings and their dependencies.

use std::sync::Arc;

use crate::api::admin::AdminState;
use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::api::request::slow_reads::SlowReads;
use crate::api::state::{
    ApiState, BodyLimits, BodyRateLimit, BulkUploadLimits, DefinitionServices,
};
use crate::api::{RequestCapacities, RequestLimits};
use crate::app::ManagedDatabase;
use crate::app::threads::DedicatedThread;
use crate::config::{
    AppConfig, BulkRescoringSettings, RequestLimitSettings, ScheduledRescoringSettings,
};
use crate::domain::feature::FeatureSet;
use crate::service::alerts::AlertService;
use crate::service::api_keys::{KeyAuthenticator, KeyRegistry};
use crate::service::audiences::AudienceService;
use crate::service::automation::AutomationDependencies;
use crate::service::automation::actions::PolicyActions;
use crate::service::automation::probation::ProbationMonitor;
use crate::service::change_feed::ChangeFeed;
use crate::service::clock::TimeSource;
use crate::service::consistency_check::ConsistencyCheck;
use crate::service::drift::{DriftDependencies, DriftService};
use crate::service::experiments::ExperimentService;
use crate::service::export::{self, ExportService};
use crate::service::failed_events::FailedEventStore;
use crate::service::health::clock_check::ClockCheck;
use crate::service::health::storage::{DiskBounds, StorageMonitor};
use crate::service::ingestion;
use crate::service::ingestion::{IngestionParts, IngestionService};
use crate::service::limits::heavy::HeavyWorkPool;
use crate::service::limits::memory::MemoryBudget;
use crate::service::limits::rate_limits::{KeyRateLimiter, RateLimitDefaults};
use crate::service::models::policy::AutomationPolicies;
use crate::service::models::registry::{ModelRegistry, RegistryDependencies};
use crate::service::models::shadow;
use crate::service::models::shadow::ShadowModels;
use crate::service::personas::PersonaService;
use crate::service::rescoring::on_deployment_change::BulkRescorer;
use crate::service::rescoring::on_time::ScheduledRescorer;
use crate::service::rescoring::{RescoringDependencies, RescoringPace};
use crate::service::scoring::deployment::ScoringRules;
use crate::service::scoring::observations::DriftCounters;
use crate::service::scoring::serving::ServingState;
use crate::service::sources::SourceMonitor;
use crate::service::stored_properties;
use crate::service::training::TrainingService;
use crate::store::DatabaseHandle;
use crate::telemetry::ServiceMetrics;

/// Dependencies of most components.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommonParts<'a> {
    pub(super) config: &'a AppConfig,
    pub(super) db: &'a DatabaseHandle,
    pub(super) clock: &'a TimeSource,
    pub(super) metrics: &'a Arc<ServiceMetrics>,
}

/// Authentication, with the stored keys loaded.
pub(super) async fn access(
    common: &CommonParts<'_>,
    rate_limits: &Arc<KeyRateLimiter>,
) -> anyhow::Result<KeyAuthenticator> {
    let &CommonParts { db, clock, .. } = common;
    let read = db.critical_read().clone();
    let access = KeyAuthenticator::new(read, clock.clone(), Arc::clone(rate_limits));
    access.refresh().await.context("cannot load the API keys")?;
    Ok(access)
}

/// The feature set, with its properties recorded as stored from now on.
pub(super) async fn features(
    common: &CommonParts<'_>,
    features: FeatureSet,
) -> anyhow::Result<Arc<FeatureSet>> {
    let features = stored_properties::register(common.db, features, common.clock.now())
        .await
        .context("cannot record the properties that the feature set stores")?;
    Ok(Arc::new(features))
}

/// Serving state, with the stored deployment loaded.
pub(super) async fn serving(
    common: &CommonParts<'_>,
    features: Arc<FeatureSet>,
    drift_counters: &Arc<DriftCounters>,
) -> anyhow::Result<Arc<ServingState>> {
    let &CommonParts { config, db, metrics, .. } = common;
    let (drift_counters, metrics) = (Arc::clone(drift_counters), Arc::clone(metrics));
    let serving = ServingState::new(
        db.critical_read().clone(),
        features,
        rules(config),
        drift_counters,
        metrics,
    );
    serving.refresh_deployment().await.context("cannot load the deployment")?;
    Ok(Arc::new(serving))
}

/// Automation policies, with stored changes loaded.
pub(super) async fn policies(
    config: &AppConfig,
    db: &DatabaseHandle,
    clock: &TimeSource,
) -> anyhow::Result<Arc<AutomationPolicies>> {
    let policies = AutomationPolicies::new(db.clone(), clock.clone(), config.policy.clone());
    policies.refresh().await.context("cannot load the policy")?;
    Ok(Arc::new(policies))
}

fn rules(config: &AppConfig) -> ScoringRules {
    ScoringRules { outlier_alpha: config.scoring.outlier_alpha, hysteresis: config.hysteresis }
}

pub(super) fn drift(
    common: &CommonParts<'_>,
    serving: &Arc<ServingState>,
    drift_counters: Arc<DriftCounters>,
    policies: &Arc<AutomationPolicies>,
) -> Arc<DriftService> {
    let &CommonParts { config, db, clock, metrics } = common;
    Arc::new(DriftService::new(DriftDependencies {
        db: db.clone(),
        serving: Arc::clone(serving),
        drift_counters,
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
) -> (Arc<ProbationMonitor>, Arc<PolicyActions>) {
    let &CommonParts { db, clock, metrics, .. } = common;
    let dependencies = AutomationDependencies {
        db: db.clone(),
        serving: Arc::clone(&models.serving),
        clock: clock.clone(),
        policies: Arc::clone(&models.policies),
        registry: Arc::clone(&models.registry),
        drift: Arc::clone(drift),
        alerts: Arc::clone(alerts),
        metrics: Arc::clone(metrics),
    };
    let probation = Arc::new(ProbationMonitor::new(dependencies.clone()));
    let policy_actions =
        PolicyActions::new(dependencies, Arc::clone(&probation), Arc::clone(training));
    (probation, Arc::new(policy_actions))
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
    config: &AppConfig,
    database: &ManagedDatabase,
    alerts: &Arc<AlertService>,
    metrics: &Arc<ServiceMetrics>,
) -> Arc<StorageMonitor> {
    let bounds = DiskBounds {
        warn_free_bytes: config.database.warn_free_bytes,
        min_free_bytes: config.database.min_free_bytes,
    };
    // A connection of its own: a check that waits for a shared one would report the
    // database as unavailable.
    let db = database.db.critical_read().dedicated_pool(1);
    let (alerts, metrics) = (Arc::clone(alerts), Arc::clone(metrics));
    Arc::new(StorageMonitor::new(db, database.directory(), bounds, alerts, metrics))
}

/// The models in service, and the policy on them.
pub(super) struct ModelParts {
    pub(super) serving: Arc<ServingState>,
    pub(super) policies: Arc<AutomationPolicies>,
    pub(super) shadows: Arc<ShadowModels>,
    pub(super) registry: Arc<ModelRegistry>,
}

pub(super) fn models(
    common: &CommonParts<'_>,
    serving: &Arc<ServingState>,
    policies: Arc<AutomationPolicies>,
) -> (ModelParts, shadow::ShadowWorker) {
    let &CommonParts { config, db, clock, metrics } = common;
    let (lifecycle, serving) = (&config.lifecycle, Arc::clone(serving));
    let (shadows, worker) = ShadowModels::new(
        db.clone(),
        Arc::clone(&serving),
        lifecycle.shadow_share,
        Arc::clone(metrics),
    );
    let registry = Arc::new(ModelRegistry::new(RegistryDependencies {
        db: db.clone(),
        serving: Arc::clone(&serving),
        shadows: Arc::clone(&shadows),
        clock: clock.clone(),
        gate_thresholds: config.gates.clone(),
        rollout_settings: lifecycle.clone(),
        policies: Arc::clone(&policies),
    }));
    (ModelParts { serving, policies, shadows, registry }, worker)
}

pub(super) fn ingestion(
    common: &CommonParts<'_>,
    models: &ModelParts,
    clock_check: &Arc<ClockCheck>,
    failed: &Arc<FailedEventStore>,
    rate_limits: &Arc<KeyRateLimiter>,
) -> (IngestionService, Vec<ingestion::CommitWorker>) {
    let &CommonParts { config, db, metrics, .. } = common;
    let parts = IngestionParts {
        db: db.clone(),
        serving: Arc::clone(&models.serving),
        shadows: Arc::clone(&models.shadows),
        clock_check: Arc::clone(clock_check),
        metrics: Arc::clone(metrics),
        failed_events: Arc::clone(failed),
        rate_limits: Arc::clone(rate_limits),
    };
    IngestionService::new(parts, ingestion::IngestionSettings::from(config))
}

/// State of the admin listener, beside the API of the same process.
pub(super) fn admin_state(
    api: &ApiState,
    storage: &Arc<StorageMonitor>,
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

/// Changes of API keys.
pub(super) fn key_registry(common: &CommonParts<'_>) -> Arc<KeyRegistry> {
    Arc::new(KeyRegistry::new(common.db.clone(), common.clock.clone()))
}

pub(super) fn rate_limits(
    config: &AppConfig,
    metrics: &Arc<ServiceMetrics>,
) -> Arc<KeyRateLimiter> {
    let limits = config.limits;
    let defaults = RateLimitDefaults {
        requests_per_second: limits.requests_per_second_per_key,
        events_per_second: limits.events_per_second_per_key,
        expensive_requests_per_minute: limits.expensive_requests_per_minute_per_key,
        events_per_request: limits.events_per_request,
    };
    Arc::new(KeyRateLimiter::new(defaults, Arc::clone(metrics)))
}

pub(super) fn heavy_work() -> anyhow::Result<Arc<HeavyWorkPool>> {
    let pool = HeavyWorkPool::start_threads().context("cannot start the threads of heavy work")?;
    Ok(Arc::new(pool))
}

pub(super) fn metrics(
    config: &AppConfig,
    clock: &TimeSource,
) -> anyhow::Result<Arc<ServiceMetrics>> {
    Ok(Arc::new(ServiceMetrics::new(clock.now(), config.objectives).context("metrics")?))
}

pub(super) fn exports(
    common: &CommonParts<'_>,
    serving: &Arc<ServingState>,
    heavy: &Arc<HeavyWorkPool>,
) -> (ExportService, export::ExportWorker) {
    let &CommonParts { config, db, clock, metrics } = common;
    let max_concurrent = config.export.max_concurrent;
    let settings =
        export::ExportSettings { max_concurrent, stall_timeout: config.export.stall_timeout };
    let dependencies = export::ExportDependencies {
        db: db.read().clone(),
        serving: Arc::clone(serving),
        clock: clock.clone(),
        heavy: Arc::clone(heavy),
        metrics: Arc::clone(metrics),
    };
    ExportService::new(dependencies, settings)
}

pub(super) fn feed(
    common: &CommonParts<'_>,
    stopped: CancellationToken,
) -> anyhow::Result<(Arc<ChangeFeed>, DedicatedThread)> {
    let &CommonParts { config, db, metrics, .. } = common;
    let max_readers = config.change_feed.max_readers;
    let reading = DedicatedThread::start_below("reading")
        .context("cannot start the thread of the change feed")?;
    let (db, handle) = (db.read().clone(), reading.handle().clone());
    let feed = ChangeFeed::new(db, max_readers, handle, stopped, Arc::clone(metrics));
    Ok((Arc::new(feed), reading))
}

pub(super) fn limits(config: &AppConfig) -> RequestLimits {
    let requests = config.http.requests;
    let capacities = RequestCapacities {
        scoring: requests.scoring,
        ingestion: requests.ingestion,
        read: requests.read,
        stream: requests.stream,
        control: requests.control,
        health: requests.health,
        public: requests.public,
        unidentified: requests.unidentified,
    };
    RequestLimits {
        request_timeout: config.http.request_timeout,
        capacities,
        logged_share: config.log.request_share,
    }
}

pub(super) fn body_bounds(config: &AppConfig) -> BodyLimits {
    let (http, limits) = (&config.http, &config.limits);
    BodyLimits {
        max_rows: config.scoring.max_rows,
        max_body_bytes: http.max_body_bytes,
        max_unidentified_body_bytes: http.max_unidentified_body_bytes,
        max_line_bytes: http.max_line_bytes,
        rate: BodyRateLimit {
            timeout: http.body_timeout,
            grace: http.body_grace,
            min_bytes_per_second: http.min_body_bytes_per_second,
        },
        bulk_upload: BulkUploadLimits {
            flush: limits.stream_flush,
            batch_bytes: limits.stream_bytes,
            idle: limits.stream_idle,
        },
    }
}

/// Limit of slow reads: as configured, but one read connection stays free for short reads,
/// and those of exports for exports.
pub(super) fn slow_reads(config: &AppConfig, db: &DatabaseHandle) -> SlowReads {
    let taken = config.export.max_concurrent.saturating_add(1);
    let spare = db.read().max_connections().saturating_sub(taken).max(1);
    SlowReads::new(config.http.requests.slow_read.min(spare))
}

pub(super) fn memory_budget(config: &AppConfig, metrics: &Arc<ServiceMetrics>) -> MemoryBudget {
    let RequestLimitSettings { memory_bytes, buffer_bytes, .. } = config.limits;
    metrics.limits.set_budget(memory_bytes, buffer_bytes, config.ingestion.cache_bytes);
    MemoryBudget::new(buffer_bytes, Arc::clone(metrics))
}

pub(super) fn failed_events(common: &CommonParts<'_>) -> Arc<FailedEventStore> {
    let &CommonParts { config, db, clock, metrics } = common;
    let (clock, metrics) = (clock.clone(), Arc::clone(metrics));
    Arc::new(FailedEventStore::new(db.clone(), clock, metrics, config.failed_events))
}

fn rescoring(
    common: &CommonParts<'_>,
    serving: &Arc<ServingState>,
    ingestion: &IngestionService,
) -> RescoringDependencies {
    let &CommonParts { db, clock, metrics, .. } = common;
    RescoringDependencies {
        db: db.clone(),
        serving: Arc::clone(serving),
        clock: clock.clone(),
        customer_cache: ingestion.customer_cache(),
        metrics: Arc::clone(metrics),
    }
}

/// Changes of personas, audiences and experiments.
pub(super) fn definitions(
    common: &CommonParts<'_>,
    serving: &Arc<ServingState>,
) -> Arc<DefinitionServices> {
    let &CommonParts { db, clock, config, .. } = common;
    let (for_personas, for_audiences) = (Arc::clone(serving), Arc::clone(serving));
    let personas = PersonaService::new(db.clone(), for_personas, clock.clone());
    let audiences = AudienceService::new(db.clone(), for_audiences, clock.clone());
    let event_names = config.ingestion.event_names.clone();
    let experiments =
        ExperimentService::new(db.clone(), Arc::clone(serving), clock.clone(), event_names);
    Arc::new(DefinitionServices { personas, audiences, experiments })
}

/// Rescoring after a change of the deployment or of audiences, and because time passed.
pub(super) fn rescorers(
    common: &CommonParts<'_>,
    serving: &Arc<ServingState>,
    ingestion: &IngestionService,
) -> (Arc<BulkRescorer>, Arc<ScheduledRescorer>) {
    let BulkRescoringSettings { batch_customers, pause_ratio, .. } = common.config.bulk_rescoring;
    let pace = RescoringPace { batch_customers, pause_ratio };
    let poll = common.config.deployment.poll_interval;
    let bulk = BulkRescorer::new(rescoring(common, serving, ingestion), pace, poll);
    let ScheduledRescoringSettings { batch_customers, pause_ratio, poll_interval } =
        common.config.scheduled_rescoring;
    let pace = RescoringPace { batch_customers, pause_ratio };
    let parts = rescoring(common, serving, ingestion);
    (Arc::new(bulk), Arc::new(ScheduledRescorer::new(parts, pace, poll_interval)))
}

pub(super) fn consistency_check(
    common: &CommonParts<'_>,
    serving: &Arc<ServingState>,
) -> ConsistencyCheck {
    let &CommonParts { config, db, metrics, .. } = common;
    let (db, serving, metrics) = (db.read().clone(), Arc::clone(serving), Arc::clone(metrics));
    ConsistencyCheck::new(
        db,
        serving,
        config.consistency_check.interval,
        config.consistency_check.customers_per_sample,
        metrics,
    )
}
