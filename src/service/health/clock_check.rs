//! Comparison of this process's clock with the database's clock.
//!
//! An event that is stamped by a wrong clock does lasting harm: a date far in the future
//! empties every time window of its customer. So while the two clocks differ by more than
//! `clock.tolerance_seconds`, events are refused with 503. Background work that depends
//! on the clock waits too: it would drop data as too old, or record that it ran in the
//! future. Scoring of feature rows needs no clock and continues.
//!
//! The database's clock is read every `clock.check_seconds`. Between two readings it is
//! extrapolated by the monotonic clock, which no step of the wall clock moves. So a step
//! shows at the next event, not at the next reading.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::config;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::error::ErrorChain;
use crate::store::ReadOnlyDatabase;
use crate::telemetry::ServiceMetrics;

/// How often waiting work checks whether the clock is right again.
const RECHECK_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct ClockCheck {
    clock: TimeSource,
    db: ReadOnlyDatabase,
    settings: config::ClockSettings,
    metrics: Arc<ServiceMetrics>,
    started: Instant,
    /// The database's clock at `started`; [`UNKNOWN`] before the first reading.
    database_at_start: AtomicI64,
    is_reported: AtomicBool,
}

const UNKNOWN: i64 = i64::MIN;

impl ClockCheck {
    pub fn new(
        clock: TimeSource,
        db: ReadOnlyDatabase,
        settings: config::ClockSettings,
        metrics: Arc<ServiceMetrics>,
    ) -> Self {
        let database_at_start = AtomicI64::new(UNKNOWN);
        let (started, is_reported) = (Instant::now(), AtomicBool::new(false));
        Self { clock, db, settings, metrics, started, database_at_start, is_reported }
    }

    pub(crate) fn clock(&self) -> &TimeSource {
        &self.clock
    }

    /// This clock minus the database's, in milliseconds; `None` if the check is disabled
    /// or the database's clock was never read.
    pub(crate) fn skew_millis(&self) -> Option<i64> {
        self.settings.tolerance?;
        Some(self.clock.now().millis().saturating_sub(self.database_millis()?))
    }

    /// Whether the clocks agree, as far as is known. Logs every change.
    pub(crate) fn is_clock_right(&self) -> bool {
        let is_right = self.skew_millis().is_none_or(|skew| skew.abs() <= self.tolerance_millis());
        if !is_right || self.is_reported.load(Ordering::Relaxed) {
            self.log_change(is_right);
        }
        is_right
    }

    /// Refuses events while the clock is wrong, and events that were stamped while it was
    /// ahead.
    pub(crate) fn check_event_time(&self, received_at: Timestamp) -> Result<(), ServiceError> {
        let Some(database) = self.database_millis().filter(|_| self.settings.tolerance.is_some())
        else {
            return Ok(());
        };
        let ahead = received_at.millis().saturating_sub(database);
        if self.is_clock_right() && ahead <= self.tolerance_millis() {
            return Ok(());
        }
        let skew = self.skew_millis().unwrap_or_default();
        let skew = if skew.abs() > self.tolerance_millis() { skew } else { ahead };
        Err(ServiceError::WrongClock { skew_seconds: skew / 1000 })
    }

    /// Reads the database's clock. A reading that takes longer than the tolerance is
    /// ignored.
    pub async fn read(&self) -> Result<(), ServiceError> {
        if self.settings.tolerance.is_none() {
            return Ok(());
        }
        let before = self.elapsed_millis();
        let database = self.db.clock().await?;
        let after = self.elapsed_millis();
        if after - before <= self.tolerance_millis() {
            // The reading was taken between the two instants; the midpoint halves the
            // error (Cristian's algorithm).
            let middle = before.midpoint(after);
            self.database_at_start.store(database.millis() - middle, Ordering::Relaxed);
        }
        self.is_clock_right();
        if let Some(skew) = self.skew_millis() {
            self.metrics.clock.set_skew_millis(skew);
        }
        Ok(())
    }

    /// Reads the database's clock periodically.
    pub(crate) async fn read_periodically(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.settings.check_interval).await;
            if let Err(error) = self.read().await {
                tracing::debug!(error = %ErrorChain(&error), "the database's clock could not be read");
            }
        }
    }

    /// Waits until the clock is right.
    pub(crate) async fn wait_until_right(&self) {
        while !self.is_clock_right() {
            tokio::time::sleep(RECHECK_INTERVAL).await;
        }
    }

    fn database_millis(&self) -> Option<i64> {
        let at_start = self.database_at_start.load(Ordering::Relaxed);
        (at_start != UNKNOWN).then(|| at_start.saturating_add(self.elapsed_millis()))
    }

    fn elapsed_millis(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn tolerance_millis(&self) -> i64 {
        let tolerance = self.settings.tolerance.unwrap_or_default();
        i64::try_from(tolerance.as_millis()).unwrap_or(i64::MAX)
    }

    /// Logs a change once.
    fn log_change(&self, is_right: bool) {
        // One atomic swap: of several threads that see the change, only one logs it.
        if self.is_reported.swap(!is_right, Ordering::Relaxed) != is_right {
            return;
        }
        let skew_seconds = self.skew_millis().unwrap_or_default() / 1000;
        self.metrics.clock.set_skew_millis(skew_seconds * 1000);
        if is_right {
            tracing::info!("the clock agrees with the database's clock again; events are accepted");
        } else {
            tracing::error!(
                skew_seconds,
                "the clock differs from the database's clock: events are refused (503) and \
                 background work waits until both agree. To repair events stamped before, see \
                 `segmentd repair clock`"
            );
        }
    }
}
