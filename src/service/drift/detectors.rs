//! Sequential detectors, replayed over the stored hours at each check. Their state is a
//! function of counts that are stored already, so no replica owns it and a restart loses
//! nothing. The replay starts at a whole week: its first hour changes once a week, not at each
//! check.

use crate::domain::drift::{self, DetectorReport, HourlyPValues, ScoreSource, WindowLayout};
use crate::domain::model::Model;
use crate::domain::time::{HOURS_PER_WEEK, MILLIS_PER_HOUR, Timestamp};
use crate::service::ServiceError;
use crate::service::drift::{DriftService, HistoryInterval, MAX_WINDOW_HOURS};
use crate::store::TimeRange;
use crate::store::drift::{self as windows, DriftWindowQuery};

impl DriftService {
    /// The detectors' state without the rows of one API key ([`crate::domain::drift::NO_KEY`]:
    /// with all rows); `None` if detectors are disabled.
    pub(super) async fn replay_detectors(
        &self,
        model: &Model,
        sources: &[ScoreSource],
        without: &str,
    ) -> Result<Option<DetectorReport>, ServiceError> {
        let Some(least_rows) = self.settings.min_detector_rows else { return Ok(None) };
        // Excludes the hour in progress: its counts are incomplete.
        let until = HistoryInterval::Hour.start_of(self.clock.now());
        let oldest = until.hour() - i64::from(MAX_WINDOW_HOURS);
        let week = oldest.div_euclid(HOURS_PER_WEEK) + 1;
        let since = Timestamp::from_millis(week * HOURS_PER_WEEK * MILLIS_PER_HOUR);
        let layout = WindowLayout::of(model);
        let period = TimeRange { since, until };
        let query = DriftWindowQuery { model: model.id(), sources, width: layout.width(), period };
        let rows =
            windows::list_count_slices(self.db.read(), &query, layout.p_values(), without).await?;
        let stream = tokio::task::spawn_blocking(move || {
            drift::run_detectors(&merge_hours(&rows), least_rows)
        })
        .await;
        Ok(Some(stream.map_err(ServiceError::internal)?))
    }
}

/// Merges the rows of each hour into one entry, over all sources and keys.
fn merge_hours(rows: &[(Timestamp, Vec<u64>)]) -> Vec<HourlyPValues> {
    rows.chunk_by(|(one, _), (next, _)| one.hour() == next.hour()).filter_map(merge_hour).collect()
}

fn merge_hour(rows: &[(Timestamp, Vec<u64>)]) -> Option<HourlyPValues> {
    let mut hour = HourlyPValues {
        at: HistoryInterval::Hour.start_of(rows.first()?.0),
        counts: Default::default(),
    };
    for (_, counts) in rows {
        for (sum, count) in hour.counts.iter_mut().zip(counts) {
            *sum = sum.saturating_add(*count);
        }
    }
    Some(hour)
}
