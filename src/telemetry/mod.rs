//! Observability: log and metrics.
//!
//! *Architecture invariant:* every module writes metrics, and only the scrape reads them. No
//! label value is chosen from data: customers, segments and models are never labels, so the
//! number of series is fixed. (A feature is a label value: all features are declared before the
//! process starts.)

mod alerts;
mod background_work;
mod consistency_check;
mod counters;
mod drift;
pub(crate) mod http;
mod ingestion;
pub mod labels;
mod objectives;
mod output;
mod process;
mod scoring;
mod sources;
pub mod trace;

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry, TextEncoder,
};

use self::labels::PolicyAction;
use crate::domain::objective::Objectives as Targets;
use crate::domain::time::Timestamp;

pub use alerts::Alerts;
pub use background_work::{Lineup, Pool, Reassign, Recheck, Training};
pub use consistency_check::Skew;
pub use counters::Counters;
pub use drift::Drift;
pub use http::connections::{Connections, OpenConnection};
pub use http::limits::RequestLimits;
pub use http::{Http, InFlight, Route};
pub use ingestion::Intake;
pub use objectives::Objectives;
pub use output::{Output, Reading};
use process::ProcessMetrics;
pub use process::clock::Clock;
pub use process::database::Database;
pub use scoring::Scoring;
pub use scoring::shadow::Shadow;
pub use sources::Sources;

/// All metrics of the process; created once, shared by reference.
#[derive(Debug)]
pub struct Metrics {
    pub http: Http,
    pub connections: Connections,
    pub intake: Intake,
    pub limits: RequestLimits,
    pub scoring: Scoring,
    pub lineup: Lineup,
    pub training: Training,
    pub reassign: Reassign,
    pub recheck: Recheck,
    pub skew: Skew,
    pub shadow: Shadow,
    pub drift: Drift,
    pub sources: Sources,
    pub objectives: Arc<Objectives>,
    /// Automatic actions of the policy.
    pub policy_actions: Counters<PolicyAction>,
    pub alerts: Alerts,
    pub clock: Clock,
    pub output: Output,
    pub pool: Pool,
    pub database: Database,
    process: ProcessMetrics,
    registry: Registry,
}

impl Metrics {
    /// Registers every metric. `started` is the start time of the process; `targets` are the
    /// service-level objectives.
    ///
    /// Fails only if two metrics have the same name, which a test excludes.
    pub fn new(started: Timestamp, targets: Targets) -> prometheus::Result<Self> {
        // Not the global registry: tests run several instances side by side.
        let registry = Registry::new();
        let objectives = Arc::new(Objectives::new(&registry, targets)?);
        Ok(Self {
            http: Http::new(&registry, &objectives)?,
            connections: Connections::new(&registry)?,
            intake: Intake::new(&registry)?,
            limits: RequestLimits::new(&registry)?,
            scoring: Scoring::new(&registry)?,
            lineup: Lineup::new(&registry)?,
            training: Training::new(&registry)?,
            reassign: Reassign::new(&registry)?,
            recheck: Recheck::new(&registry)?,
            skew: Skew::new(&registry)?,
            shadow: Shadow::new(&registry)?,
            drift: Drift::new(&registry)?,
            sources: Sources::new(&registry)?,
            objectives,
            policy_actions: Counters::new(
                &registry,
                "segmentd_policy_actions_total",
                "Automatic actions of the policy.",
            )?,
            alerts: Alerts::new(&registry)?,
            clock: Clock::new(&registry)?,
            output: Output::new(&registry)?,
            pool: Pool::new(&registry)?,
            database: Database::new(&registry)?,
            process: ProcessMetrics::new(&registry, started)?,
            registry,
        })
    }

    /// Renders the metrics in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> prometheus::Result<String> {
        self.process.update();
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    register(registry, IntCounter::new(name, help)?)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    register(registry, IntGauge::new(name, help)?)
}

fn float_gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<Gauge> {
    register(registry, Gauge::with_opts(Opts::new(name, help))?)
}

fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
) -> prometheus::Result<Histogram> {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    register(registry, Histogram::with_opts(options)?)
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
