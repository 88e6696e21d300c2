//! Shared state of the handlers: services, read access to the database, and limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::api::request::slow_reads::SlowReads;
use crate::service::alerts::AlertService;
use crate::service::api_keys::{KeyAuthenticator, KeyRegistry};
use crate::service::audiences::AudienceService;
use crate::service::automation::probation::ProbationMonitor;
use crate::service::change_feed::ChangeFeed;
use crate::service::clock::TimeSource;
use crate::service::drift::DriftService;
use crate::service::experiments::ExperimentService;
use crate::service::export::ExportService;
use crate::service::health::failed_tasks::FailedTasks;
use crate::service::ingestion::IngestionService;
use crate::service::limits::heavy::HeavyWorkPool;
use crate::service::limits::memory::MemoryBudget;
use crate::service::limits::rate_limits::KeyRateLimiter;
use crate::service::models::policy::AutomationPolicies;
use crate::service::models::registry::ModelRegistry;
use crate::service::personas::PersonaService;
use crate::service::scoring::serving::ServingState;
use crate::service::segment_value::SegmentValueService;
use crate::service::sources::SourceMonitor;
use crate::service::training::TrainingService;
use crate::store::ReadOnlyDatabase;
use crate::telemetry::ServiceMetrics;

/// Shared handles to services; cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiState(pub Arc<ApiServices>);

#[derive(Debug)]
pub struct ApiServices {
    pub api_keys: KeyAuthenticator,
    pub key_registry: Arc<KeyRegistry>,
    pub rate_limits: Arc<KeyRateLimiter>,
    pub deployments: Arc<ServingState>,
    pub readiness: Readiness,
    pub ingestion: Arc<IngestionService>,
    pub registry: Arc<ModelRegistry>,
    pub training: Arc<TrainingService>,
    pub change_feed: Arc<ChangeFeed>,
    pub exports: Arc<ExportService>,
    pub drift: Arc<DriftService>,
    pub alerts: Arc<AlertService>,
    pub policies: Arc<AutomationPolicies>,
    pub definitions: Arc<DefinitionServices>,
    pub probation: Arc<ProbationMonitor>,
    pub sources: Arc<SourceMonitor>,
    pub segment_values: Arc<SegmentValueService>,
    pub db: ReadOnlyDatabase,
    pub clock: TimeSource,
    pub metrics: Arc<ServiceMetrics>,
    pub memory: MemoryBudget,
    pub heavy: Arc<HeavyWorkPool>,
    pub body_limits: BodyLimits,
    /// Values of `Host` that a response may repeat; empty: all.
    pub allowed_hosts: Vec<String>,
    pub slow_reads: SlowReads,
}

impl std::ops::Deref for ApiState {
    type Target = ApiServices;

    fn deref(&self) -> &ApiServices {
        &self.0
    }
}

/// Services that change the definitions of users: personas, audiences, experiments.
#[derive(Debug)]
pub struct DefinitionServices {
    pub personas: PersonaService,
    pub audiences: AudienceService,
    pub experiments: ExperimentService,
}

/// Limits on request bodies.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Feature rows in one request.
    pub max_rows: usize,
    pub max_body_bytes: usize,
    /// Limit for a request that carries its API key inside the body.
    pub max_unidentified_body_bytes: usize,
    /// Limit for one line of a bulk upload.
    pub max_line_bytes: usize,
    pub rate: BodyRateLimit,
    pub bulk_upload: BulkUploadLimits,
}

/// Minimum transfer rate and deadline of a request body.
#[derive(Debug, Clone, Copy)]
pub struct BodyRateLimit {
    /// Deadline for the whole body.
    pub timeout: Duration,
    /// Time before the minimum rate applies.
    pub grace: Duration,
    /// 0: no minimum rate.
    pub min_bytes_per_second: u64,
}

/// Batching and idle limits of bulk uploads.
#[derive(Debug, Clone, Copy)]
pub struct BulkUploadLimits {
    /// Longest time that a line waits for its batch to fill before the commit.
    pub flush: Duration,
    /// Bytes of lines that fill a batch.
    pub batch_bytes: usize,
    /// A stream that sends no byte for this time is closed.
    pub idle: Duration,
}

/// Readiness of this process: whether a load balancer should send it requests.
#[derive(Debug, Clone)]
pub struct Readiness {
    deployments: Arc<ServingState>,
    draining: Arc<AtomicBool>,
    /// Failed background tasks that only a restart of the process starts again.
    pub failed_tasks: Arc<FailedTasks>,
}

impl Readiness {
    pub fn new(deployments: Arc<ServingState>, failed_tasks: Arc<FailedTasks>) -> Self {
        Self { deployments, draining: Arc::default(), failed_tasks }
    }

    /// Marks the process as draining: from now on it is not ready.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_serving(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }

    /// Whether the stored deployment has been loaded.
    pub(crate) fn has_deployment(&self) -> bool {
        self.deployments.current().generation >= 0
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.is_serving() && self.has_deployment() && self.failed_tasks.is_empty()
    }
}
