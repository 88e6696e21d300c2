//! Repair of what a process wrote while its clock was ahead.

use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::backfill::{Backfill, Progress, Tally};
use crate::store::database::repair;
use crate::store::database::repair::{Late, Limits};

#[derive(Debug)]
pub struct ClockRepair<'w> {
    pub backfill: &'w Backfill,
    /// How far clocks may be apart.
    pub tolerance_seconds: f64,
    /// No event is dated later than so long after its arrival.
    pub max_future_seconds: f64,
}

/// Instants later than the database's clock.
#[derive(Debug)]
pub struct Found {
    /// The database's clock.
    pub now: Timestamp,
    pub instants: Vec<Late>,
    pub events: i64,
    /// Their states hold such an instant.
    pub customers: Vec<CustomerKey>,
}

impl Found {
    pub fn is_empty(&self) -> bool {
        self.instants.is_empty() && self.events == 0 && self.customers.is_empty()
    }
}

impl ClockRepair<'_> {
    /// Counts what is to be repaired, and changes nothing.
    pub async fn look(&self) -> Result<Found, ServiceError> {
        // Commits alone: nothing; it is rolled back.
        let mut tx = self.backfill.db.begin().await?;
        let limits = self.limits(repair::now(&mut tx).await?);
        let instants = repair::instants(&mut tx, limits, false).await?;
        let events = repair::events(&mut tx, limits).await?;
        drop(tx);
        let customers = repair::customers(self.backfill.db.read(), limits).await?;
        Ok(Found { now: limits.now, instants, events, customers })
    }

    /// Repairs what [`Self::look`] found: instants are set to now, events back by
    /// `ahead_seconds` and to now at the latest, and their customers are rebuilt from
    /// their events. Killed in between, it is begun again: the customers are still found
    /// by their states.
    pub async fn apply(
        &self,
        found: &Found,
        ahead_seconds: f64,
        progress: Progress<'_>,
    ) -> Result<Tally, ServiceError> {
        let limits = self.limits(found.now);
        // Commits together: all instants, and the events that states are made of.
        let mut tx = self.backfill.db.begin().await?;
        repair::set_events_back(&mut tx, limits, ahead_seconds).await?;
        repair::instants(&mut tx, limits, true).await?;
        tx.commit().await?;
        self.backfill.these(&found.customers, progress).await
    }

    fn limits(&self, now: Timestamp) -> Limits {
        let Self { tolerance_seconds, max_future_seconds, .. } = *self;
        Limits { now, tolerance_seconds, max_future_seconds }
    }
}
