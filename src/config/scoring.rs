//! Scoring settings: requests, hysteresis, deployment changes and rescoring.

use std::time::Duration;

use crate::config::load::reader::SettingsReader;
use crate::domain::hysteresis::HysteresisPolicy;

/// Scoring requests.
#[derive(Debug, Clone)]
pub struct ScoringSettings {
    /// Calibrated share of unchanged customers flagged as outliers, 0 to 0.5 exclusive.
    pub outlier_alpha: f64,
    /// Maximum feature rows per request.
    pub max_rows: usize,
}

impl ScoringSettings {
    pub(super) fn read(reader: &mut SettingsReader) -> Self {
        Self {
            outlier_alpha: reader.float("scoring.outlier_alpha", 1e-6..=0.499_999),
            max_rows: reader.integer("scoring.max_rows", 1..=1_000_000),
        }
    }
}

/// Reads the hysteresis settings.
pub(super) fn read_policy(reader: &mut SettingsReader) -> HysteresisPolicy {
    let stay_seconds: i64 = reader.integer("hysteresis.minimum_stay_seconds", 0..=315_360_000);
    HysteresisPolicy {
        hysteresis: reader.float("hysteresis.min_relative_advantage", 0.0..=0.99),
        minimum_stay_millis: 1000 * stay_seconds,
    }
}

/// Detection of deployment changes.
#[derive(Debug, Clone)]
pub struct DeploymentSettings {
    /// Interval at which a change with a lost notification is detected.
    pub poll_interval: Duration,
}

impl DeploymentSettings {
    pub(super) fn read(reader: &mut SettingsReader) -> Self {
        Self { poll_interval: reader.seconds("deployment.poll_seconds", 1..=3600) }
    }
}

/// Bulk rescoring of all customers after a deployment change.
#[derive(Debug, Clone)]
pub struct BulkRescoringSettings {
    /// Customers per transaction.
    pub batch_customers: usize,
    /// Pause after a batch, as a multiple of the batch's duration.
    pub pause_ratio: f64,
}

impl BulkRescoringSettings {
    pub(super) fn read(reader: &mut SettingsReader) -> Self {
        Self {
            batch_customers: reader.integer("bulk_rescoring.batch_customers", 1..=100_000),
            pause_ratio: reader.float("bulk_rescoring.pause_ratio", 0.0..=100.0),
        }
    }
}

/// Scheduled rescoring of customers.
#[derive(Debug, Clone)]
pub struct ScheduledRescoringSettings {
    /// Interval of the search for due customers.
    pub poll_interval: Duration,
    /// Customers per transaction.
    pub batch_customers: usize,
    /// Pause after a batch, as a multiple of the batch's duration.
    pub pause_ratio: f64,
}

impl ScheduledRescoringSettings {
    pub(super) fn read(reader: &mut SettingsReader) -> Self {
        Self {
            poll_interval: reader.seconds("scheduled_rescoring.poll_seconds", 1..=86_400),
            batch_customers: reader.integer("scheduled_rescoring.batch_customers", 1..=100_000),
            pause_ratio: reader.float("scheduled_rescoring.pause_ratio", 0.0..=100.0),
        }
    }
}
