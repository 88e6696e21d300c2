//! Metrics of scoring, by origin of the request.

pub(crate) mod audiences;
pub(crate) mod backtest;
pub(crate) mod segments;
pub(crate) mod shadow;

use prometheus::Histogram;

use super::LabelledCounters;
use super::labels::{AnsweringModel, ScoringEndpoint};
use crate::telemetry::registry::MetricRegistry;

/// Five decades: the scoring kernel takes microseconds per row, and a request may have a
/// thousand rows.
const SECONDS: [f64; 14] =
    [1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 1e-1];

/// Computed scores.
#[derive(Debug)]
pub struct ScoringMetrics {
    pub scores: LabelledCounters<(ScoringEndpoint, AnsweringModel)>,
    /// Time to score the rows of one request or batch, in seconds, without parsing and without
    /// the database.
    pub seconds: Histogram,
}

impl ScoringMetrics {
    pub(crate) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        Ok(Self {
            scores: LabelledCounters::new(registry, "segmentd_scores_total", "Computed scores.")?,
            seconds: super::histogram(
                registry,
                "segmentd_score_duration_seconds",
                "Time to score the rows of one request or batch, without parsing and database.",
                &SECONDS,
            )?,
        })
    }
}
