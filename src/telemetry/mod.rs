//! Observability: log and metrics.
//!
//! *Architecture invariant:* every module writes metrics, and only the scrape reads them. No
//! label value is chosen from data: customers and models are never labels, so the number of
//! series is bounded. (A feature is a label value: all features are declared before the process
//! starts. A segment is a label value of gauges that have the at most 257 segments of the active
//! model, and of the newest back-test, only. An audience is a label value of one gauge; there are
//! at most 500.)

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
mod registry;
pub(crate) mod repeated_failures;
mod scoring;
mod sources;
pub mod trace;

use std::sync::Arc;

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts};

use self::labels::{BackgroundTask, PolicyAction};
use crate::domain::objective::ObjectiveTargets as Targets;
use crate::domain::time::Timestamp;

pub use alerts::AlertMetrics;
pub use background_work::{
    BulkRescoringMetrics, ConnectionPoolMetrics, DeploymentMetrics, ScheduledRescoringMetrics,
    TrainingMetrics,
};
pub use consistency_check::ConsistencyCheckMetrics;
pub use counters::LabelledCounters;
pub use drift::DriftMetrics;
pub use http::connections::{ConnectionMetrics, OpenConnection};
pub use http::limits::LimitMetrics;
pub use http::{HttpMetrics, InFlightRequest, RouteMetrics};
pub use ingestion::IngestionMetrics;
pub use objectives::ObjectiveMetrics;
pub use output::{FeedReaderGuard, OutputMetrics};
use process::ProcessMetrics;
pub use process::clock::ClockMetrics;
pub use process::database::DatabaseMetrics;
pub use registry::MetricDescription;
use registry::MetricRegistry;
pub use scoring::ScoringMetrics;
pub use scoring::audiences::AudienceMetrics;
pub use scoring::backtest::BacktestMetrics;
pub use scoring::segments::SegmentMetrics;
pub(crate) use scoring::segments::{SegmentGauges, TrainingFigures};
pub use scoring::shadow::ShadowMetrics;
pub use sources::SourceMetrics;

/// All metrics of the process; created once, shared by reference.
#[derive(Debug)]
pub struct ServiceMetrics {
    pub http: HttpMetrics,
    pub connections: ConnectionMetrics,
    pub ingestion: IngestionMetrics,
    pub limits: LimitMetrics,
    pub scoring: ScoringMetrics,
    pub segments: SegmentMetrics,
    pub audiences: AudienceMetrics,
    pub backtest: BacktestMetrics,
    pub deployment: DeploymentMetrics,
    pub training: TrainingMetrics,
    pub bulk_rescoring: BulkRescoringMetrics,
    pub scheduled_rescoring: ScheduledRescoringMetrics,
    pub consistency_check: ConsistencyCheckMetrics,
    pub shadow: ShadowMetrics,
    pub drift: DriftMetrics,
    pub sources: SourceMetrics,
    pub objectives: Arc<ObjectiveMetrics>,
    /// Automatic actions of the policy.
    pub policy_actions: LabelledCounters<PolicyAction>,
    /// Background tasks that panicked or ended unexpectedly.
    pub task_failures: LabelledCounters<BackgroundTask>,
    pub alerts: AlertMetrics,
    pub clock: ClockMetrics,
    pub output: OutputMetrics,
    pub connection_pool: ConnectionPoolMetrics,
    pub database: DatabaseMetrics,
    process: ProcessMetrics,
    registry: MetricRegistry,
}

impl ServiceMetrics {
    /// Registers every metric. `started` is the start time of the process; `targets` are the
    /// service-level objectives.
    ///
    /// Fails only if two metrics have the same name, which a test excludes.
    pub fn new(started: Timestamp, targets: Targets) -> prometheus::Result<Self> {
        let registry = MetricRegistry::default();
        let objectives = Arc::new(ObjectiveMetrics::new(&registry, targets)?);
        Ok(Self {
            http: HttpMetrics::new(&registry, &objectives)?,
            connections: ConnectionMetrics::new(&registry)?,
            ingestion: IngestionMetrics::new(&registry)?,
            limits: LimitMetrics::new(&registry)?,
            scoring: ScoringMetrics::new(&registry)?,
            segments: SegmentMetrics::new(&registry)?,
            audiences: AudienceMetrics::new(&registry)?,
            backtest: BacktestMetrics::new(&registry)?,
            deployment: DeploymentMetrics::new(&registry)?,
            training: TrainingMetrics::new(&registry)?,
            bulk_rescoring: BulkRescoringMetrics::new(&registry)?,
            scheduled_rescoring: ScheduledRescoringMetrics::new(&registry)?,
            consistency_check: ConsistencyCheckMetrics::new(&registry)?,
            shadow: ShadowMetrics::new(&registry)?,
            drift: DriftMetrics::new(&registry)?,
            sources: SourceMetrics::new(&registry)?,
            objectives,
            policy_actions: LabelledCounters::new(
                &registry,
                "segmentd_policy_actions_total",
                "Automatic actions of the policy.",
            )?,
            task_failures: LabelledCounters::new(
                &registry,
                "segmentd_background_task_failures_total",
                "Background tasks that panicked or ended unexpectedly.",
            )?,
            alerts: AlertMetrics::new(&registry)?,
            clock: ClockMetrics::new(&registry)?,
            output: OutputMetrics::new(&registry)?,
            connection_pool: ConnectionPoolMetrics::new(&registry)?,
            database: DatabaseMetrics::new(&registry)?,
            process: ProcessMetrics::new(&registry, started)?,
            registry,
        })
    }

    /// Every metric, by name: also those that have no value yet.
    pub fn catalogue(&self) -> Vec<MetricDescription> {
        self.registry.catalogue()
    }

    /// Renders the metrics in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> prometheus::Result<String> {
        self.process.update();
        self.registry.render()
    }
}

fn counter(registry: &MetricRegistry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    registry.register(IntCounter::new(name, help)?)
}

fn gauge(registry: &MetricRegistry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    registry.register(IntGauge::new(name, help)?)
}

fn float_gauge(registry: &MetricRegistry, name: &str, help: &str) -> prometheus::Result<Gauge> {
    registry.register(Gauge::with_opts(Opts::new(name, help))?)
}

fn histogram(
    registry: &MetricRegistry,
    name: &str,
    help: &str,
    buckets: &[f64],
) -> prometheus::Result<Histogram> {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    registry.register(Histogram::with_opts(options)?)
}
