//! Metrics of the consistency check: stored states against a replay of their events.

use prometheus::IntCounter;

use crate::telemetry::LabelledCounters;
use crate::telemetry::labels::{StateMismatch, UncomparedReason};
use crate::telemetry::registry::MetricRegistry;

/// Results of the consistency check. Any mismatch is a fault.
#[derive(Debug)]
pub struct ConsistencyCheckMetrics {
    pub compared: IntCounter,
    pub mismatched: LabelledCounters<StateMismatch>,
    pub uncompared: LabelledCounters<UncomparedReason>,
}

impl ConsistencyCheckMetrics {
    pub(super) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        Ok(Self {
            compared: super::counter(
                registry,
                "segmentd_consistency_check_compared_total",
                "Sampled customers whose stored state was compared with a replay of their events.",
            )?,
            mismatched: LabelledCounters::new(
                registry,
                "segmentd_consistency_check_mismatches_total",
                "Sampled customers whose stored state differs from a replay of their events. Any \
                 value above 0 is a fault; `segmentd backfill --all` repairs it.",
            )?,
            uncompared: LabelledCounters::new(
                registry,
                "segmentd_consistency_check_skipped_total",
                "Sampled customers that could not be compared. While `other_features` increases, \
                 `segmentd backfill` is needed.",
            )?,
        })
    }
}
