//! Supervision of background tasks; the only use of `tokio::spawn`.
//!
//! A background task runs until the service stops. If it panics or ends before, the failure is
//! logged and counted under the name of the task. Then the task is built anew and restarted
//! with exponential back-off. A task that must not be restarted, because its state is lost or
//! inconsistent, makes the process not ready instead.

use std::any::Any;
use std::collections::BTreeSet;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::backoff::RestartBackoff;
use crate::service::health::failed_tasks::FailedTasks;
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::BackgroundTask;

/// Longest delay before a restart. A task that panics at each start logs at this rate.
const LONGEST_RESTART_DELAY: Duration = Duration::from_mins(1);

#[expect(clippy::disallowed_methods, reason = "the one home of tokio::spawn")]
pub(super) fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(work)
}

/// Runs background tasks and reports those that fail.
#[derive(Debug, Clone)]
pub(super) struct TaskSupervisor {
    metrics: Arc<ServiceMetrics>,
    failed: Arc<FailedTasks>,
}

impl TaskSupervisor {
    pub(super) fn new(metrics: Arc<ServiceMetrics>) -> Self {
        Self { metrics, failed: Arc::default() }
    }

    /// The tasks that failed and are not restarted; shared with the readiness check.
    pub(super) fn failed_tasks(&self) -> Arc<FailedTasks> {
        Arc::clone(&self.failed)
    }

    /// Runs a task until it ends after `stopped` was cancelled. If it panics or ends before,
    /// calls `build` again for a new one.
    async fn run_restarting<W: Future<Output = ()>>(
        self,
        task: BackgroundTask,
        stopped: CancellationToken,
        mut build: impl FnMut(CancellationToken) -> W,
    ) {
        let mut backoff = RestartBackoff::new(LONGEST_RESTART_DELAY);
        loop {
            let started = Instant::now();
            let ended = catch_panic(async { build(stopped.clone()).await }).await;
            if stopped.is_cancelled() && ended.is_ok() {
                return;
            }
            self.metrics.task_failures.add(task, 1);
            backoff.end_run(started.elapsed());
            let delay = backoff.next_delay();
            tracing::error!(
                task = task.name(),
                panic = ended.err(),
                restart_after_seconds = delay.as_secs_f64(),
                "background task ended unexpectedly; it will be restarted"
            );
            if stopped.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
                return;
            }
        }
    }

    /// Runs a task that must not be restarted, until it ends. If it panics or ends before
    /// `stopped` is cancelled, the process is not ready any more. Returns `None` after a panic.
    pub(super) async fn run_once<T>(
        self,
        task: BackgroundTask,
        stopped: CancellationToken,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let ended = catch_panic(work).await;
        if stopped.is_cancelled() && ended.is_ok() {
            return ended.ok();
        }
        self.metrics.task_failures.add(task, 1);
        self.failed.add(task);
        let (output, panic) = match ended {
            Ok(output) => (Some(output), None),
            Err(message) => (None, Some(message)),
        };
        tracing::error!(
            task = task.name(),
            panic,
            "background task ended unexpectedly and cannot be restarted; this process is not \
             ready until it is restarted"
        );
        output
    }
}

/// Background tasks that stop together. Dropping the group aborts them.
#[derive(Debug)]
pub(super) struct TaskGroup {
    supervisor: TaskSupervisor,
    stopped: CancellationToken,
    tracker: TaskTracker,
    running: Vec<RunningTask>,
}

#[derive(Debug)]
struct RunningTask {
    task: BackgroundTask,
    handle: AbortHandle,
}

impl TaskGroup {
    /// `stopped` stops the tasks once it is cancelled.
    pub(super) fn new(supervisor: TaskSupervisor, stopped: CancellationToken) -> Self {
        Self { supervisor, stopped, tracker: TaskTracker::new(), running: Vec::new() }
    }

