//! Settings of outputs: the change feed and exports.

use std::time::Duration;

use crate::config::load::reader::SettingsReader;

/// The change feed.
#[derive(Debug, Clone)]
pub struct ChangeFeedSettings {
    /// Maximum concurrent readers.
    pub max_readers: usize,
}

impl ChangeFeedSettings {
    pub(super) fn read(reader: &mut SettingsReader) -> Self {
        Self { max_readers: reader.integer("change_feed.max_readers", 1..=100_000) }
    }
}

/// Exports of all assignments as a table.
#[derive(Debug, Clone)]
pub struct ExportLimitSettings {
    /// Maximum concurrent exports.
    pub max_concurrent: usize,
    /// Time without progress after which a slow reader is disconnected.
    pub stall_timeout: Duration,
}

impl ExportLimitSettings {
    pub(super) fn read(reader: &mut SettingsReader) -> Self {
        Self {
            max_concurrent: reader.integer("export.max_concurrent", 1..=1000),
            stall_timeout: reader.seconds("export.stall_seconds", 1..=3600),
        }
    }
}
