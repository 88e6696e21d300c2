//! Background tasks, each with a name; the only use of `tokio::spawn`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::api::ApiState;
use crate::app::threads::DedicatedThread;
use crate::outbound::NotificationSender;
use crate::service::alerts::deliver::Deliverer;
use crate::service::automation::actions::Reactor;
use crate::service::clock::TimeSource;
use crate::service::consistency_check::Sampler;
use crate::service::drift::DriftService;
use crate::service::drift::monitor::Watcher;
use crate::service::error::Chain;
use crate::service::failed_events::FailedEventStore;
use crate::service::health::clock_check::ClockCheck;
use crate::service::health::storage::Storage;
use crate::service::models::rollout::Rollout;
use crate::service::models::shadow;
use crate::service::rescoring::on_deployment_change::Reassigner;
use crate::service::rescoring::on_time::Rechecker;
use crate::service::scoring::history;
use crate::service::sources::SourceMonitor;
use crate::service::training::TrainingService;
use crate::service::{ServiceError, export, ingestion};
use crate::store::Db;
use crate::store::database::connect::{ChangeListener, ChangeTopic};

/// Dependencies of the background tasks.
#[derive(Debug)]
pub(super) struct BackgroundTasks {
    pub(super) db: Db,
    pub(super) storage: Arc<Storage>,
    pub(super) api: ApiState,
    pub(super) training: Arc<TrainingService>,
    pub(super) rollout: Arc<Rollout>,
    pub(super) reassigner: Reassigner,
    pub(super) rechecker: Rechecker,
    pub(super) sampler: Sampler,
    pub(super) failed: Arc<FailedEventStore>,
    pub(super) watcher: Watcher,
    pub(super) reactor: Arc<Reactor>,
    pub(super) react_every: Duration,
    pub(super) sender: Arc<NotificationSender>,
    pub(super) poll: Duration,
    pub(super) refresh_keys: Duration,
    pub(super) keep_history_days: u32,
    pub(super) clock: TimeSource,
    pub(super) clock_check: Arc<ClockCheck>,
}

/// The running tasks.
#[derive(Debug)]
pub(super) struct RunningTasks {
    running: JoinSet<()>,
    stopped: watch::Receiver<bool>,
}

/// Delay after a failure: Postgres may be restarting.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Interval of partition maintenance. Partitions exist up to the next month, so a failure
/// may last.
const PARTITION_INTERVAL: Duration = Duration::from_hours(12);
/// Delay after a failure, such as a busy lock.
const PARTITION_RETRY: Duration = Duration::from_mins(1);
/// Clean-up interval; between runs, one minute's worth of excess rejected events may exist.
const CLEAN_UP_INTERVAL: Duration = Duration::from_mins(1);
/// Longest sleep until a scheduled time, so that a changed clock is noticed.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

#[expect(clippy::disallowed_methods, reason = "the one home of tokio::spawn")]
pub(super) fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(work)
}

/// Resolves once `stopped` is true.
pub(super) async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender was dropped, which also means stop.
    let _ = stopped.wait_for(|stop| *stop).await;
}

impl BackgroundTasks {
    pub(super) fn start(self, stopped: &watch::Receiver<bool>) -> RunningTasks {
        let mut tasks = RunningTasks { running: JoinSet::new(), stopped: stopped.clone() };
        let wake = Arc::new(WakeSignals::default());
        let clock = &self.clock_check;
        let conditions =
            RescoringConditions { clock: Arc::clone(clock), storage: Arc::clone(&self.storage) };
        let storage = Arc::clone(&self.storage);
        tasks.run("database check", async move { storage.watch_database().await });
        let storage = self.storage;
        tasks.run("disk space", async move { storage.watch_disk().await });
        let feed = Arc::clone(&self.api.feed);
        tasks.run("change feed", async move { feed.look().await });
        tasks.run("clock", Arc::clone(clock).run());
        let months =
            maintain_partitions(self.db.clone(), Arc::clone(clock), self.keep_history_days);
        tasks.run("history partitions", months);
        tasks.run("rejected events", clean_up(self.failed, Arc::clone(clock)));
        tasks.run("notifications", listen(self.db, self.api.clone(), Arc::clone(&wake)));
        tasks.run(
            "deployment poll",
            poll_deployment(self.api.clone(), Arc::clone(&wake), self.poll),
        );
        tasks.run("key refresh", refresh_keys(self.api, self.refresh_keys));
        tasks.run("rollout", roll_out(self.rollout, Arc::clone(clock), self.poll));
        let training = Arc::clone(&self.training);
        let queue = train_queued(training, Arc::clone(clock), Arc::clone(&wake), self.poll);
        tasks.run("training", queue);
        tasks.run("schedule", run_schedule(self.training, self.clock, Arc::clone(clock)));
        tasks.run("scheduled rescoring", rescore_on_schedule(self.rechecker, conditions.clone()));
        tasks.run(
            "rescoring after deployment change",
            rescore_on_deployment_change(self.reassigner, conditions, wake, self.poll),
        );
        tasks.run("policy", apply_policy(self.reactor, Arc::clone(clock), self.react_every));
        tasks.run("alerts", maintain_alerts(self.watcher, self.sender, Arc::clone(clock)));
        if self.sampler.is_enabled() {
            tasks.run("state consistency check", check_consistency(self.sampler));
        }
        tasks
    }
}

