//! Retention settings of rejected events.

use crate::config::load::reader::SettingsReader;

/// Limits on stored rejected events.
#[derive(Debug, Clone, Copy)]
pub struct FailedEventSettings {
    /// Retention in days; 0 retains them up to `max_rows`.
    pub retention_days: u32,
    /// Maximum number of stored events; beyond it, the oldest are deleted.
    pub max_rows: u32,
    /// Maximum stored per API key and minute; further ones are only counted.
    pub max_per_minute: u32,
}

impl FailedEventSettings {
    pub(crate) fn read(reader: &mut SettingsReader) -> Self {
        Self {
            retention_days: reader.integer("failed_events.retention_days", 0..=36_500),
            max_rows: reader.integer("failed_events.max_rows", 0..=100_000_000),
            max_per_minute: reader.integer("failed_events.max_per_minute", 0..=1_000_000),
        }
    }
}
