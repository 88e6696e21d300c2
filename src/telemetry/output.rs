//! Metrics of outputs: the change feed and exports.

use prometheus::{IntCounter, IntGauge};

use super::LabelledCounters;
use super::labels::TableFormat;
use crate::telemetry::registry::MetricRegistry;

/// Changes sent, and rows exported.
#[derive(Debug)]
pub struct OutputMetrics {
    /// Connected readers of the change feed.
    readers: IntGauge,
    /// Changes handed to readers; the reader's speed limits the rate.
    pub changes: IntCounter,
    /// Rows encoded for exports; the reader's speed limits the rate.
    pub export_rows: LabelledCounters<TableFormat>,
}

impl OutputMetrics {
    pub(super) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        Ok(Self {
            readers: super::gauge(
                registry,
                "segmentd_change_feed_readers",
                "Connected readers of the change feed.",
            )?,
            changes: super::counter(
                registry,
                "segmentd_change_feed_changes_total",
                "Changes sent to readers of the change feed.",
            )?,
            export_rows: LabelledCounters::new(
                registry,
                "segmentd_export_rows_total",
                "Rows encoded for exports.",
            )?,
        })
    }

    /// Counts a reader of the change feed until the value is dropped.
    pub(crate) fn begin_reading(&self) -> FeedReaderGuard {
        self.readers.inc();
        FeedReaderGuard(self.readers.clone())
    }
}

/// A connected reader of the change feed.
#[derive(Debug)]
pub struct FeedReaderGuard(IntGauge);

impl Drop for FeedReaderGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
