//! Who moves between segments: what the history says of a period and of the one before
//! it, beside how many stand where now.

use std::collections::BTreeMap;

use crate::domain::drift::{self, Churn};
use crate::domain::id::ModelId;
use crate::domain::time::{MILLIS_PER_HOUR, Timestamp};
use crate::service::ServiceError;
use crate::service::drift::{Drift, Step};
use crate::store::TimeRange;
use crate::store::customers::assignments;

/// Moves under the live model.
#[derive(Debug)]
pub struct Flows {
    pub model: ModelId,
    pub since: Timestamp,
    pub until: Timestamp,
    pub churn: Churn,
}

impl Drift {
    /// In the last so many hours; `None`: as many as configured. Who moves while it is
    /// read may be missing in a part of it.
    pub async fn flows(&self, hours: Option<u32>) -> Result<Flows, ServiceError> {
        let model = self.model(None).await?;
        let hours = hours.unwrap_or(self.settings.window_hours).max(1);
        let length = MILLIS_PER_HOUR * i64::from(hours);
        let until = self.clock.now();
        let since = until.plus_millis(-length);
        let db = self.db.read();
        let sizes = assignments::sizes(db, Some(model.id())).await?;
        // This very moment belongs to it too.
        let now =
            assignments::ways(db, model.id(), TimeRange { since, until: until.plus_millis(1) })
                .await?;
        let earlier = TimeRange { since: since.plus_millis(-length), until: since };
        // Without a line from before it, history may begin within it.
        let before = if assignments::has_history_before(db, earlier.since).await? {
            Some(assignments::ways(db, model.id(), earlier).await?)
        } else {
            None
        };
        let sizes: BTreeMap<Box<str>, u64> = sizes
            .into_iter()
            .map(|(segment, customers, _)| (segment.into(), customers.unsigned_abs()))
            .collect();
        let churn = drift::churn(&model, &sizes, &now, before.as_deref());
        Ok(Flows { model: model.id().clone(), since, until, churn })
    }

    /// Shows churn in the metrics, once an hour: it counts every customer.
    pub(super) async fn show_churn(&self) -> Result<(), ServiceError> {
        let hour = Step::Hour.of(self.clock.now());
        let mut shown = self.churn_shown.lock().await;
        if *shown != Some(hour) {
            let churn = self.flows(None).await?.churn;
            self.metrics.drift.show_churn(churn.everybody.churn);
            *shown = Some(hour);
        }
        Ok(())
    }
}
