//! Metrics of outputs: the change feed, moves for webhooks, and exports.

use prometheus::{Gauge, IntCounter, IntGauge};

use super::LabelledCounters;
use super::labels::{MoveDeliveryOutcome, MoveEventType, TableFormat};
use super::process::seconds_since_1970;
use crate::domain::time::Timestamp;
use crate::telemetry::registry::MetricRegistry;

/// Changes sent, and rows exported.
#[derive(Debug)]
pub struct OutputMetrics {
    /// Connected readers of the change feed.
    readers: IntGauge,
    /// Changes handed to readers; the reader's speed limits the rate.
    pub changes: IntCounter,
    /// Attempts to deliver a message with moves to a webhook.
    pub move_messages: LabelledCounters<MoveDeliveryOutcome>,
    /// Events in accepted messages.
    pub move_events: LabelledCounters<MoveEventType>,
    oldest_undelivered_move: Gauge,
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
            move_messages: LabelledCounters::new(
                registry,
                "segmentd_move_messages_total",
                "Attempts to deliver a message with moves of customers to a webhook. A failed \
                 attempt is repeated.",
            )?,
            move_events: LabelledCounters::new(
                registry,
                "segmentd_move_events_total",
                "Events about moves of customers between segments, and into and out of audiences, in messages that webhooks accepted.",
            )?,
            oldest_undelivered_move: super::float_gauge(
                registry,
                "segmentd_move_oldest_undelivered_seconds",
                "Age of the oldest assignment change that an enabled webhook with the topic moves \
                 has not received; 0 if all are delivered.",
            )?,
            export_rows: LabelledCounters::new(
                registry,
                "segmentd_export_rows_total",
                "Rows encoded for exports.",
            )?,
        })
    }

    pub(crate) fn set_oldest_undelivered_move(&self, at: Option<Timestamp>, now: Timestamp) {
        let age = at.map_or(0.0, |at| seconds_since_1970(now) - seconds_since_1970(at));
        self.oldest_undelivered_move.set(age.max(0.0));
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
