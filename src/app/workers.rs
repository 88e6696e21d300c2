//! Workers of ingestion, exports, shadow scoring, drift counts, event sources, unused events, and
//! deliveries of notifications and moves.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::app::task_supervisor::{TaskGroup, TaskSupervisor};
use crate::app::threads::DedicatedThread;
use crate::service::alerts::deliver::DeliveryWorker;
use crate::service::alerts::moves::MoveDeliveryWorker;
use crate::service::drift::DriftService;
use crate::service::export::ExportWorker;
use crate::service::health::clock_check::ClockCheck;
use crate::service::ingestion::CommitWorker;
use crate::service::models::shadow::ShadowWorker;
use crate::service::sources::SourceMonitor;
use crate::service::unused_events::UnusedEventCounter;
use crate::telemetry::labels::BackgroundTask;

/// The running workers. They outlast the other background tasks: requests in progress wait for
/// them, and a delivery in progress completes.
#[derive(Debug)]
pub(super) struct WorkerPool {
    tasks: TaskGroup,
    threads: Vec<DedicatedThread>,
}

impl WorkerPool {
    /// Starts the workers of ingestion, of exports on the thread `reading`, and of shadow
    /// scoring.
    pub(super) fn start(
        supervisor: &TaskSupervisor,
        ingestion: Vec<CommitWorker>,
        exports: ExportWorker,
        reading: DedicatedThread,
        shadows: ShadowWorker,
    ) -> io::Result<Self> {
        let tasks = TaskGroup::new(supervisor.clone(), CancellationToken::new());
        let mut pool = Self { tasks, threads: Vec::new() };
        pool.start_ingestion(ingestion)?;
        pool.start_exports(exports, reading);
        pool.start_shadow_scoring(shadows);
        Ok(pool)
    }

    /// Starts the commit workers, each on a thread of its own.
    ///
    /// A panic within a commit fails only its events, and the worker continues. After any other
    /// panic it is not restarted: the shards that it was assigned remain assigned to it, so
    /// their events would wait for ever behind a new worker.
    fn start_ingestion(&mut self, workers: Vec<CommitWorker>) -> io::Result<()> {
        for worker in workers {
            let thread = DedicatedThread::start("ingestion")?;
            self.tasks.spawn_once(BackgroundTask::Ingestion, thread.handle(), |stopped| {
                worker.run(stopped.cancelled_owned())
            });
            self.threads.push(thread);
        }
        Ok(())
    }

    /// Starts exports on the thread `reading`. Restarted after a panic: the running exports are
    /// cut off, which their clients see; later ones are complete.
    fn start_exports(&mut self, exports: ExportWorker, reading: DedicatedThread) {
        let exports = Arc::new(Mutex::new(exports));
        self.tasks.spawn_worker(BackgroundTask::Exports, reading.handle(), move |stopped| {
            let exports = Arc::clone(&exports);
            async move { exports.lock().await.run(stopped.cancelled_owned()).await }
        });
        self.threads.push(reading);
    }

    /// Starts shadow scoring. Restarted after a panic: its counts describe a sample, and those
    /// since the last write are missing from it.
    fn start_shadow_scoring(&mut self, shadows: ShadowWorker) {
        let shadows = Arc::new(Mutex::new(shadows));
        self.tasks.spawn_worker(
            BackgroundTask::ShadowScoring,
            &Handle::current(),
            move |stopped| {
                let shadows = Arc::clone(&shadows);
                async move { shadows.lock().await.run(stopped.cancelled_owned()).await }
            },
        );
    }

    /// Starts the counts of drift detection. Restarted after a panic: counts that are not
    /// stored yet remain in the service, and the next run stores them.
    pub(super) fn start_drift_counts(&mut self, drift: Arc<DriftService>, check: Arc<ClockCheck>) {
        self.tasks.spawn_worker(BackgroundTask::DriftCounts, &Handle::current(), move |stopped| {
            Arc::clone(&drift).run(Arc::clone(&check), stopped.cancelled_owned())
        });
    }

    /// Starts monitoring of event sources. Restarted after a panic, for the same reason as the
    /// drift counts.
    pub(super) fn start_source_monitor(
        &mut self,
        sources: Arc<SourceMonitor>,
        check: Arc<ClockCheck>,
    ) {
        self.tasks.spawn_worker(BackgroundTask::EventSources, &Handle::current(), move |stopped| {
            Arc::clone(&sources).run(Arc::clone(&check), stopped.cancelled_owned())
        });
    }

    /// Starts storing the counts of unused events. Restarted after a panic, for the same reason as
    /// the drift counts.
    pub(super) fn start_unused_event_counts(
        &mut self,
        unused: Arc<UnusedEventCounter>,
        check: Arc<ClockCheck>,
    ) {
        self.tasks.spawn_worker(BackgroundTask::UnusedEvents, &Handle::current(), move |stopped| {
            Arc::clone(&unused).run(Arc::clone(&check), stopped.cancelled_owned())
        });
    }

    /// Starts the delivery of notifications. Restarted after a panic: messages in flight are
    /// claimed in the outbox, and are sent again after their claim expires.
    pub(super) fn start_deliveries(&mut self, deliverer: DeliveryWorker) {
        let deliverer = Arc::new(deliverer);
        self.tasks.spawn_worker(BackgroundTask::Deliveries, &Handle::current(), move |stopped| {
            let deliverer = Arc::clone(&deliverer);
            async move { deliverer.run(stopped.cancelled_owned()).await }
        });
    }

    /// Starts the delivery of moves. Restarted after a panic: the channels in progress are claimed
    /// in the database, and their moves are sent again after the claim expires.
    pub(super) fn start_move_deliveries(&mut self, deliverer: MoveDeliveryWorker) {
        let deliverer = Arc::new(deliverer);
        self.tasks.spawn_worker(
            BackgroundTask::MoveDeliveries,
            &Handle::current(),
            move |stopped| {
                let deliverer = Arc::clone(&deliverer);
                async move { deliverer.run(stopped.cancelled_owned()).await }
            },
        );
    }

    /// Commits the queued events. Aborts exports that a client still reads at the
    /// deadline of requests.
    pub(super) async fn stop(self, deadline: Duration) {
        let Self { tasks, threads } = self;
        let late = tasks.stop(deadline).await;
        if late.contains(BackgroundTask::Ingestion.name()) {
            tracing::warn!("queued events were not committed; they were not acknowledged either");
        }
        // Ends the threads, on which no task is left.
        drop(threads);
    }
}
