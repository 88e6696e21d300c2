//! Settings of the monitoring of event sources.

use std::time::Duration;

use crate::config::load::reader::SettingsReader;
use crate::domain::event::source_volume::SourceVolumeRules;

/// Check interval and alert thresholds.
#[derive(Debug, Clone)]
pub struct SourceMonitoringSettings {
    /// Interval at which counts are written to the database and every source is assessed.
    pub check_interval: Duration,
    pub rules: SourceVolumeRules,
}

impl SourceMonitoringSettings {
    pub(crate) fn read(reader: &mut SettingsReader) -> Self {
        let least_quiet = reader.seconds("sources.min_silence_seconds", 1..=604_800);
        Self {
            check_interval: reader.seconds("sources.check_seconds", 1..=86_400),
            rules: SourceVolumeRules {
                min_history_hours: reader.integer("sources.min_history_hours", 1..=840),
                ratio: reader.float("sources.ratio", 1.1..=1000.0),
                max_p_value: reader.float("sources.max_p_value", 1e-12..=0.1),
                min_usual_events: reader.integer("sources.min_usual_events", 1..=1_000_000_000),
                silence_gap_factor: reader.float("sources.silence_gap_factor", 1.0..=1000.0),
                min_silence_millis: i64::try_from(least_quiet.as_millis()).unwrap_or(i64::MAX),
            },
        }
    }
}