    /// Runs an endless loop, restarted after a failure. The stop drops it at an `await`.
    pub(super) fn spawn_loop<W: Future<Output = ()> + Send + 'static>(
        &mut self,
        task: BackgroundTask,
        mut build: impl FnMut() -> W + Send + 'static,
    ) {
        self.spawn_worker(task, &Handle::current(), move |stopped| {
            let work = build();
            async move {
                stopped.run_until_cancelled_owned(work).await;
            }
        });
    }

    /// Runs a worker on `runtime`, restarted after a failure. It ends by itself after the stop,
    /// of which the token informs it.
    pub(super) fn spawn_worker<W: Future<Output = ()> + Send + 'static>(
        &mut self,
        task: BackgroundTask,
        runtime: &Handle,
        build: impl FnMut(CancellationToken) -> W + Send + 'static,
    ) {
        let work = self.supervisor.clone().run_restarting(task, self.stopped.clone(), build);
        self.spawn_tracked(task, runtime, work);
    }

    /// Runs a worker on `runtime` that must not be restarted: after a failure, the process is
    /// not ready. It ends by itself after the stop, of which the token informs it.
    pub(super) fn spawn_once<W: Future<Output = ()> + Send + 'static>(
        &mut self,
        task: BackgroundTask,
        runtime: &Handle,
        build: impl FnOnce(CancellationToken) -> W,
    ) {
        let work = build(self.stopped.clone());
        let work = self.supervisor.clone().run_once(task, self.stopped.clone(), work);
        self.spawn_tracked(task, runtime, work.map(|_| ()));
    }

    fn spawn_tracked(
        &mut self,
        task: BackgroundTask,
        runtime: &Handle,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let handle = self.tracker.spawn_on(work, runtime).abort_handle();
        self.running.push(RunningTask { task, handle });
    }

    /// Stops the tasks and waits for them; aborts those still running at the deadline. Returns
    /// the names of the aborted tasks, in alphabetical order.
    pub(super) async fn stop(self, deadline: Duration) -> BTreeSet<&'static str> {
        self.stopped.cancel();
        self.tracker.close();
        if tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok() {
            return BTreeSet::new();
        }
        let late = self.running.iter().filter(|running| !running.handle.is_finished());
        let late: BTreeSet<&'static str> = late.map(|running| running.task.name()).collect();
        let tasks = late.iter().copied().collect::<Vec<_>>().join(", ");
        tracing::warn!(tasks, "background tasks aborted at the shutdown deadline");
        self.abort();
        self.tracker.wait().await;
        late
    }

    fn abort(&self) {
        for running in &self.running {
            running.handle.abort();
        }
    }
}

impl Drop for TaskGroup {
    fn drop(&mut self) {
        self.abort();
    }
}

