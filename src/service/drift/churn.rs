//! Churn: customers' moves between segments in a period and in the period before it, from the
//! assignment history, beside the present segment sizes.

use std::collections::BTreeMap;

use crate::domain::drift::{self, ChurnReport};
use crate::domain::id::ModelId;
use crate::domain::time::{MILLIS_PER_HOUR, Timestamp};
use crate::service::ServiceError;
use crate::service::drift::{DriftService, HistoryInterval};
use crate::store::TimeRange;
use crate::store::customers::assignments;

/// Moves between segments under the active model.
#[derive(Debug)]
pub struct SegmentFlows {
    pub model: ModelId,
    pub since: Timestamp,
    pub until: Timestamp,
    pub churn: ChurnReport,
}

impl DriftService {
    /// Counts the moves of the last `hours` hours; `None`: the configured window. Customers
    /// that move during the read may be missing in one of the queries.
    pub(crate) async fn segment_flows(
        &self,
        hours: Option<u32>,
    ) -> Result<SegmentFlows, ServiceError> {
        let model = self.model_or_active(None).await?;
        let hours = hours.unwrap_or(self.settings.window_hours).max(1);
        let length = MILLIS_PER_HOUR * i64::from(hours);
        let until = self.clock.now();
        let since = until.plus_millis(-length);
        let db = self.db.read();
        let sizes = assignments::count_by_segment(db, Some(model.id())).await?;
        // The upper bound is exclusive: one millisecond later includes the present instant.
        let period = TimeRange { since, until: until.plus_millis(1) };
        let now = assignments::count_flows(db, model.id(), period).await?;
        let earlier = TimeRange { since: since.plus_millis(-length), until: since };
        // Without an entry older than the earlier period, the history may begin within it, and
        // the comparison would show a false rise.
        let before = if assignments::has_history_before(db, earlier.since).await? {
            Some(assignments::count_flows(db, model.id(), earlier).await?)
        } else {
            None
        };
        let sizes: BTreeMap<Box<str>, u64> = sizes
            .into_iter()
            .map(|count| (count.segment_id.into(), count.customers.unsigned_abs()))
            .collect();
        let churn = drift::compute_churn(&model, &sizes, &now, before.as_deref());
        Ok(SegmentFlows { model: model.id().clone(), since, until, churn })
    }

    /// Updates the churn gauge at most once an hour: the query counts every customer.
    pub(super) async fn update_churn(&self) -> Result<(), ServiceError> {
        let hour = HistoryInterval::Hour.start_of(self.clock.now());
        let mut shown = self.churn_shown.lock().await;
        if *shown != Some(hour) {
            let churn = self.segment_flows(None).await?.churn;
            self.metrics.drift.set_churn_ratio(churn.total.churn);
            *shown = Some(hour);
        }
        Ok(())
    }
}
