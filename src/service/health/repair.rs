//! Repair of data that a process wrote while its clock was ahead.

use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::backfill::{BackfillService, BackfillSummary, ProgressCallback};
use crate::store::DatabaseHandle;
use crate::store::database::repair;
use crate::store::database::repair::{LateColumn, LatenessLimits};

#[derive(Debug)]
pub(crate) struct ClockRepair<'w> {
    pub db: &'w DatabaseHandle,
    pub backfill: &'w BackfillService,
    /// Tolerated difference between clocks.
    pub tolerance_seconds: f64,
    /// Maximum time by which an event's timestamp may exceed its arrival.
    pub max_future_seconds: f64,
}

/// Data with instants later than the database's clock.
#[derive(Debug)]
pub(crate) struct ClockDamage {
    /// The database's clock.
    pub now: Timestamp,
    pub late_instants: Vec<LateColumn>,
    pub late_events: i64,
    /// Customers with such an instant in their state.
    pub customers: Vec<CustomerKey>,
}

impl ClockDamage {
    pub(crate) fn is_empty(&self) -> bool {
        self.late_instants.is_empty() && self.late_events == 0 && self.customers.is_empty()
    }
}

impl ClockRepair<'_> {
    /// Counts the data to repair, and changes nothing.
    pub(crate) async fn find_damage(&self) -> Result<ClockDamage, ServiceError> {
        // Commits nothing: it is rolled back.
        let mut tx = self.db.begin().await?;
        let limits = self.limits(repair::now(&mut tx).await?);
        let instants = repair::find_or_mend_timestamps(&mut tx, limits, false).await?;
        let events = repair::count_late_events(&mut tx, limits).await?;
        drop(tx);
        let customers = repair::list_late_customers(self.db.read(), limits).await?;
        Ok(ClockDamage { now: limits.now, late_instants: instants, late_events: events, customers })
    }

    /// Repairs what [`Self::find_damage`] found. Instants are set to now. Events are moved back
    /// by `ahead_seconds`, at the latest to now, and their customers are rebuilt from
    /// events. An interrupted repair can be repeated: the customers are still found by
    /// their states.
    pub(crate) async fn repair_damage(
        &self,
        found: &ClockDamage,
        ahead_seconds: f64,
        progress: ProgressCallback<'_>,
    ) -> Result<BackfillSummary, ServiceError> {
        let limits = self.limits(found.now);
        // Commits together: all instants, and the events that states are made of.
        let mut tx = self.db.begin().await?;
        repair::move_events_back(&mut tx, limits, ahead_seconds).await?;
        repair::find_or_mend_timestamps(&mut tx, limits, true).await?;
        tx.commit().await?;
        self.backfill.rebuild_customers(&found.customers, progress).await
    }

    fn limits(&self, now: Timestamp) -> LatenessLimits {
        let Self { tolerance_seconds, max_future_seconds, .. } = *self;
        LatenessLimits { now, tolerance_seconds, max_future_seconds }
    }
}
