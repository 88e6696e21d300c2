//! Value of segments over time: daily snapshots of what the customers of each segment are predicted to
//! order and spend, and the change between snapshots by the customers who moved.
//!
//! One replica takes a snapshot for all, under a lease. It reads every customer in pages of one database
//! snapshot, forecasts on the threads for heavy work, and pauses after each page. Figures of a segment
//! and flows between segments are stored, nothing about a customer: the forecast of a customer at an
//! earlier snapshot is computed again, from the orders up to then.

mod gap;
mod series;
mod snapshot;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::SegmentValueSettings;
use crate::domain::feature::DayPeriod;
use crate::domain::time::{MILLIS_PER_DAY, MILLIS_PER_HOUR, Timestamp};
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::error::ErrorChain;
use crate::service::health::clock_check::ClockCheck;
use crate::service::limits::heavy::HeavyWorkPool;
use crate::service::scoring::serving::ServingState;
use crate::store::DatabaseHandle;
use crate::store::customers::{self, past_assignments};
use crate::store::database::lease::{LeaseGuard, LeaseName};
use crate::store::segment_values::{self, SnapshotKey};
use crate::telemetry::repeated_failures::count_failure;
pub use gap::SegmentValueGap;
pub use series::{SegmentValueSeries, SegmentValueSnapshot, SeriesChange};
use snapshot::{EarlierSnapshot, SnapshotPlan, TakenSnapshot};

/// Days back to the earlier snapshot that each is compared with, beside the previous one: four weeks
/// have the same days of the week.
const COMPARED_DAYS: i64 = 28;
/// Time from midnight to a snapshot: customers who are due at midnight are rescored first.
const HOURS_AFTER_MIDNIGHT: i64 = 2;
/// Interval at which a due snapshot is looked for: one cheap query.
const POLL_INTERVAL: Duration = Duration::from_mins(1);
/// Pause after a failure: the next attempt may read every customer again.
const RETRY_INTERVAL: Duration = Duration::from_mins(15);
/// Interval at which expired snapshots are deleted.
const EXPIRY_INTERVAL: Duration = Duration::from_hours(1);

/// Takes snapshots of the value of segments, and reads them.
#[derive(Debug)]
pub struct SegmentValueService {
    db: DatabaseHandle,
    serving: Arc<ServingState>,
    clock: TimeSource,
    heavy: Arc<HeavyWorkPool>,
    settings: SegmentValueSettings,
}

/// What the service depends on.
#[derive(Debug)]
pub struct SegmentValueDependencies {
    pub db: DatabaseHandle,
    pub serving: Arc<ServingState>,
    pub clock: TimeSource,
    pub heavy: Arc<HeavyWorkPool>,
}

impl SegmentValueService {
    pub fn new(dependencies: SegmentValueDependencies, settings: SegmentValueSettings) -> Self {
        let SegmentValueDependencies { db, serving, clock, heavy } = dependencies;
        Self { db, serving, clock, heavy, settings }
    }