impl RunningTasks {
    /// Runs a task until the service stops. It must not end before.
    fn run(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let stopped = until_stopped(self.stopped.clone());
        self.running.spawn(async move {
            tokio::select! {
                () = work => tracing::error!(task = name, "background task ended unexpectedly"),
                () = stopped => {}
            }
        });
    }

    /// Waits for the tasks to end; aborts and counts those still running at the deadline.
    pub(super) async fn stop(&mut self, deadline: Duration) {
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, all).await.is_err() {
            let late = self.running.len();
            tracing::warn!(late, "background tasks aborted at the shutdown deadline");
            self.running.shutdown().await;
        }
    }
}

/// Workers of ingestion, exports, shadows, drift, sources and deliveries. They outlast the
/// other tasks: requests in progress wait for them, and a delivery in progress completes.
#[derive(Debug)]
pub(super) struct WorkerPool {
    running: JoinSet<()>,
    _threads: Vec<DedicatedThread>,
    stop: watch::Sender<bool>,
}

impl WorkerPool {
    pub(super) fn start(
        intake: Vec<ingestion::CommitWorker>,
        exports: export::ExportWorker,
        reading: DedicatedThread,
        shadows: shadow::ShadowWorker,
        drift: Option<(Arc<DriftService>, Arc<ClockCheck>)>,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        let mut threads = Vec::new();
        for worker in intake {
            let thread = DedicatedThread::start("intake")?;
            running.spawn_on(worker.run(until_stopped(stopped.clone())), thread.handle());
            threads.push(thread);
        }
        running.spawn_on(exports.run(until_stopped(stopped.clone())), reading.handle());
        threads.push(reading);
        running.spawn(shadows.run(until_stopped(stopped.clone())));
        if let Some((drift, check)) = drift {
            running.spawn(drift.run(check, until_stopped(stopped.clone())));
        }
        Ok(Self { running, _threads: threads, stop })
    }

    /// Starts the delivery of notifications.
    pub(super) fn start_delivery(&mut self, deliverer: Deliverer) {
        let stopped = until_stopped(self.stop.subscribe());
        self.running.spawn(async move { deliverer.run(stopped).await });
    }

    /// Starts monitoring of event sources.
    pub(super) fn monitor_sources(&mut self, sources: Arc<SourceMonitor>, check: Arc<ClockCheck>) {
        let stopped = until_stopped(self.stop.subscribe());
        self.running.spawn(sources.run(check, stopped));
    }

    /// Commits the queued events. Aborts exports that a client still reads at the
    /// deadline of requests.
    pub(super) async fn stop(mut self, deadline: Duration) {
        // Fails only if no worker is left.
        let _ = self.stop.send(true);
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, all).await.is_err() {
            tracing::warn!(
                "workers aborted at the shutdown deadline; queued events were not acknowledged"
            );
            self.running.shutdown().await;
        }
    }
}

/// Signals that wake tasks before their next poll.
#[derive(Debug, Default)]
struct WakeSignals {
    training: Notify,
    reassignment: Notify,
}

