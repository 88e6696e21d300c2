//! Scores, by whoever asked for them.

pub(crate) mod shadow;

use prometheus::{Histogram, Registry};

use super::Counters;
use super::labels::{Answer, Door};

/// The kernel takes microseconds a row, and a request may bring a thousand
/// rows: five decades.
const SECONDS: [f64; 14] =
    [1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 1e-1];

/// Scores given.
#[derive(Debug)]
pub struct Scoring {
    pub scores: Counters<(Door, Answer)>,
    /// Time to score the rows of one request or batch, in seconds, without
    /// reading it and without the database.
    pub seconds: Histogram,
}

impl Scoring {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            scores: Counters::new(registry, "segmentd_scores_total", "Scores given.")?,
            seconds: super::histogram(
                registry,
                "segmentd_score_seconds",
                "Time to score the rows of one request or batch.",
                &SECONDS,
            )?,
        })
    }
}
