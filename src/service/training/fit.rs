//! Fitting on threads of its own that take what others leave: scoring shares the
//! machine, and must not notice.
//!
//! On Linux they are scheduled as idle, not merely nice: a nice thread keeps the
//! processor for milliseconds against one that wakes up. And they sleep for a
//! moment every millisecond: a processor that is busy with idle work does not look
//! for others' work that waits in another's queue; one that falls idle does.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thread_priority::ThreadPriority;
#[cfg(target_os = "linux")]
use thread_priority::{NormalThreadSchedulePolicy, ThreadSchedulePolicy};
use tokio::sync::oneshot;

use crate::domain::feature::{FeatureRow, FeatureSet};
use crate::domain::time::Timestamp;
use crate::domain::train::selection::leaderboard::Cost;
use crate::domain::train::{self, CheckedSpec, FitError, Progress, Trained, TrainingData, lineage};
use crate::service::ServiceError;
use crate::service::training::predecessor::Before;

/// What one model is made of; nothing else goes into its bytes.
#[derive(Debug)]
pub struct Job {
    pub spec: CheckedSpec,
    pub features: Arc<FeatureSet>,
    /// In canonical order.
    pub rows: Vec<FeatureRow>,
    /// The instant that they describe.
    pub as_of: Timestamp,
    /// Whose segments go on in it.
    pub before: Option<Before>,
}

/// A thread works for so long, and then rests.
const STRETCH: Duration = Duration::from_millis(1);
/// The shortest sleep there is: the system makes some 60 µs of it.
const REST: Duration = Duration::from_micros(1);

/// Fits. Dropped early it goes on until `progress` tells it to stop.
pub async fn fit(
    job: Job,
    threads: usize,
    progress: Arc<impl Progress + Send + 'static>,
) -> Result<Trained, ServiceError> {
    let (answer, answered) = oneshot::channel();
    std::thread::Builder::new()
        .name("train".into())
        .spawn(move || {
            take_what_is_left();
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(|index| format!("train-{index}"))
                .start_handler(|_| take_what_is_left())
                .build();
            let outcome = match pool {
                Ok(pool) => pool
                    .install(|| job.train(&*progress))
                    // The data and the spec do not go together: no fault of ours.
                    .map_err(|error| ServiceError::Conflict(error.to_string())),
                Err(error) => Err(ServiceError::internal(error)),
            };
            // Nobody waits any more: the process is stopping.
            let _ = answer.send(outcome);
        })
        .map_err(ServiceError::internal)?;
    answered.await.map_err(|_| ServiceError::internal("the training thread panicked"))?
}

impl Job {
    fn train(&self, progress: &dyn Progress) -> Result<Trained, FitError> {
        let Self { spec, features, rows, as_of, before } = self;
        let data = TrainingData {
            feature_set: features.id(),
            defs: features.features(),
            rows,
            as_of: *as_of,
        };
        let trained = train::train(spec, &data, progress)?;
        lineage::inherit(trained, rows, before.as_ref().map(Before::as_predecessor))
    }
}

/// For a training thread to call often.
pub(super) fn rest_now_and_then() {
    thread_local!(static WORKS_SINCE: Cell<Instant> = Cell::new(Instant::now()));
    WORKS_SINCE.with(|since| {
        if since.get().elapsed() >= STRETCH {
            std::thread::sleep(REST);
            since.set(Instant::now());
        }
    });
}

/// What was taken since it was last read.
#[derive(Debug)]
pub struct Meter(Mutex<Instant>);

impl Default for Meter {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Meter {
    pub fn read(&self) -> Cost {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *since, Instant::now());
        Cost { seconds: before.elapsed().as_secs_f64(), peak_bytes: take_peak() }
    }
}

/// The most memory the process held since this was last asked; only Linux says.
fn take_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    // 5: the peak starts again from what is held now. Where that is refused,
    // the peak is that of the process so far.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// For the thread that calls.
fn take_what_is_left() {
    #[cfg(target_os = "linux")]
    let done = thread_priority::set_thread_priority_and_policy(
        thread_priority::thread_native_id(),
        ThreadPriority::Min,
        ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle),
    );
    #[cfg(not(target_os = "linux"))]
    let done = thread_priority::set_current_thread_priority(ThreadPriority::Min);
    if let Err(error) = done {
        tracing::debug!(%error, "training keeps its priority");
    }
}
