//! Log settings: level and format.

use tracing_subscriber::filter::Targets;

use crate::config::load::reader::SettingsReader;

/// The log.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// A level or a list of `target=level`, validated.
    pub level: String,
    pub format: LogFormat,
    /// Share of the requests that are logged; server errors always are.
    pub request_share: f64,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Human-readable text.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogSettings {
    pub(super) fn read(reader: &mut SettingsReader) -> Self {
        let path = "log.level";
        let level = reader.text(path);
        // This parser accepts any word as a target, and a target without a level enables all
        // its messages: a misspelt level would enable the most verbose log.
        let is_misspelt = level.split(',').map(str::trim).any(|word| {
            !word.contains('=') && word.parse::<tracing::level_filters::LevelFilter>().is_err()
        });
        if is_misspelt || level.parse::<Targets>().is_err() {
            let problem =
                format!("`{level}` is neither a level (info) nor a list (info,sqlx=warn)");
            reader.refuse(path, &problem);
        }
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        Self {
            level,
            format: reader.choice("log.format", formats),
            request_share: reader.float("log.request_share", 0.0..=1.0),
        }
    }
}
