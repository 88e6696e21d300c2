//! How far a run is, noted down while it works; and whether it is to go on. The
//! run's row carries both, so that it may be followed and called off through any
//! replica.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::domain::id::RunId;
use crate::domain::time::Timestamp;
use crate::domain::train::selection::leaderboard::Cost;
use crate::domain::train::{Pause, Progress};
use crate::service::ServiceError;
use crate::service::clock::Clock;
use crate::service::training::fit::{self, Meter};
use crate::store::Db;
use crate::store::models::runs;
use crate::store::models::runs::{RunProgress, RunRow};

/// How often a run writes down how far it is, and looks whether to go on.
const EVERY: Duration = Duration::from_secs(1);

/// Seconds that the rest of a run's stage takes, if it goes on as so far; `None`:
/// nothing of the stage is over yet, or the run does not work.
pub fn stage_seconds_left(run: &RunRow, now: Timestamp) -> Option<i64> {
    let since = run.stage_since.filter(|_| run.status == "running" && run.done > 0)?;
    let elapsed_millis = now.millis().saturating_sub(since.millis()).max(0);
    let left_millis = elapsed_millis.saturating_mul((run.total - run.done).max(0)) / run.done;
    Some(left_millis / 1000)
}

/// What the training threads say, for the async side to write down.
#[derive(Debug)]
pub(super) struct Follow {
    stage: ArcSwap<&'static str>,
    done: AtomicI64,
    total: AtomicI64,
    stop: AtomicBool,
    meter: Meter,
    started: Instant,
    max_run: Duration,
}

impl Follow {
    /// Of a run that may take so long.
    pub(super) fn new(max_run: Duration) -> Self {
        Self {
            started: Instant::now(),
            max_run,
            stage: ArcSwap::from_pointee("starting"),
            done: AtomicI64::new(0),
            total: AtomicI64::new(0),
            stop: AtomicBool::new(false),
            meter: Meter::default(),
        }
    }
}

impl Progress for Follow {
    fn report(&self, stage: &'static str, done: u64, total: u64) {
        if **self.stage.load() != stage {
            self.stage.store(Arc::new(stage));
        }
        self.done.store(i64::try_from(done).unwrap_or(i64::MAX), Ordering::Relaxed);
        self.total.store(i64::try_from(total).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    fn should_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn pause(&self) -> Pause {
        fit::rest_now_and_then
    }

    fn cost(&self) -> Cost {
        self.meter.read()
    }
}

impl Follow {
    /// Does `work`, which reports here, and notes how far it is. Work that was called
    /// off, or takes too long, is stopped, and waited for.
    pub(super) async fn during<T>(
        self: &Arc<Self>,
        (db, clock): (&Db, &Clock),
        run: &RunId,
        work: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, ServiceError> {
        let _stop_if_dropped = StopOnDrop(Arc::clone(self));
        let mut work = pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => return outcome.map_err(|error| self.why(error)),
                () = tokio::time::sleep(EVERY) => {
                    if !self.note(db, run, clock.now()).await? || self.is_overdue() {
                        self.stop.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    fn is_overdue(&self) -> bool {
        self.started.elapsed() > self.max_run
    }

    /// Work that was stopped ends in an error; that of an overdue run names the limit.
    fn why(&self, error: ServiceError) -> ServiceError {
        if !self.is_overdue() {
            return error;
        }
        let seconds = self.max_run.as_secs();
        ServiceError::Conflict(format!(
            "cancelled: the run took longer than {seconds} s (training.max_run_seconds)"
        ))
    }

    /// False when the run is not to go on.
    async fn note(&self, db: &Db, run: &RunId, now: Timestamp) -> Result<bool, ServiceError> {
        let stage = **self.stage.load();
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        // Commits alone: how far it is.
        let mut tx = db.begin().await?;
        let goes_on = runs::progress(&mut tx, run, RunProgress { stage, done, total }, now).await?;
        tx.commit().await?;
        Ok(goes_on)
    }
}

/// A run that nobody waits for any more stops soon.
struct StopOnDrop(Arc<Follow>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}
