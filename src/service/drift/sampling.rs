//! Sampling of stored customers. Answered rows over-represent active customers, while training
//! weights each customer once. So each hour of the day scores its own hash class of customers
//! in their present state. No customer counts twice in a day, an assumption of the p-values.
//!
//! The stored window of an hour is also the mark that the hour is done. Whichever replica is
//! first counts it, and a restart repeats nothing.

use crate::domain::drift::{
    CountedRow, CustomerBucket, DeviationUnits, DriftWindow, ScoreSource, SegmentSums, WindowLayout,
};
use crate::domain::feature::CustomerState;
use crate::domain::model::{Model, ScoringScratch};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::drift::{DriftService, HistoryInterval};
use crate::service::scoring::deployment::Deployment;
use crate::store::customers::{StoredState, sampling};
use crate::store::drift as windows;

const HOURS_PER_DAY: u32 = 24;

/// The counts of one hour's customers.
pub(super) struct SampleCounts {
    pub(super) window: DriftWindow,
    /// `None` if the model has no baseline within segments.
    inside: Option<(usize, SegmentSums)>,
    customers: u64,
}

impl DriftService {
    /// Counts the customers of this hour unless that is done; returns how many.
    pub async fn count_hourly_sample(&self) -> Result<u64, ServiceError> {
        let deployment = self.serving.snapshot();
        let Some(model) = deployment.active.clone() else { return Ok(0) };
        if self.settings.customers_per_hour == 0 {
            return Ok(0);
        }
        let now = self.clock.now();
        let hour = HistoryInterval::Hour.start_of(now);
        let (source, layout) = (ScoreSource::Customers, WindowLayout::of(&model));
        if windows::has_counts(self.db.read(), model.id(), source, layout.width(), hour).await? {
            return Ok(0);
        }
        let class = hour_class(hour);
        let limit = i64::from(self.settings.customers_per_hour);
        let states = sampling::sample_class(self.db.read(), class, HOURS_PER_DAY, limit).await?;
        let counted = tokio::task::spawn_blocking({
            let model = model.clone();
            move || count_states(&deployment, &model, &states, now)
        });
        let SampleCounts { window, inside, customers } =
            counted.await.map_err(ServiceError::internal)?;
        // Commits together: the window, which also marks the hour as done, and the sums within
        // segments.
        let mut tx = self.db.begin().await?;
        if !windows::insert_counts(&mut tx, model.id(), source, hour, &window).await? {
            return Ok(0);
        }
        if let Some((width, inside)) = &inside {
            windows::insert_segment_sums(&mut tx, model.id(), hour, *width, inside).await?;
        }
        tx.commit().await?;
        self.metrics.drift.customers.inc_by(customers);
        Ok(customers)
    }
}

/// Hash class of the hour of the day.
fn hour_class(hour: Timestamp) -> u32 {
    u32::try_from(hour.hour().rem_euclid(i64::from(HOURS_PER_DAY))).unwrap_or_default()
}

/// Counts customers; skips states of another feature set, which are being rebuilt.
pub(super) fn count_states(
    deployment: &Deployment,
    model: &Model,
    states: &[StoredState],
    now: Timestamp,
) -> SampleCounts {
    let layout = WindowLayout::of(model);
    let (mut window, mut scratch, mut customers) = (layout.empty(), ScoringScratch::default(), 0);
    let yardstick = DeviationUnits::of(model);
    let mut inside = yardstick.as_ref().map(|by| (by, by.empty()));
    for stored in states {
        let Ok(state) = CustomerState::from_bytes(&deployment.features, &stored.state) else {
            continue;
        };
        let row = state.feature_row(&deployment.features, now);
        let score = model.score(&row, &mut scratch);
        let is_outlier = score.is_outlier(deployment.rules.outlier_alpha);
        let customer = Some(CustomerBucket::of(&stored.customer));
        let counted = CountedRow { row: &row, score: &score, is_outlier, customer };
        layout.count_row(&mut window, &counted);
        if let Some((by, inside)) = &mut inside {
            by.count_row(inside, model, &score, &scratch);
        }
        customers += 1;
    }
    let inside = inside.map(|(by, inside)| (by.width(), inside));
    SampleCounts { window, inside, customers }
}
