//! What an operator sees: the log and the metrics.
//!
//! *Architecture invariant:* metrics are written to from everywhere and read
//! back by nobody but the scrape. No name here is chosen from data: a customer,
//! segment or model is never a label, so the number of series is fixed. (A feature
//! is one label's value: all of them are declared before the process starts.)

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
use process::Process;
pub use process::clock::Clock;
pub use process::database::Database;
pub use scoring::Scoring;
pub use scoring::shadow::Shadow;
pub use sources::Sources;

/// Every metric of the process; made once, shared by reference.
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
    /// What the policy had done.
    pub policy_actions: Counters<PolicyAction>,
    pub alerts: Alerts,
    pub clock: Clock,
    pub output: Output,
    pub pool: Pool,
    pub database: Database,
    process: Process,
    registry: Registry,
}

impl Metrics {
    /// Registers every metric. `started` is when the process started, `targets` is what
    /// is promised.
    ///
    /// Fails only when two metrics have one name, which a test rules out.
    pub fn new(started: Timestamp, targets: Targets) -> prometheus::Result<Self> {
        // Of our own, not the global one: tests run several side by side.
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
                "What the policy had done by itself.",
            )?,
            alerts: Alerts::new(&registry)?,
            clock: Clock::new(&registry)?,
            output: Output::new(&registry)?,
            pool: Pool::new(&registry)?,
            database: Database::new(&registry)?,
            process: Process::new(&registry, started)?,
            registry,
        })
    }

    /// The metrics in Prometheus' text format, version 0.0.4.
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
