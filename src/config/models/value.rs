//! Settings of the value of segments over time.

use crate::config::load::reader::SettingsReader;

/// Snapshots of the value of segments.
#[derive(Debug, Clone, Copy)]
pub struct SegmentValueSettings {
    /// Days from one snapshot to the next; 0 takes none.
    pub snapshot_every_days: u32,
    /// Retention of snapshots in days; 0 retains all.
    pub retention_days: u32,
}

impl SegmentValueSettings {
    pub(in crate::config) fn read(reader: &mut SettingsReader) -> Self {
        Self {
            snapshot_every_days: reader.integer("value.snapshot_every_days", 0..=366),
            retention_days: reader.integer("value.retention_days", 0..=36_500),
        }
    }
}
