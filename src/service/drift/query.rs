//! What a drift report or history is about: a model, sources and a period.

use crate::domain::drift::ScoreSource;
use crate::domain::id::ModelId;
use crate::domain::time::{MILLIS_PER_DAY, MILLIS_PER_HOUR, Timestamp};

/// Selects a model, a source and a window.
#[derive(Debug, Clone)]
pub(crate) struct DriftQuery {
    /// `None`: the active model.
    pub model: Option<ModelId>,
    /// `None`: all answered rows, from requests and events.
    pub source: Option<ScoreSource>,
    pub period: DriftPeriod,
}

/// The period of a comparison, up to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DriftPeriod {
    /// As many hours as configured, including the one in progress.
    ConfiguredHours,
    /// Hours including the one in progress.
    Hours(u32),
    /// Since the start of a deployment.
    Since(Timestamp),
}

/// Aggregation interval of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HistoryInterval {
    Hour,
    Day,
}

impl DriftQuery {
    pub(super) fn sources(&self) -> &[ScoreSource] {
        self.source.as_ref().map_or(&ScoreSource::ANSWERED, std::slice::from_ref)
    }
}

impl HistoryInterval {
    pub(super) const fn hours(self) -> u32 {
        match self {
            Self::Hour => 1,
            Self::Day => 24,
        }
    }

    /// The start of the hour or day, in UTC.
    pub(super) fn start_of(self, at: Timestamp) -> Timestamp {
        let millis = match self {
            Self::Hour => MILLIS_PER_HOUR,
            Self::Day => MILLIS_PER_DAY,
        };
        Timestamp::from_millis(at.millis().div_euclid(millis) * millis)
    }
}
