//! Thread pool for heavy work on requests: decompress, parse and score large bodies, on a
//! few threads of lower priority.
//!
//! One core is left to small requests, which async threads answer. Keys take turns, so
//! one key's large requests delay those of another by at most the work in progress.
//! Cancelled work is not started, and stops soon after it has started.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use thread_priority::{ThreadPriority, ThreadPriorityValue};
use tokio::sync::oneshot;

use crate::service::ServiceError;
use crate::service::limits::resource_user::ResourceUser;
use crate::service::limits::round_robin::RoundRobinQueue;

/// The threads and their queue. The threads end when this is dropped.
#[derive(Debug)]
pub struct HeavyWorkPool {
    queue: Arc<JobQueue>,
}

type HeavyJob = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct JobQueue {
    state: Mutex<QueueState>,
    arrived: Condvar,
}

#[derive(Default)]
struct QueueState {
    jobs: RoundRobinQueue<ResourceUser, HeavyJob>,
    is_closed: bool,
}

impl std::fmt::Debug for JobQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobQueue").finish_non_exhaustive()
    }
}

/// Cancellation flag of a request: it timed out, or its sender disconnected. Long work
/// polls it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cancellation(Option<Arc<AtomicBool>>);

impl Cancellation {
    /// For light work, which is too short to cancel.
    pub(crate) const fn never() -> Self {
        Self(None)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}

/// Cancels when it is dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl HeavyWorkPool {
    /// Starts the threads: one fewer than cores, at least one.
    pub(crate) fn start_threads() -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let work = Self { queue: Arc::default() };
        for number in 0..cores.saturating_sub(1).max(1) {
            let queue = Arc::clone(&work.queue);
            std::thread::Builder::new().name(format!("heavy-{number}")).spawn(move || {
                lower_thread_priority();
                queue.serve();
            })?;
        }
        Ok(work)
    }

    /// Runs `work` on one of the threads when its user's turn comes.
    pub(crate) async fn run_job<T: Send + 'static>(
        &self,
        user: ResourceUser,
        work: impl FnOnce(&Cancellation) -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        let flag = Arc::new(AtomicBool::new(false));
        let cancellation = Cancellation(Some(Arc::clone(&flag)));
        let _cancel = CancelOnDrop(flag);
        let (answer, answered) = oneshot::channel();
        self.queue.push(user, move || {
            if !cancellation.is_cancelled() {
                // The receiver is gone if the request was cancelled meanwhile.
                let _ = answer.send(work(&cancellation));
            }
        });
        answered.await.map_err(|_| ServiceError::internal("heavy work panicked"))
    }
}

impl Drop for HeavyWorkPool {
    fn drop(&mut self) {
        self.queue.lock().is_closed = true;
        self.queue.arrived.notify_all();
    }
}

impl JobQueue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, user: ResourceUser, job: impl FnOnce() + Send + 'static) {
        self.lock().jobs.push(user, Box::new(job));
        self.arrived.notify_one();
    }

    fn next(&self) -> Option<HeavyJob> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop() {
                return Some(job);
            }
            if state.is_closed {
                return None;
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn serve(&self) {
        while let Some(job) = self.next() {
            // The caller's channel closes without an answer.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("work on a large request panicked");
            }
        }
    }
}

/// Lowers the priority of this thread below the async threads, and above training, which
/// takes what remains (`SCHED_IDLE`).
pub(crate) fn lower_thread_priority() {
    // 25 of 100 is niceness 10: about a tenth of the weight of other threads.
    let Ok(below) = ThreadPriorityValue::try_from(25_u8) else { return };
    let below = ThreadPriority::Crossplatform(below);
    if let Err(error) = thread_priority::set_current_thread_priority(below) {
        tracing::debug!(%error, "cannot lower the priority of a worker thread for large requests");
    }
}
