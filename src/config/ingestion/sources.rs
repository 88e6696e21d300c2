//! Settings of the monitoring of event sources.

use std::time::Duration;

use crate::config::load::reader::SettingsReader;
use crate::domain::event::source_volume::SourceVolumeRules;

/// Check interval and alert thresholds.
#[derive(Debug, Clone)]
pub struct SourceMonitoringSettings {
    /// Interval at which counts are written to the database and every source is assessed.
    pub check: Duration,
    pub rules: SourceVolumeRules,
}

impl SourceMonitoringSettings {
    pub(crate) fn read(reader: &mut SettingsReader) -> Self {
        let least_quiet = reader.seconds("sources.least_quiet_seconds", 1..=604_800);
        Self {
            check: reader.seconds("sources.check_seconds", 1..=86_400),
            rules: SourceVolumeRules {
                learn_hours: reader.integer("sources.learn_hours", 1..=840),
                ratio: reader.float("sources.ratio", 1.1..=1000.0),
                level: reader.float("sources.level", 1e-12..=0.1),
                least_events: reader.integer("sources.least_events", 1..=1_000_000_000),
                quiet_factor: reader.float("sources.quiet_factor", 1.0..=1000.0),
                least_quiet_millis: i64::try_from(least_quiet.as_millis()).unwrap_or(i64::MAX),
            },
        }
    }
}