/// Handles notifications of other replicas. After a lost connection it refreshes
/// everything, because some may have been missed.
async fn listen(db: Db, api: ApiState, wake: Arc<WakeSignals>) {
    loop {
        let listened = async {
            let mut listener = ChangeListener::connect(&db).await?;
            // Catches up on notifications sent before this listener connected.
            api.alerts.wake_delivery();
            loop {
                match listener.next().await? {
                    Some(ChangeTopic::Lineup) => refresh_deployment(&api, &wake).await,
                    Some(ChangeTopic::Keys) => log("keys", api.access.refresh().await),
                    Some(ChangeTopic::Runs) => wake.training.notify_one(),
                    Some(ChangeTopic::Alerts) => api.alerts.wake_delivery(),
                    None => {
                        refresh_deployment(&api, &wake).await;
                        log("keys", api.access.refresh().await);
                        wake.training.notify_one();
                        api.alerts.wake_delivery();
                    }
                }
            }
        };
        let ended: Result<(), crate::store::StoreError> = listened.await;
        log("notifications", ended.map_err(ServiceError::from));
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

async fn poll_deployment(api: ApiState, wake: Arc<WakeSignals>, every: Duration) {
    loop {
        refresh_deployment(&api, &wake).await;
        tokio::time::sleep(every).await;
    }
}

async fn refresh_deployment(api: &ApiState, wake: &WakeSignals) {
    let before = api.live.lineup().generation;
    log("deployment", api.live.refresh().await);
    log("shadow", api.registry.refresh_shadows().await);
    log("policy", api.policies.refresh().await);
    if api.live.lineup().generation != before {
        wake.reassignment.notify_one();
    }
}

async fn refresh_keys(api: ApiState, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        log("keys", api.access.refresh().await);
    }
}

async fn train_queued(
    training: Arc<TrainingService>,
    check: Arc<ClockCheck>,
    wake: Arc<WakeSignals>,
    poll: Duration,
) {
    loop {
        check.right().await;
        log("training", training.run_queued().await.map(|_| ()));
        wake.reassignment.notify_one();
        // A notification may be lost; polling finds the run.
        let _ = tokio::time::timeout(poll, wake.training.notified()).await;
    }
}

async fn run_schedule(training: Arc<TrainingService>, clock: TimeSource, check: Arc<ClockCheck>) {
    let mut due = training.next_due();
    loop {
        check.right().await;
        let Some(mut at) = due else {
            std::future::pending::<()>().await;
            return;
        };
        // A clock that was set back makes an earlier time the next one.
        if let Some(next) = training.next_due().filter(|next| *next < at) {
            at = next;
            due = Some(next);
        }
        let left = at.millis() - clock.now().millis();
        if left > 0 {
            let nap = Duration::from_millis(left.unsigned_abs()).min(LONGEST_SLEEP);
            tokio::time::sleep(nap).await;
            continue;
        }
        let spec = training.default_spec();
        log("schedule", training.request(spec, "schedule", Some(at)).await.map(|_| ()));
        due = training.next_due();
    }
}

async fn maintain_partitions(db: Db, check: Arc<ClockCheck>, keep_days: u32) {
    loop {
        check.right().await;
        match history::turn_months(&db, check.clock().now(), keep_days).await {
            Ok(0) => {}
            Ok(months) => tracing::info!(months, "expired history partitions dropped"),
            Err(error) => {
                log("history partitions", Err(error));
                tokio::time::sleep(PARTITION_RETRY).await;
                continue;
            }
        }
        tokio::time::sleep(PARTITION_INTERVAL).await;
    }
}

async fn clean_up(failed: Arc<FailedEventStore>, check: Arc<ClockCheck>) {
    loop {
        check.right().await;
        match failed.clean_up().await {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, "expired rejected events deleted"),
            Err(error) => log("rejected events", Err(error)),
        }
        tokio::time::sleep(CLEAN_UP_INTERVAL).await;
    }
}

async fn rescore_on_deployment_change(
    reassigner: Reassigner,
    conditions: RescoringConditions,
    wake: Arc<WakeSignals>,
    poll: Duration,
) {
    loop {
        conditions.wait().await;
        match reassigner.run().await {
            Ok(0) => {}
            Ok(customers) => {
                tracing::info!(customers, "customers rescored after a deployment change");
            }
            Err(error) => log("rescoring after deployment change", Err(error)),
        }
        let _ = tokio::time::timeout(poll, wake.reassignment.notified()).await;
    }
}

async fn rescore_on_schedule(rechecker: Rechecker, conditions: RescoringConditions) {
    loop {
        conditions.wait().await;
        match rechecker.run().await {
            Ok(0) => {}
            Ok(customers) => tracing::debug!(customers, "customers rescored on schedule"),
            Err(error) => log("scheduled rescoring", Err(error)),
        }
        tokio::time::sleep(rechecker.period()).await;
    }
}

/// Preconditions of rescoring, which may write every stored customer.
#[derive(Debug, Clone)]
struct RescoringConditions {
    clock: Arc<ClockCheck>,
    storage: Arc<Storage>,
}

impl RescoringConditions {
    /// Waits until the clock is right and the disk has space.
    async fn wait(&self) {
        self.clock.right().await;
        while !self.storage.has_room() {
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }
}

async fn roll_out(rollout: Arc<Rollout>, check: Arc<ClockCheck>, every: Duration) {
    loop {
        check.right().await;
        match rollout.run().await {
            Ok(0) => {}
            Ok(steps) => tracing::info!(steps, "models advanced to their next stage"),
            Err(error) => log("rollout", Err(error)),
        }
        tokio::time::sleep(every).await;
    }
}

/// Periodic alerting work: drift checks, escalation, heartbeats, retention.
async fn maintain_alerts(
    watcher: Watcher,
    sender: Arc<NotificationSender>,
    check: Arc<ClockCheck>,
) {
    let alerts = Arc::clone(watcher.alerts());
    loop {
        check.right().await;
        log("drift check", watcher.run().await);
        check.right().await;
        log("alerts", alerts.sweep().await);
        check.right().await;
        log("alert heartbeat", alerts.keep_alive(&sender).await);
        // The clock may go wrong during each step; this one deletes data.
        check.right().await;
        log("alert retention", alerts.clean_up().await);
        tokio::time::sleep(alerts.poll_interval()).await;
    }
}

async fn apply_policy(reactor: Arc<Reactor>, check: Arc<ClockCheck>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        check.right().await;
        log("policy", reactor.run().await);
    }
}

async fn check_consistency(sampler: Sampler) {
    loop {
        tokio::time::sleep(sampler.interval()).await;
        log("state consistency check", sampler.run().await.map(|_| ()));
    }
}

fn log(task: &'static str, outcome: Result<(), ServiceError>) {
    if let Err(error) = outcome {
        tracing::warn!(task, error = %Chain(&error), "background task failed; it will retry");
    }
}
