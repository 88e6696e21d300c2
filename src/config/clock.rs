//! Settings of the comparison of this process's clock with the database's.

use std::time::Duration;

use crate::config::load::reader::SettingsReader;

/// Tolerated clock difference, and the interval of comparison.
#[derive(Debug, Clone, Copy)]
pub struct ClockSettings {
    /// `None` disables the comparison.
    pub tolerance: Option<Duration>,
    pub check_interval: Duration,
}

impl ClockSettings {
    pub(super) fn read(reader: &mut SettingsReader) -> Self {
        let tolerance = reader.seconds("clock.tolerance_seconds", 0..=86_400);
        Self {
            tolerance: (!tolerance.is_zero()).then_some(tolerance),
            check_interval: reader.seconds("clock.check_seconds", 1..=3600),
        }
    }
}
