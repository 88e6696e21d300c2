//! Progress and cancellation of a training run. The run's database row carries both, so any
//! replica can show the progress and cancel the run.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::domain::id::RunId;
use crate::domain::time::Timestamp;
use crate::domain::train::selection::leaderboard::ResourceCost;
use crate::domain::train::{PauseFunction, TrainingProgress};
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::training::fit::{self, CostMeter};
use crate::store::DatabaseHandle;
use crate::store::models::runs::{self, TrainingRunRow};

/// Interval between writes of the progress and checks for cancellation.
const STORE_INTERVAL: Duration = Duration::from_secs(1);

/// Estimated seconds left in the run's stage, by linear extrapolation; `None`: the run is not
/// running, or the stage has no progress yet.
pub fn stage_seconds_left(run: &TrainingRunRow, now: Timestamp) -> Option<i64> {
    let since = run.stage_since.filter(|_| run.status == "running" && run.done > 0)?;
    let elapsed_millis = now.millis().saturating_sub(since.millis()).max(0);
    let left_millis = elapsed_millis.saturating_mul((run.total - run.done).max(0)) / run.done;
    Some(left_millis / 1000)
}

/// Progress reported by the training threads, stored by the async side.
#[derive(Debug)]
pub(super) struct RunProgress {
    stage: ArcSwap<&'static str>,
    done: AtomicI64,
    total: AtomicI64,
    stop: AtomicBool,
    meter: CostMeter,
    started: Instant,
    max_run: Duration,
}

impl RunProgress {
    /// For a run limited to `max_run`.
    pub(super) fn new(max_run: Duration) -> Self {
        Self {
            started: Instant::now(),
            max_run,
            stage: ArcSwap::from_pointee("starting"),
            done: AtomicI64::new(0),
            total: AtomicI64::new(0),
            stop: AtomicBool::new(false),
            meter: CostMeter::default(),
        }
    }
}

impl TrainingProgress for RunProgress {
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

    fn pause(&self) -> PauseFunction {
        fit::pause_briefly
    }

    fn take_cost(&self) -> ResourceCost {
        self.meter.read()
    }
}

impl RunProgress {
    /// Drives `work`, which reports here, and stores its progress. Cancelled or overdue work is
    /// requested to stop and awaited.
    pub(super) async fn drive<T>(
        self: &Arc<Self>,
        db: &DatabaseHandle,
        clock: &TimeSource,
        run: &RunId,
        work: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, ServiceError> {
        let _stop_if_dropped = StopOnDrop(Arc::clone(self));
        let mut work = pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => return outcome.map_err(|error| self.name_time_limit(error)),
                () = tokio::time::sleep(STORE_INTERVAL) => {
                    if !self.store(db, run, clock.now()).await? || self.is_overdue() {
                        self.stop.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    fn is_overdue(&self) -> bool {
        self.started.elapsed() > self.max_run
    }

    /// Replaces the error of stopped work by the time limit if the run is overdue.
    fn name_time_limit(&self, error: ServiceError) -> ServiceError {
        if !self.is_overdue() {
            return error;
        }
        let seconds = self.max_run.as_secs();
        ServiceError::Conflict(format!(
            "cancelled: the run took longer than {seconds} s (training.max_run_seconds)"
        ))
    }

    /// Stores the progress; returns false if the run was cancelled.
    async fn store(
        &self,
        db: &DatabaseHandle,
        run: &RunId,
        now: Timestamp,
    ) -> Result<bool, ServiceError> {
        let stage = **self.stage.load();
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        // Commits alone: the progress of the run.
        let mut tx = db.begin().await?;
        let goes_on =
            runs::record_progress(&mut tx, run, runs::RunProgress { stage, done, total }, now)
                .await?;
        tx.commit().await?;
        Ok(goes_on)
    }
}

/// Stops an abandoned run: its threads check the flag.
struct StopOnDrop(Arc<RunProgress>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}
