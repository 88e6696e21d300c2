//! What handlers may use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::api::request::slow_reads::SlowReads;
use crate::service::alerts::Alerts;
use crate::service::api_keys::Access;
use crate::service::automation::actions::Reactor;
use crate::service::change_feed::Feed;
use crate::service::drift::Drift;
use crate::service::export::Exports;
use crate::service::ingestion::Intake;
use crate::service::limits::heavy::HeavyWork;
use crate::service::limits::memory::MemoryBudget;
use crate::service::models::registry::Registry;
use crate::service::scoring::deployment::Live;
use crate::service::sources::Sources;
use crate::service::training::Training;
use crate::store::ReadDb;
use crate::telemetry::Metrics;

/// Handles only, cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiState(pub Arc<Handles>);

#[derive(Debug)]
pub struct Handles {
    pub access: Access,
    pub live: Arc<Live>,
    pub readiness: Readiness,
    pub intake: Arc<Intake>,
    pub registry: Arc<Registry>,
    pub training: Arc<Training>,
    pub feed: Arc<Feed>,
    pub exports: Arc<Exports>,
    pub drift: Arc<Drift>,
    pub alerts: Arc<Alerts>,
    pub reactor: Arc<Reactor>,
    pub sources: Arc<Sources>,
    pub db: ReadDb,
    pub metrics: Arc<Metrics>,
    pub memory: MemoryBudget,
    pub heavy: Arc<HeavyWork>,
    pub bounds: BodyBounds,
    /// Values of `Host` that may be repeated in an answer; empty: all.
    pub allowed_hosts: Vec<String>,
    pub slow_reads: SlowReads,
}

impl std::ops::Deref for ApiState {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.0
    }
}

/// How request bodies are read.
#[derive(Debug, Clone, Copy)]
pub struct BodyBounds {
    /// Feature rows of a request.
    pub max_rows: usize,
    pub max_body_bytes: usize,
    /// Of a request whose key is inside its body.
    pub max_unidentified_body_bytes: usize,
    /// Of a bulk upload.
    pub max_line_bytes: usize,
    pub pace: BodyPace,
    pub stream: StreamLimits,
}

/// How fast a request body must arrive.
#[derive(Debug, Clone, Copy)]
pub struct BodyPace {
    /// For the whole body.
    pub timeout: Duration,
    /// Before the minimum rate applies.
    pub grace: Duration,
    /// 0: no minimum rate.
    pub min_bytes_per_second: u64,
}

/// How bulk uploads are read.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// Time that lines are gathered before they are committed.
    pub flush: Duration,
    /// Lines that are gathered, in bytes.
    pub batch_bytes: usize,
    /// A stream without a byte for this time is ended.
    pub idle: Duration,
}

/// Whether this process is to be sent requests.
#[derive(Debug, Clone)]
pub struct Readiness {
    live: Arc<Live>,
    draining: Arc<AtomicBool>,
}

impl Readiness {
    pub fn new(live: Arc<Live>) -> Self {
        Self { live, draining: Arc::default() }
    }

    /// Says that the process begins to stop.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn is_serving(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }

    /// Whether the stored lineup has been read.
    pub fn has_lineup(&self) -> bool {
        self.live.lineup().generation >= 0
    }

    pub fn is_ready(&self) -> bool {
        self.is_serving() && self.has_lineup()
    }
}
