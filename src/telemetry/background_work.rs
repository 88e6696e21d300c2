//! Work in the background, and the connections it shares with requests.

use prometheus::{Gauge, Histogram, IntCounter, IntGauge, Registry};

use crate::telemetry::Counters;
use crate::telemetry::labels::RunOutcome;

/// From a test's data to an hour: training time grows with customers.
const TRAINING_SECONDS: [f64; 12] =
    [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];

/// Which model is live.
#[derive(Debug)]
pub struct Lineup {
    /// Number of the lineup in use. Replicas that differ for long are apart.
    pub generation: IntGauge,
    pub swaps: IntCounter,
    /// Lineups that failed their self-test; the old one stayed.
    pub refused: IntCounter,
}

impl Lineup {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            generation: super::gauge(
                registry,
                "segmentd_lineup_generation",
                "Generation of the lineup in use.",
            )?,
            swaps: super::counter(
                registry,
                "segmentd_lineup_swaps_total",
                "Times that a new lineup went into use.",
            )?,
            refused: super::counter(
                registry,
                "segmentd_lineup_refused_total",
                "Times that a new lineup failed its checks and the old one stayed.",
            )?,
        })
    }
}

/// Training runs.
#[derive(Debug)]
pub struct Training {
    pub runs: Counters<RunOutcome>,
    /// Time of one run, in seconds, from reading the data to the sealed model.
    pub seconds: Histogram,
}

impl Training {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            runs: Counters::new(registry, "segmentd_training_runs_total", "Training runs ended.")?,
            seconds: super::histogram(
                registry,
                "segmentd_training_seconds",
                "Time of one training run.",
                &TRAINING_SECONDS,
            )?,
        })
    }
}

/// Scoring every customer again.
#[derive(Debug)]
pub struct Reassign {
    pub customers: IntCounter,
    /// Customers whose assignment is due to be made again.
    pub pending: IntGauge,
}

impl Reassign {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            customers: super::counter(
                registry,
                "segmentd_reassigned_customers_total",
                "Customers scored again in the background.",
            )?,
            pending: super::gauge(
                registry,
                "segmentd_reassign_pending",
                "Customers waiting to be scored again.",
            )?,
        })
    }
}

/// Customers whom time alone may have moved.
#[derive(Debug)]
pub struct Recheck {
    pub customers: IntCounter,
    /// Those of them who were in another segment by then.
    pub moved: IntCounter,
    /// How long the longest overdue had been due when last looked for, in
    /// seconds; 0 when nobody was.
    pub lag: Gauge,
}

impl Recheck {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            customers: super::counter(
                registry,
                "segmentd_rechecked_customers_total",
                "Customers scored again because it was time.",
            )?,
            moved: super::counter(
                registry,
                "segmentd_recheck_moved_total",
                "Customers whom time alone moved to another segment.",
            )?,
            lag: super::float_gauge(
                registry,
                "segmentd_recheck_lag_seconds",
                "How long the longest overdue customer had been due when last looked for.",
            )?,
        })
    }
}

/// Connections to Postgres; set by the caller before a scrape.
#[derive(Debug)]
pub struct Pool {
    pub open: IntGauge,
    pub idle: IntGauge,
}

impl Pool {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            open: super::gauge(
                registry,
                "segmentd_database_connections_open",
                "Connections to Postgres.",
            )?,
            idle: super::gauge(
                registry,
                "segmentd_database_connections_idle",
                "Connections to Postgres that nobody uses.",
            )?,
        })
    }
}
