//! Scoring: one request, the live model, and everybody again.

use std::time::Duration;

use crate::config::load::reader::Reader;
use crate::domain::hysteresis::Policy;

/// Scores.
#[derive(Debug, Clone)]
pub struct Scoring {
    /// Share of unchanged customers flagged as outliers, 0 to 0.5 exclusive.
    pub outlier_alpha: f64,
    /// Feature rows per request.
    pub max_rows: usize,
}

impl Scoring {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            outlier_alpha: reader.float("scoring.outlier_alpha", 1e-6..=0.499_999),
            max_rows: reader.integer("scoring.max_rows", 1..=1_000_000),
        }
    }
}

/// When stored customers leave their segment.
pub(super) fn read_policy(reader: &mut Reader) -> Policy {
    let stay_seconds: i64 = reader.integer("assignment.minimum_stay_seconds", 0..=315_360_000);
    Policy {
        hysteresis: reader.float("assignment.hysteresis", 0.0..=0.99),
        minimum_stay_millis: 1000 * stay_seconds,
    }
}

/// Which model is live.
#[derive(Debug, Clone)]
pub struct Lineup {
    /// How often to look for a change whose announcement was lost.
    pub poll: Duration,
}

impl Lineup {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self { poll: reader.seconds("lineup.poll_seconds", 1..=3600) }
    }
}

/// Scoring every customer again.
#[derive(Debug, Clone)]
pub struct Reassign {
    /// Customers per transaction.
    pub batch_customers: usize,
    /// Pause after a batch, as a multiple of the time that it took.
    pub pause_ratio: f64,
}

impl Reassign {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            batch_customers: reader.integer("reassign.batch_customers", 1..=100_000),
            pause_ratio: reader.float("reassign.pause_ratio", 0.0..=100.0),
        }
    }
}

/// Scoring customers again when it is time.
#[derive(Debug, Clone)]
pub struct Recheck {
    /// How often to look for those who are due.
    pub period: Duration,
    /// Customers per transaction.
    pub batch_customers: usize,
    /// Pause after a batch, as a multiple of the time that it took.
    pub pause_ratio: f64,
}

impl Recheck {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            period: reader.seconds("recheck.period_seconds", 1..=86_400),
            batch_customers: reader.integer("recheck.batch_customers", 1..=100_000),
            pause_ratio: reader.float("recheck.pause_ratio", 0.0..=100.0),
        }
    }
}
