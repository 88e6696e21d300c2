//! How many rejected events are kept, and how long.

use crate::config::load::reader::Reader;

/// Rejected events, kept as they came.
#[derive(Debug, Clone, Copy)]
pub struct FailedEvents {
    /// Older ones are dropped; 0 keeps them until there are too many.
    pub keep_days: u32,
    /// Beyond as many the oldest are dropped.
    pub max_rows: u32,
    /// Of one key; further ones are counted only.
    pub max_per_minute: u32,
}

impl FailedEvents {
    pub(crate) fn read(reader: &mut Reader) -> Self {
        Self {
            keep_days: reader.integer("failed_events.keep_days", 0..=36_500),
            max_rows: reader.integer("failed_events.max_rows", 0..=100_000_000),
            max_per_minute: reader.integer("failed_events.max_per_minute", 0..=1_000_000),
        }
    }
}
