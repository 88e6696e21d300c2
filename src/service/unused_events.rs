//! Accepted events that no feature uses, counted by type and name.
//!
//! Ingestion adds each such event to counts in memory; other events cost nothing. The counts are
//! stored once a minute, where replicas sum up, and are deleted after 35 days without
//! another such event. The number of names is bounded in memory and in the database, because
//! senders choose them.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::event::unused::{UnusedEvent, UnusedEventCounts, UnusedReason};
use crate::domain::time::{MILLIS_PER_DAY, Timestamp};
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::error::ErrorChain;
use crate::service::health::clock_check::ClockCheck;
use crate::store::DatabaseHandle;
use crate::store::unused_events as stored;
use crate::store::unused_events::{UnusedEventPosition, UnusedEventRow};
use crate::telemetry::repeated_failures::count_failure;

/// Days after its last event at which a name is deleted.
const RETENTION_DAYS: i64 = 35;
/// Interval at which counts are stored.
const FLUSH_INTERVAL: Duration = Duration::from_mins(1);

/// Counter of unused events.
#[derive(Debug)]
pub struct UnusedEventCounter {
    db: DatabaseHandle,
    clock: TimeSource,
    /// Counts since the last flush.
    seen: Mutex<CountsByReason>,
}

/// In the order of [`UnusedReason::ALL`].
type CountsByReason = [UnusedEventCounts; UnusedReason::ALL.len()];

/// A page of unused events.
#[derive(Debug)]
pub struct UnusedEventPage {
    pub rows: Vec<UnusedEventRow>,
    /// Events of names beyond the maximum, which are counted together.
    pub further_events: u64,
}

impl UnusedEventCounter {
    pub fn new(db: DatabaseHandle, clock: TimeSource) -> Self {
        Self { db, clock, seen: Mutex::default() }
    }

    /// Counts an accepted event in memory.
    pub(crate) fn count_event(&self, event: UnusedEvent, received_at: Timestamp) {
        let reason = event.reason;
        self.lock()[reason as usize].add_event(event, received_at);
    }

    /// Stores the counts of this process. Counts that cannot be stored remain for the next call.
    pub async fn flush(&self) -> Result<(), ServiceError> {
        let taken = std::mem::take(&mut *self.lock());
        if taken.iter().all(UnusedEventCounts::is_empty) {
            return Ok(());
        }
        let result = self.store(&taken).await;
        if result.is_err() {
            for (seen, taken) in self.lock().iter_mut().zip(taken) {
                seen.merge(taken);
            }
        }
        result
    }

    async fn store(&self, taken: &CountsByReason) -> Result<(), ServiceError> {
        // Commits together: all counts since the last flush, exactly once.
        let mut tx = self.db.begin().await?;
        for (reason, counts) in UnusedReason::ALL.into_iter().zip(taken) {
            if !counts.is_empty() {
                stored::add_counts(&mut tx, reason, counts).await?;
            }
        }
        Ok(tx.commit().await?)
    }

    /// Unused events behind a position, with the latest counts of this process.
    pub(crate) async fn list(
        &self,
        after: &UnusedEventPosition,
        limit: i64,
    ) -> Result<UnusedEventPage, ServiceError> {
        // A caller who has just sent an event expects to find it.
        self.flush().await?;
        let rows = stored::list(self.db.read(), after, limit).await?;
        let further_events = stored::count_further(self.db.read()).await?;
        Ok(UnusedEventPage { rows, further_events })
    }

    /// Deletes names without an event since the retention.
    pub async fn delete_expired(&self) -> Result<(), ServiceError> {
        let oldest = self.clock.now().plus_millis(-RETENTION_DAYS * MILLIS_PER_DAY);
        // Commits together: the deletion of all expired names.
        let mut tx = self.db.begin().await?;
        stored::delete_before(&mut tx, oldest).await?;
        Ok(tx.commit().await?)
    }

    /// Stores and deletes counts periodically, until `stopped`. Later counts are left to a final
    /// [`Self::flush`] after the last request. Skips a period while the clock is wrong.
    pub async fn run(self: Arc<Self>, check: Arc<ClockCheck>, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        loop {
            tokio::select! {
                () = tokio::time::sleep(FLUSH_INTERVAL) => {}
                () = &mut stopped => return,
            }
            if !check.is_clock_right() {
                continue;
            }
            let done = async {
                self.flush().await?;
                self.delete_expired().await
            };
            if let Err(error) = done.await {
                let error = ErrorChain(&error).to_string();
                if let Some(repeated) = count_failure("unused events", &error) {
                    tracing::warn!(
                        error,
                        "storing counts of unused events failed and is retried{repeated}"
                    );
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, CountsByReason> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
