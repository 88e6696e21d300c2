//! Background tasks, each with a name; the only use of `tokio::spawn`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::api::ApiState;
use crate::app::threads::OwnThread;
use crate::outbound::Sender;
use crate::service::alerts::deliver::Deliverer;
use crate::service::automation::actions::Reactor;
use crate::service::clock::Clock;
use crate::service::consistency_check::Sampler;
use crate::service::drift::Drift;
use crate::service::drift::monitor::Watcher;
use crate::service::error::Chain;
use crate::service::failed_events::FailedEvents;
use crate::service::health::clock_check::ClockCheck;
use crate::service::health::storage::Storage;
use crate::service::models::rollout::Rollout;
use crate::service::models::shadow;
use crate::service::rescoring::on_deployment_change::Reassigner;
use crate::service::rescoring::on_time::Rechecker;
use crate::service::scoring::history;
use crate::service::sources::Sources;
use crate::service::training::Training;
use crate::service::{ServiceError, export, ingestion};
use crate::store::Db;
use crate::store::database::connect::{Listener, News};

/// Dependencies of the background tasks.
#[derive(Debug)]
pub(super) struct Tasks {
    pub(super) db: Db,
    pub(super) storage: Arc<Storage>,
    pub(super) api: ApiState,
    pub(super) training: Arc<Training>,
    pub(super) reassigner: Reassigner,
    pub(super) rechecker: Rechecker,
    pub(super) sampler: Sampler,
    pub(super) failed: Arc<FailedEvents>,
    pub(super) watcher: Watcher,
    pub(super) reactor: Arc<Reactor>,
    pub(super) react_every: Duration,
    pub(super) sender: Arc<Sender>,
    pub(super) poll: Duration,
    pub(super) refresh_keys: Duration,
    pub(super) keep_history_days: u32,
    pub(super) clock: Clock,
    pub(super) clock_check: Arc<ClockCheck>,
}

/// The running tasks.
#[derive(Debug)]
pub(super) struct Background(JoinSet<&'static str>);

/// Delay after a failure: Postgres may be restarting.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Interval of partition maintenance. Partitions exist up to the next month, so a failure
/// may last.
const TURN_MONTHS_EVERY: Duration = Duration::from_hours(12);
/// Delay after a failure, such as a busy lock.
const TURN_MONTHS_AGAIN: Duration = Duration::from_mins(1);
/// Clean-up interval; between runs, one minute's worth of excess rejected events may exist.
const CLEAN_UP_EVERY: Duration = Duration::from_mins(1);
/// Longest sleep until a scheduled time, so that a changed clock is noticed.
const LONGEST_NAP: Duration = Duration::from_mins(1);

#[expect(clippy::disallowed_methods, reason = "the one home of tokio::spawn")]
pub(super) fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(work)
}

impl Tasks {
    pub(super) fn start(self, stopped: &watch::Receiver<bool>) -> Background {
        let mut set = JoinSet::new();
        let wake = Arc::new(Wake::default());
        let mut run =
            |name: &'static str, work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
                let mut stopped = stopped.clone();
                set.spawn(async move {
                tokio::select! {
                    () = work => tracing::error!(task = name, "background task ended unexpectedly"),
                    _ = stopped.wait_for(|stop| *stop) => {}
                }
                name
            });
            };
        let storage = Arc::clone(&self.storage);
        run("database check", Box::pin(async move { storage.watch_database().await }));
        let storage = Arc::clone(&self.storage);
        run("disk space", Box::pin(async move { storage.watch_disk().await }));
        let news = Arc::clone(&wake);
        let feed = Arc::clone(&self.api.feed);
        run("change feed", Box::pin(async move { feed.look().await }));
        let check = || Arc::clone(&self.clock_check);
        run("clock", Box::pin(check().run()));
        let months = turn_months(self.db.clone(), check(), self.keep_history_days);
        run("history months", Box::pin(months));
        run("failed events", Box::pin(clean_up(self.failed, check())));
        run("news", Box::pin(listen(self.db, self.api.clone(), news)));
        let poll = Arc::clone(&wake);
        run("lineup poll", Box::pin(poll_lineup(self.api.clone(), poll, self.poll)));
        run("key refresh", Box::pin(refresh_keys(self.api, self.refresh_keys)));
        let rollout = Rollout { registry: Arc::clone(&self.training.registry) };
        run("rollout", Box::pin(roll_out(rollout, check(), self.poll)));
        let train = Arc::clone(&wake);
        run(
            "training",
            Box::pin(train_queued(Arc::clone(&self.training), check(), train, self.poll)),
        );
        run("schedule", Box::pin(keep_schedule(self.training, self.clock, check())));
        let rescoring = || RescoringConditions {
            clock: Arc::clone(&self.clock_check),
            storage: Arc::clone(&self.storage),
        };
        run("recheck", Box::pin(recheck(self.rechecker, rescoring())));
        run("reassignment", Box::pin(reassign(self.reassigner, rescoring(), wake, self.poll)));
        run("policy", Box::pin(react(self.reactor, check(), self.react_every)));
        run("alerts", Box::pin(keep_alerts(self.watcher, self.sender, check())));
        if self.sampler.customers > 0 {
            run("skew", Box::pin(sample(self.sampler)));
        }
        Background(set)
    }
}

