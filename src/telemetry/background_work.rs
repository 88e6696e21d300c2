//! Metrics of background work and of the database connections that it shares with requests.

use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

use crate::telemetry::LabelledCounters;
use crate::telemetry::labels::TrainingRunOutcome;
use crate::telemetry::registry::MetricRegistry;

/// From the size of test data to an hour: training time grows with customers.
const TRAINING_SECONDS: [f64; 12] =
    [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];

/// Deployment changes.
#[derive(Debug)]
pub struct DeploymentMetrics {
    /// Generation of the deployment in use. A lasting difference between replicas is a fault.
    pub generation: IntGauge,
    pub swaps: IntCounter,
    /// Deployments that failed their self-test; the previous one remained in use.
    pub refused: IntCounter,
    /// Personas that may be outdated.
    pub outdated_personas: IntGauge,
    /// Experiments that run.
    pub running_experiments: IntGauge,
}

impl DeploymentMetrics {
    pub(super) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        Ok(Self {
            generation: super::gauge(
                registry,
                "segmentd_deployment_generation",
                "Generation of the deployment in use.",
            )?,
            swaps: super::counter(
                registry,
                "segmentd_deployment_changes_total",
                "Deployments that were put into use.",
            )?,
            refused: super::counter(
                registry,
                "segmentd_deployment_refusals_total",
                "Deployments that failed their self-test, so that the previous one remained in use.",
            )?,
            outdated_personas: super::gauge(
                registry,
                "segmentd_outdated_personas",
                "Segments of the active model with a persona that may be outdated: a standout feature changed by at least half a standard deviation since the last change of the persona.",
            )?,
            running_experiments: super::gauge(
                registry,
                "segmentd_running_experiments",
                "Experiments that assign customers to variations.",
            )?,
        })
    }
}

/// Training runs.
#[derive(Debug)]
pub struct TrainingMetrics {
    pub runs: LabelledCounters<TrainingRunOutcome>,
    /// Trained models that a gate kept from automatic promotion.
    pub refused_models: IntCounter,
    /// Duration of one run, in seconds, from reading the data to the sealed model.
    pub seconds: Histogram,
}

impl TrainingMetrics {
    pub(super) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        Ok(Self {
            runs: LabelledCounters::new(
                registry,
                "segmentd_training_runs_total",
                "Finished training runs.",
            )?,
            refused_models: super::counter(
                registry,
                "segmentd_training_refused_models_total",
                "Trained models that a gate kept from automatic promotion.",
            )?,
            seconds: super::histogram(
                registry,
                "segmentd_training_run_duration_seconds",
                "Duration of one training run, from reading the data to the sealed model.",
                &TRAINING_SECONDS,
            )?,
        })
    }
}

/// Bulk rescoring of all customers after a change of the deployment or of audiences.
#[derive(Debug)]
pub struct BulkRescoringMetrics {
    pub customers: IntCounter,
    /// Estimated number of customers to be rescored; 0 only once all are.
    pub pending: IntGauge,
}

impl BulkRescoringMetrics {
    pub(super) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        Ok(Self {
            customers: super::counter(
                registry,
                "segmentd_bulk_rescored_customers_total",
                "Customers rescored after changes of the deployment or of audiences.",
            )?,
            pending: super::gauge(
                registry,
                "segmentd_bulk_rescoring_pending_customers",
                "Estimated number of customers to be rescored after a change of the deployment or of \
                 audiences; 0 only once all are rescored.",
            )?,
        })
    }
}

/// Scheduled rescoring of customers whose segment may change with time alone.
#[derive(Debug)]
pub struct ScheduledRescoringMetrics {
    pub customers: IntCounter,
    /// Rescored customers that were in another segment.
    pub moved: IntCounter,
    /// Time since the most overdue customer was due, as of the last search, in seconds; 0 if
    /// none was due.
    pub lag: Gauge,
}

impl ScheduledRescoringMetrics {
    pub(super) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        Ok(Self {
            customers: super::counter(
                registry,
                "segmentd_scheduled_rescored_customers_total",
                "Customers rescored on schedule.",
            )?,
            moved: super::counter(
                registry,
                "segmentd_scheduled_rescoring_moves_total",
                "Customers that time alone moved to another segment.",
            )?,
            lag: super::float_gauge(
                registry,
                "segmentd_scheduled_rescoring_delay_seconds",
                "Time since the most overdue customer was due for rescoring, as of the last search.",
            )?,
        })
    }
}

/// The Postgres connection pool; updated by the caller before a scrape.
#[derive(Debug)]
pub struct ConnectionPoolMetrics {
    pub open: IntGauge,
    pub idle: IntGauge,
}

impl ConnectionPoolMetrics {
    pub(super) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        Ok(Self {
            open: super::gauge(
                registry,
                "segmentd_database_connections_open",
                "Open connections to Postgres.",
            )?,
            idle: super::gauge(
                registry,
                "segmentd_database_connections_idle",
                "Idle connections to Postgres.",
            )?,
        })
    }
}
