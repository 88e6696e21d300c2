//! What goes out: the feed of changes, and exports.

use prometheus::{IntCounter, IntGauge, Registry};

use super::Counters;
use super::labels::TableFormat;

/// Changes read, and tables exported.
#[derive(Debug)]
pub struct Output {
    /// Readers of the feed now, waiting or being sent something.
    readers: IntGauge,
    /// Changes handed to readers; a slow reader is handed them as it reads.
    pub changes: IntCounter,
    /// Rows encoded for exports; a slow reader holds them back.
    pub export_rows: Counters<TableFormat>,
}

impl Output {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            readers: super::gauge(
                registry,
                "segmentd_change_readers",
                "Readers of the feed of changes.",
            )?,
            changes: super::counter(
                registry,
                "segmentd_changes_sent_total",
                "Changes handed to readers of the feed.",
            )?,
            export_rows: Counters::new(
                registry,
                "segmentd_export_rows_total",
                "Rows encoded for exports.",
            )?,
        })
    }

    /// Counts a reader of the feed until the value is dropped.
    pub fn begin_reading(&self) -> Reading {
        self.readers.inc();
        Reading(self.readers.clone())
    }
}

/// A reader of the feed.
#[derive(Debug)]
pub struct Reading(IntGauge);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.dec();
    }
}