impl Background {
    /// Waits for the tasks to end; aborts and counts those still running at the deadline.
    pub(super) async fn stop(&mut self, deadline: Duration) {
        let all = async { while self.0.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, all).await.is_err() {
            tracing::warn!(
                late = self.0.len(),
                "background tasks aborted at the shutdown deadline"
            );
            self.0.shutdown().await;
        }
    }
}

/// Workers of ingestion, exports, shadows, drift, sources and deliveries. They outlast the
/// other tasks: requests in progress wait for them, and a delivery in progress completes.
#[derive(Debug)]
pub(super) struct Workers {
    running: JoinSet<()>,
    _threads: Vec<OwnThread>,
    stop: watch::Sender<bool>,
}

impl Workers {
    pub(super) fn start(
        intake: Vec<ingestion::Worker>,
        exports: export::Worker,
        reading: OwnThread,
        shadows: shadow::Worker,
        drift: Option<(Arc<Drift>, Arc<ClockCheck>)>,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        let mut threads = Vec::new();
        let until = || {
            let mut stopped = stopped.clone();
            async move {
                // An error means that the sender was dropped, which also means stop.
                let _ = stopped.wait_for(|stop| *stop).await;
            }
        };
        for worker in intake {
            let thread = OwnThread::start("intake")?;
            running.spawn_on(worker.run(until()), thread.handle());
            threads.push(thread);
        }
        running.spawn_on(exports.run(until()), reading.handle());
        threads.push(reading);
        running.spawn(shadows.run(until()));
        if let Some((drift, check)) = drift {
            running.spawn(drift.run(check, until()));
        }
        Ok(Self { running, _threads: threads, stop })
    }

    /// Starts the delivery of notifications.
    pub(super) fn deliver(&mut self, deliverer: Deliverer) {
        let mut stopped = self.stop.subscribe();
        self.running.spawn(async move {
            deliverer
                .run(async {
                    // An error means that the sender was dropped, which also means stop.
                    let _ = stopped.wait_for(|stop| *stop).await;
                })
                .await;
        });
    }