/// The output of `work`, or the message of its panic. The panic hook has logged its location.
async fn catch_panic<T>(work: impl Future<Output = T>) -> Result<T, String> {
    // Unwind-safe: a task that can leave shared state inconsistent is never restarted.
    AssertUnwindSafe(work).catch_unwind().await.map_err(|payload| panic_message(&*payload))
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&'static str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("(not text)").to_owned()
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io::{self, Write};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Mutex, PoisonError};

    use serde_json::Value;
    use tracing_subscriber::fmt;

    use super::*;
    use crate::domain::objective::ObjectiveTargets;
    use crate::domain::time::Timestamp;

    /// More than the first two restart delays together.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// The lines of a JSON log, shared with the subscriber that writes them.
    #[derive(Clone, Default)]
    struct LogBuffer(Arc<Mutex<Vec<u8>>>);

    impl LogBuffer {
        /// Captures the log of this thread, on which the runtime of the test runs.
        fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
            let buffer = Self::default();
            let writer = buffer.clone();
            let log = fmt().json().flatten_event(true).with_writer(move || writer.clone());
            (buffer, tracing::subscriber::set_default(log.finish()))
        }

        fn lines(&self) -> Vec<Value> {
            let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            bytes.split(|byte| *byte == b'\n').flat_map(serde_json::from_slice).collect()
        }
    }

    impl Write for LogBuffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn supervisor() -> TaskSupervisor {
        let metrics = ServiceMetrics::new(Timestamp::from_millis(0), ObjectiveTargets::default());
        TaskSupervisor::new(Arc::new(metrics.unwrap()))
    }

    async fn until(is_reached: impl Fn() -> bool) {
        let poll = async {
            while !is_reached() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, poll).await.expect("the condition is reached");
    }

    #[tokio::test]
    async fn a_task_that_panics_or_returns_is_reported_and_restarted() {
        let (log, _guard) = LogBuffer::capture();
        let supervisor = supervisor();
        let mut group = TaskGroup::new(supervisor.clone(), CancellationToken::new());
        let starts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&starts);
        group.spawn_loop(BackgroundTask::Policy, move || {
            let start = counted.fetch_add(1, Ordering::Relaxed) + 1;
            async move {
                match start {
                    1 => panic!("broken at start {start}"),
                    2 => {}
                    _ => pending().await,
                }
            }
        });
        until(|| starts.load(Ordering::Relaxed) == 3).await;
        assert!(group.stop(PATIENCE).await.is_empty());

        assert_eq!(supervisor.metrics.task_failures.get(BackgroundTask::Policy), 2);
        assert!(supervisor.failed.is_empty());
        let lines = log.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        for line in &lines {
            assert_eq!((&line["level"], &line["task"]), (&"ERROR".into(), &"policy".into()));
            assert_eq!(line["message"], "background task ended unexpectedly; it will be restarted");
        }
        assert_eq!(lines[0]["panic"], "broken at start 1");
        assert!(lines[1].get("panic").is_none(), "{}", lines[1]);
        let delays: Vec<f64> =
            lines.iter().filter_map(|line| line["restart_after_seconds"].as_f64()).collect();
        assert!((0.05..=0.1).contains(&delays[0]), "{delays:?}");
        assert!((0.1..=0.2).contains(&delays[1]), "{delays:?}");
    }

    #[tokio::test]
    async fn a_task_that_must_not_be_restarted_makes_the_process_not_ready() {
        let (log, _guard) = LogBuffer::capture();
        let supervisor = supervisor();
        let mut group = TaskGroup::new(supervisor.clone(), CancellationToken::new());
        group.spawn_once(BackgroundTask::Exports, &Handle::current(), |stopped| async move {
            stopped.cancelled().await;
        });
        group.spawn_once(BackgroundTask::Ingestion, &Handle::current(), |_| async {
            panic!("shard state is lost");
        });
        until(|| !supervisor.failed.is_empty()).await;
        assert!(group.stop(PATIENCE).await.is_empty());

        assert_eq!(supervisor.failed.names(), ["ingestion"]);
        assert_eq!(supervisor.metrics.task_failures.get(BackgroundTask::Ingestion), 1);
        let lines = log.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0]["task"], "ingestion");
        assert_eq!(lines[0]["panic"], "shard state is lost");
        let message = lines[0]["message"].as_str().unwrap();
        assert!(message.contains("not ready until it is restarted"), "{message}");
    }

    #[tokio::test]
    async fn a_task_that_is_late_at_shutdown_is_named_and_aborted() {
        let (log, _guard) = LogBuffer::capture();
        let supervisor = supervisor();
        let mut group = TaskGroup::new(supervisor.clone(), CancellationToken::new());
        group.spawn_loop(BackgroundTask::Alerts, pending::<()>);
        for task in [BackgroundTask::Exports, BackgroundTask::Deliveries, BackgroundTask::Exports] {
            group.spawn_worker(task, &Handle::current(), |_| pending::<()>());
        }
        let late = group.stop(Duration::from_millis(50)).await;

        assert_eq!(late.into_iter().collect::<Vec<_>>(), ["deliveries", "exports"]);
        assert_eq!(supervisor.metrics.task_failures.get(BackgroundTask::Deliveries), 0);
        let lines = log.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0]["tasks"], "deliveries, exports");
        assert_eq!(lines[0]["message"], "background tasks aborted at the shutdown deadline");
    }

    #[tokio::test]
    async fn dropping_a_group_aborts_its_tasks() {
        let mut group = TaskGroup::new(supervisor(), CancellationToken::new());
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        group.spawn_loop(BackgroundTask::Alerts, move || {
            let held = Arc::clone(&held);
            async move {
                pending::<()>().await;
                drop(held);
            }
        });
        tokio::task::yield_now().await;
        drop(group);
        until(|| Arc::strong_count(&alive) == 1).await;
    }
}
