//! What is logged, and how it is written.

use tracing_subscriber::filter::Targets;

use crate::config::load::reader::Reader;

/// The log.
#[derive(Debug, Clone)]
pub struct Log {
    /// A level or a list of `target=level`; known to be one.
    pub level: String,
    pub format: LogFormat,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Log {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let path = "log.level";
        let level = reader.text(path);
        // Any word is a target to this parser, and a target alone means
        // everything: a misspelt level would log all there is.
        let words = level.split(',').map(str::trim);
        let is_level = |word: &str| word.parse::<tracing::level_filters::LevelFilter>().is_ok();
        let unknown = words.clone().find(|word| !word.contains('=') && !is_level(word));
        if unknown.is_some() || level.parse::<Targets>().is_err() {
            let problem = format!("`{level}` is no level (info) nor a list (info,sqlx=warn)");
            reader.refuse(path, &problem);
        }
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        Self { level, format: reader.choice("log.format", formats) }
    }
}