    /// Starts monitoring of event sources.
    pub(super) fn watch_sources(&mut self, sources: Arc<Sources>, check: Arc<ClockCheck>) {
        let mut stopped = self.stop.subscribe();
        self.running.spawn(sources.run(check, async move {
            // An error means that the sender was dropped, which also means stop.
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
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
struct Wake {
    training: Notify,
    reassignment: Notify,
}

/// Handles notifications of other replicas. After a lost connection it refreshes
/// everything, because some may have been missed.
async fn listen(db: Db, api: ApiState, wake: Arc<Wake>) {
    loop {
        let listened = async {
            let mut listener = Listener::connect(&db).await?;
            // Catches up on notifications sent before this listener connected.
            api.alerts.wake.notify_one();
            loop {
                match listener.next().await? {
                    Some(News::Lineup) => refresh_lineup(&api, &wake).await,
                    Some(News::Keys) => log("keys", api.access.refresh().await),
                    Some(News::Runs) => wake.training.notify_one(),
                    Some(News::Alerts) => api.alerts.wake.notify_one(),
                    None => {
                        refresh_lineup(&api, &wake).await;
                        log("keys", api.access.refresh().await);
                        wake.training.notify_one();
                        api.alerts.wake.notify_one();
                    }
                }
            }
        };
        let ended: Result<(), crate::store::StoreError> = listened.await;
        log("news", ended.map_err(ServiceError::from));
        tokio::time::sleep(AFTER_FAILURE).await;
    }
}

async fn poll_lineup(api: ApiState, wake: Arc<Wake>, every: Duration) {
    loop {
        refresh_lineup(&api, &wake).await;
        tokio::time::sleep(every).await;
    }
}

async fn refresh_lineup(api: &ApiState, wake: &Wake) {
    let before = api.live.lineup().generation;
    log("lineup", api.live.refresh().await);
    log("shadow", api.registry.shadows.refresh().await);
    log("policy", api.registry.policies.refresh().await);
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
    training: Arc<Training>,
    check: Arc<ClockCheck>,
    wake: Arc<Wake>,
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

async fn keep_schedule(training: Arc<Training>, clock: Clock, check: Arc<ClockCheck>) {
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
            let nap = Duration::from_millis(left.unsigned_abs()).min(LONGEST_NAP);
            tokio::time::sleep(nap).await;
            continue;
        }
        let spec = training.default_spec();
        log("schedule", training.request(spec, "schedule", Some(at)).await.map(|_| ()));
        due = training.next_due();
    }
}

async fn turn_months(db: Db, check: Arc<ClockCheck>, keep_days: u32) {
    loop {
        check.right().await;
        match history::turn_months(&db, check.clock().now(), keep_days).await {
            Ok(0) => {}
            Ok(months) => tracing::info!(months, "expired history partitions dropped"),
            Err(error) => {
                log("history months", Err(error));
                tokio::time::sleep(TURN_MONTHS_AGAIN).await;
                continue;
            }
        }
        tokio::time::sleep(TURN_MONTHS_EVERY).await;
    }
}

async fn clean_up(failed: Arc<FailedEvents>, check: Arc<ClockCheck>) {
    loop {
        check.right().await;
        match failed.clean_up().await {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, "expired rejected events deleted"),
            Err(error) => log("failed events", Err(error)),
        }
        tokio::time::sleep(CLEAN_UP_EVERY).await;
    }
}

async fn reassign(
    reassigner: Reassigner,
    conditions: RescoringConditions,
    wake: Arc<Wake>,
    poll: Duration,
) {
    loop {
        conditions.hold().await;
        match reassigner.run().await {
            Ok(0) => {}
            Ok(customers) => {
                tracing::info!(customers, "customers rescored after a deployment change")
            }
            Err(error) => log("reassignment", Err(error)),
        }
        let _ = tokio::time::timeout(poll, wake.reassignment.notified()).await;
    }
}

async fn recheck(rechecker: Rechecker, conditions: RescoringConditions) {
    loop {
        conditions.hold().await;
        match rechecker.run().await {
            Ok(0) => {}
            Ok(customers) => tracing::debug!(customers, "customers rescored on schedule"),
            Err(error) => log("recheck", Err(error)),
        }
        tokio::time::sleep(rechecker.period).await;
    }
}

/// Preconditions of rescoring, which may write every stored customer.
#[derive(Debug)]
struct RescoringConditions {
    clock: Arc<ClockCheck>,
    storage: Arc<Storage>,
}

impl RescoringConditions {
    /// Waits until the clock is right and the disk has space.
    async fn hold(&self) {
        self.clock.right().await;
        while !self.storage.has_room() {
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }
}

async fn roll_out(rollout: Rollout, check: Arc<ClockCheck>, every: Duration) {
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
async fn keep_alerts(watcher: Watcher, sender: Arc<Sender>, check: Arc<ClockCheck>) {
    let alerts = Arc::clone(&watcher.alerts);
    loop {
        check.right().await;
        log("drift check", watcher.run().await);
        check.right().await;
        log("alerts", alerts.sweep().await);
        check.right().await;
        log("keep alive", alerts.keep_alive(&sender).await);
        // The clock may go wrong during each step; this one deletes data.
        check.right().await;
        log("old alerts", alerts.clean_up().await);
        tokio::time::sleep(alerts.settings.poll).await;
    }
}

async fn react(reactor: Arc<Reactor>, check: Arc<ClockCheck>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        check.right().await;
        log("policy", reactor.run().await);
    }
}

async fn sample(sampler: Sampler) {
    loop {
        tokio::time::sleep(sampler.every).await;
        log("skew", sampler.run().await.map(|_| ()));
    }
}

fn log(task: &'static str, outcome: Result<(), ServiceError>) {
    if let Err(error) = outcome {
        tracing::warn!(task, error = %Chain(&error), "background task failed; it will retry");
    }
}
