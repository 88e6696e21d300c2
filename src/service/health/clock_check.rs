//! Sanity check of this process's clock against the database's clock.
//!
//! An event that is stamped by a wrong clock does harm that lasts: a date far ahead
//! empties every time window of its customer. So while the two clocks are further apart
//! than `clock.tolerance_seconds`, events are refused with 503, and background work that
//! acts by the clock waits: it would drop data as too old, and write down that it was
//! done in the future. Scoring of feature rows needs no clock and goes on.
//!
//! The database's clock is read every `clock.check_seconds`. Between two readings it is
//! continued by the monotonic clock, which no step of the wall clock moves: a step shows
//! at the next event, not at the next reading.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::config;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::clock::Clock;
use crate::service::error::Chain;
use crate::store::ReadDb;
use crate::telemetry::Metrics;

/// How often waiting work looks whether the clock is right again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct ClockCheck {
    clock: Clock,
    db: ReadDb,
    settings: config::Clock,
    metrics: Arc<Metrics>,
    started: Instant,
    /// The database's clock at `started`; [`UNKNOWN`] until it has been read.
    database_at_start: AtomicI64,
    is_reported: AtomicBool,
}

const UNKNOWN: i64 = i64::MIN;

impl ClockCheck {
    pub fn new(clock: Clock, db: ReadDb, settings: config::Clock, metrics: Arc<Metrics>) -> Self {
        let database_at_start = AtomicI64::new(UNKNOWN);
        let (started, is_reported) = (Instant::now(), AtomicBool::new(false));
        Self { clock, db, settings, metrics, started, database_at_start, is_reported }
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// This clock minus the database's, in milliseconds; `None` if nothing is checked, or
    /// the database's clock has never been read.
    pub fn skew_millis(&self) -> Option<i64> {
        self.settings.tolerance?;
        Some(self.clock.now().millis().saturating_sub(self.database_millis()?))
    }

    /// Whether the clocks agree, as far as is known.
    pub fn is_right(&self) -> bool {
        let is_right = self.skew_millis().is_none_or(|skew| skew.abs() <= self.tolerance_millis());
        if !is_right || self.is_reported.load(Ordering::Relaxed) {
            self.report(is_right);
        }
        is_right
    }

    /// Refuses events while the clock is wrong, and those that were stamped by a clock
    /// that was ahead.
    pub fn admit(&self, received_at: Timestamp) -> Result<(), ServiceError> {
        let Some(database) = self.database_millis().filter(|_| self.settings.tolerance.is_some())
        else {
            return Ok(());
        };
        let ahead = received_at.millis().saturating_sub(database);
        if self.is_right() && ahead <= self.tolerance_millis() {
            return Ok(());
        }
        let skew = self.skew_millis().unwrap_or_default();
        let skew = if skew.abs() > self.tolerance_millis() { skew } else { ahead };
        Err(ServiceError::WrongClock { skew_seconds: skew / 1000 })
    }

    /// Reads the database's clock. A reading that takes longer than the tolerance says
    /// nothing.
    pub async fn read(&self) -> Result<(), ServiceError> {
        if self.settings.tolerance.is_none() {
            return Ok(());
        }
        let before = self.elapsed_millis();
        let database = self.db.clock().await?;
        let after = self.elapsed_millis();
        if after - before <= self.tolerance_millis() {
            let middle = before.midpoint(after);
            self.database_at_start.store(database.millis() - middle, Ordering::Relaxed);
        }
        self.is_right();
        if let Some(skew) = self.skew_millis() {
            self.metrics.clock.skew_millis(skew);
        }
        Ok(())
    }

    /// Reads again and again.
    pub async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.settings.check).await;
            if let Err(error) = self.read().await {
                tracing::debug!(error = %Chain(&error), "the database's clock was not read");
            }
        }
    }

    /// Waits until the clock is right.
    pub async fn right(&self) {
        while !self.is_right() {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
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

    /// Logs the change, once.
    fn report(&self, is_right: bool) {
        if self.is_reported.swap(!is_right, Ordering::Relaxed) != is_right {
            return;
        }
        let skew_seconds = self.skew_millis().unwrap_or_default() / 1000;
        self.metrics.clock.skew_millis(skew_seconds * 1000);
        if is_right {
            tracing::info!("the clock agrees with the database's again; events are taken");
        } else {
            tracing::error!(
                skew_seconds,
                "the clock does not agree with the database's: events are refused (503) and \
                 background work waits until it does; if events were stamped by it before, see \
                 `segmentd repair clock`"
            );
        }
    }
}
