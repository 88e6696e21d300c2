//! The detectors, shown the last whole hours again at each look: what they would
//! remember is written down already, and so is nobody's to lose. They begin with a whole
//! week, so that what they have seen changes its beginning once a week and not at each
//! look.

use crate::domain::drift::{self, Hour, Layout, Source, Stream};
use crate::domain::model::Model;
use crate::domain::time::{HOURS_PER_WEEK, MILLIS_PER_HOUR, Timestamp};
use crate::service::ServiceError;
use crate::service::drift::{Drift, MOST_HOURS, Step};
use crate::store::TimeRange;
use crate::store::drift::{self as windows, WindowQuery};

impl Drift {
    /// How the detectors stand without the rows of one key ([`crate::domain::drift::NO_KEY`]:
    /// with all of them); `None` where there are to be none.
    pub(super) async fn stream(
        &self,
        model: &Model,
        sources: &[Source],
        without: &str,
    ) -> Result<Option<Stream>, ServiceError> {
        let Some(least_rows) = self.settings.detector_rows else { return Ok(None) };
        // The hour in progress is not whole.
        let until = Step::Hour.of(self.clock.now());
        let oldest = until.hour() - i64::from(MOST_HOURS);
        let week = oldest.div_euclid(HOURS_PER_WEEK) + 1;
        let since = Timestamp::from_millis(week * HOURS_PER_WEEK * MILLIS_PER_HOUR);
        let layout = Layout::of(model);
        let period = TimeRange { since, until };
        let query = WindowQuery { model: model.id(), sources, width: layout.width(), period };
        let rows = windows::places(self.db.read(), &query, layout.p_values(), without).await?;
        let stream =
            tokio::task::spawn_blocking(move || drift::stream(&hours(&rows), least_rows)).await;
        Ok(Some(stream.map_err(ServiceError::internal)?))
    }
}

/// Each hour once, whatever its rows came from.
fn hours(rows: &[(Timestamp, Vec<u64>)]) -> Vec<Hour> {
    let same = rows.chunk_by(|(one, _), (next, _)| one == next);
    let hour = |rows: &[(Timestamp, Vec<u64>)]| {
        let mut hour = Hour { at: rows.first()?.0, counts: Default::default() };
        for (_, counts) in rows {
            for (sum, count) in hour.counts.iter_mut().zip(counts) {
                *sum = sum.saturating_add(*count);
            }
        }
        Some(hour)
    };
    same.filter_map(hour).collect()
}
