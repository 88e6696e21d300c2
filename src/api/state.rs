//! Shared state of the handlers: services, read access to the database, and limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::api::request::slow_reads::SlowReads;
use crate::service::alerts::AlertService;
use crate::service::api_keys::Access;
use crate::service::automation::probation::ProbationMonitor;
use crate::service::change_feed::Feed;
use crate::service::clock::TimeSource;
use crate::service::drift::DriftService;
use crate::service::export::Exports;
use crate::service::ingestion::IngestionService;
use crate::service::limits::heavy::HeavyWork;
use crate::service::limits::memory::MemoryBudget;
use crate::service::models::policy::Policies;
use crate::service::models::registry::Registry;
use crate::service::scoring::deployment::ServingState;
use crate::service::sources::SourceMonitor;
use crate::service::training::TrainingService;
use crate::store::ReadDb;
use crate::telemetry::Metrics;

/// Shared handles to services; cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiState(pub Arc<Handles>);

#[derive(Debug)]
pub struct Handles {
    pub access: Access,
    pub live: Arc<ServingState>,
    pub readiness: Readiness,
    pub intake: Arc<IngestionService>,
    pub registry: Arc<Registry>,
    pub training: Arc<TrainingService>,
    pub feed: Arc<Feed>,
    pub exports: Arc<Exports>,
    pub drift: Arc<DriftService>,
    pub alerts: Arc<AlertService>,
    pub policies: Arc<Policies>,
    pub probation: Arc<ProbationMonitor>,
    pub sources: Arc<SourceMonitor>,
    pub db: ReadDb,
    pub clock: TimeSource,
    pub metrics: Arc<Metrics>,
    pub memory: MemoryBudget,
    pub heavy: Arc<HeavyWork>,
    pub bounds: BodyBounds,
    /// Values of `Host` that a response may repeat; empty: all.
    pub allowed_hosts: Vec<String>,
    pub slow_reads: SlowReads,
}

impl std::ops::Deref for ApiState {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.0
    }
}

/// Limits on request bodies.
#[derive(Debug, Clone, Copy)]
pub struct BodyBounds {
    /// Feature rows in one request.
    pub max_rows: usize,
    pub max_body_bytes: usize,
    /// Limit for a request that carries its API key inside the body.
    pub max_unidentified_body_bytes: usize,
    /// Limit for one line of a bulk upload.
    pub max_line_bytes: usize,
    pub pace: BodyPace,
    pub stream: StreamLimits,
}

/// Minimum transfer rate and deadline of a request body.
#[derive(Debug, Clone, Copy)]
pub struct BodyPace {
    /// Deadline for the whole body.
    pub timeout: Duration,
    /// Time before the minimum rate applies.
    pub grace: Duration,
    /// 0: no minimum rate.
    pub min_bytes_per_second: u64,
}

/// Batching and idle limits of bulk uploads.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
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
    live: Arc<ServingState>,
    draining: Arc<AtomicBool>,
}

impl Readiness {
    pub fn new(live: Arc<ServingState>) -> Self {
        Self { live, draining: Arc::default() }
    }

    /// Marks the process as draining: from now on it is not ready.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn is_serving(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }

    /// Whether the stored deployment has been loaded.
    pub fn has_lineup(&self) -> bool {
        self.live.lineup().generation >= 0
    }

    pub fn is_ready(&self) -> bool {
        self.is_serving() && self.has_lineup()
    }
}