    /// Takes snapshots and deletes expired ones for ever.
    pub(crate) async fn run(self: Arc<Self>, check: Arc<ClockCheck>) {
        let mut deleted = None;
        loop {
            check.wait_until_right().await;
            let mut outcome = Ok(());
            if deleted.is_none_or(|at: Instant| at.elapsed() >= EXPIRY_INTERVAL) {
                outcome = self.delete_expired().await;
                deleted = Some(Instant::now());
            }
            let outcome = outcome.and(self.take_if_due().await.map(|_| ()));
            let mut pause = POLL_INTERVAL;
            if let Err(error) = outcome {
                let error = ErrorChain(&error).to_string();
                if let Some(repeated) = count_failure("value of segments", &error) {
                    tracing::warn!(error, "taking a snapshot of segment values failed{repeated}");
                }
                pause = RETRY_INTERVAL;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Deletes the snapshots that are older than `value.retention_days`.
    pub async fn delete_expired(&self) -> Result<(), ServiceError> {
        if self.settings.retention_days == 0 {
            return Ok(());
        }
        let length = MILLIS_PER_DAY * i64::from(self.settings.retention_days);
        // Commits together: the deletion of the figures and of the flows of expired snapshots.
        let mut tx = self.db.begin().await?;
        segment_values::delete_before(&mut tx, self.clock.now().plus_millis(-length)).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Takes a snapshot if it is due, the active model can forecast and has assigned all customers, and no
    /// other replica is taking one. Returns whether it took one.
    pub async fn take_if_due(&self) -> Result<bool, ServiceError> {
        if self.gap().is_some() || !self.is_due().await? {
            return Ok(false);
        }
        let Some(mut lease) = self.db.try_lease(LeaseName::SegmentValue).await? else {
            return Ok(false);
        };
        let outcome = self.take(&mut lease).await;
        lease.release().await;
        outcome
    }

    async fn is_due(&self) -> Result<bool, ServiceError> {
        let now = self.clock.now();
        // A later snapshot was stored by a wrong clock.
        let last = segment_values::newest_snapshot(self.db.read(), now).await?;
        let Some(last) = last else { return Ok(true) };
        let passed = DayPeriod::from_day_of(last, now, &self.serving.snapshot().features);
        let earliest = passed.until.plus_millis(HOURS_AFTER_MIDNIGHT * MILLIS_PER_HOUR);
        Ok(passed.days() >= i64::from(self.settings.snapshot_every_days) && now >= earliest)
    }

    async fn take(&self, lease: &mut LeaseGuard) -> Result<bool, ServiceError> {
        // Read again under the lease: another replica may have taken it meanwhile.
        let deployment = self.serving.snapshot();
        let usable = deployment.active.clone().filter(|model| gap::usable_value(model).is_ok());
        let Some(model) = usable else { return Ok(false) };
        if !self.is_due().await? {
            return Ok(false);
        }
        // After a new model, moves that are still to come would look like those of the next day.
        let oldest = deployment.oldest_generation();
        if customers::count_stale(self.db.read(), oldest).await? > 0 {
            return Ok(false);
        }
        let now = self.clock.now();
        let earlier = self.earlier_snapshots(now).await?;
        let plan = SnapshotPlan::new(deployment, model, earlier, now);
        let taken = snapshot::take_snapshot(self.db.read(), &self.heavy, plan).await?;
        // Checked before the commit, as the lease may have expired meanwhile.
        lease.verify().await?;
        self.store(&taken).await?;
        tracing::info!(segments = taken.segments.len(), "snapshot of segment values taken");
        Ok(true)
    }

    /// The previous snapshot, and the newest that is four weeks old. Only those since when the changes of
    /// assignments are known.
    async fn earlier_snapshots(
        &self,
        now: Timestamp,
    ) -> Result<Vec<EarlierSnapshot>, ServiceError> {
        let db = self.db.read();
        let features = &self.serving.snapshot().features;
        let mut found = Vec::new();
        for until in [now, weeks_before(now)] {
            found.extend(segment_values::newest_snapshot(db, until).await?);
        }
        found.dedup();
        let known = past_assignments::read_past_deployments(db, &[]).await?.changes_deleted_before;
        found.retain(|taken_at| known.is_none_or(|known| *taken_at >= known));
        let earlier = found.into_iter().map(|taken_at| {
            let period = DayPeriod::from_day_of(taken_at, now, features);
            EarlierSnapshot { taken_at, period }
        });
        Ok(earlier.collect())
    }

    async fn store(&self, taken: &TakenSnapshot) -> Result<(), ServiceError> {
        let key = SnapshotKey { taken_at: taken.taken_at, model: &taken.model, unit: &taken.unit };
        // Commits together: the figures of all segments, and the flows between them.
        let mut tx = self.db.begin().await?;
        for (segment, totals) in &taken.segments {
            segment_values::insert_segment(&mut tx, key, segment, totals).await?;
        }
        for (since, flows) in &taken.flows {
            for flow in flows {
                segment_values::insert_flow(&mut tx, taken.taken_at, *since, flow).await?;
            }
        }
        tx.commit().await?;
        Ok(())
    }
}

/// The latest instant of a snapshot that is four weeks old. Half a day of tolerance: snapshots are not
/// taken at exactly the same time of each day.
fn weeks_before(at: Timestamp) -> Timestamp {
    at.plus_millis(MILLIS_PER_DAY / 2 - COMPARED_DAYS * MILLIS_PER_DAY)
}
