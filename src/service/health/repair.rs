//! Repair of data that a process wrote while its clock was ahead.

use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::backfill::{Backfill, BackfillSummary, ProgressCallback};
use crate::store::Db;
use crate::store::database::repair;
use crate::store::database::repair::{Late, LatenessLimits};

#[derive(Debug)]
pub struct ClockRepair<'w> {
    pub db: &'w Db,
    pub backfill: &'w Backfill,
    /// Tolerated difference between clocks.
    pub tolerance_seconds: f64,
    /// Maximum time by which an event's timestamp may exceed its arrival.
    pub max_future_seconds: f64,
}

/// Data with instants later than the database's clock.
#[derive(Debug)]
pub struct ClockDamage {
    /// The database's clock.
    pub now: Timestamp,
    pub instants: Vec<Late>,
    pub events: i64,
    /// Customers with such an instant in their state.
    pub customers: Vec<CustomerKey>,
}

impl ClockDamage {
    pub fn is_empty(&self) -> bool {
        self.instants.is_empty() && self.events == 0 && self.customers.is_empty()
    }
}

impl ClockRepair<'_> {
    /// Counts the data to repair, and changes nothing.
    pub async fn look(&self) -> Result<ClockDamage, ServiceError> {
        // Commits nothing: it is rolled back.
        let mut tx = self.db.begin().await?;
        let limits = self.limits(repair::now(&mut tx).await?);
        let instants = repair::instants(&mut tx, limits, false).await?;
        let events = repair::events(&mut tx, limits).await?;
        drop(tx);
        let customers = repair::customers(self.db.read(), limits).await?;
        Ok(ClockDamage { now: limits.now, instants, events, customers })
    }

    /// Repairs what [`Self::look`] found. Instants are set to now. Events are moved back
    /// by `ahead_seconds`, at the latest to now, and their customers are rebuilt from
    /// events. An interrupted repair can be repeated: the customers are still found by
    /// their states.
    pub async fn apply(
        &self,
        found: &ClockDamage,
        ahead_seconds: f64,
        progress: ProgressCallback<'_>,
    ) -> Result<BackfillSummary, ServiceError> {
        let limits = self.limits(found.now);
        // Commits together: all instants, and the events that states are made of.
        let mut tx = self.db.begin().await?;
        repair::set_events_back(&mut tx, limits, ahead_seconds).await?;
        repair::instants(&mut tx, limits, true).await?;
        tx.commit().await?;
        self.backfill.these(&found.customers, progress).await
    }

    fn limits(&self, now: Timestamp) -> LatenessLimits {
        let Self { tolerance_seconds, max_future_seconds, .. } = *self;
        LatenessLimits { now, tolerance_seconds, max_future_seconds }
    }
}
