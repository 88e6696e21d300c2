//! The periodic background tasks: what each one does, and when.
//!
//! Each is restarted after a panic ([`crate::app::task_supervisor`]). A task reads what it
//! works on from Postgres or from a shared service, so a new one continues; exceptions are
//! noted where the task starts. The workers of requests are in [`crate::app::workers`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::api::ApiState;
use crate::app::task_supervisor::{TaskGroup, TaskSupervisor};
use crate::outbound::NotificationSender;
use crate::service::ServiceError;
use crate::service::automation::actions::PolicyActions;
use crate::service::clock::TimeSource;
use crate::service::consistency_check::ConsistencyCheck;
use crate::service::drift::monitor::DriftMonitor;
use crate::service::error::ErrorChain;
use crate::service::failed_events::FailedEventStore;
use crate::service::health::clock_check::ClockCheck;
use crate::service::health::storage::StorageMonitor;
use crate::service::models::rollout::AutomaticRollout;
use crate::service::rescoring::on_deployment_change::BulkRescorer;
use crate::service::rescoring::on_time::ScheduledRescorer;
use crate::service::scoring::history;
use crate::service::scoring::segment_sizes::SegmentSizeMonitor;
use crate::service::training::TrainingService;
use crate::store::DatabaseHandle;
use crate::store::database::connect::{ChangeListener, ChangeTopic};
use crate::telemetry::labels::BackgroundTask;
use crate::telemetry::repeated_failures::count_failure;

/// Dependencies of the background tasks.
#[derive(Debug)]
pub(super) struct BackgroundTasks {
    pub(super) db: DatabaseHandle,
    pub(super) storage: Arc<StorageMonitor>,
    pub(super) api: ApiState,
    pub(super) training: Arc<TrainingService>,
    pub(super) bulk_rescorer: Arc<BulkRescorer>,
    pub(super) scheduled_rescorer: Arc<ScheduledRescorer>,
    pub(super) rollout: Arc<AutomaticRollout>,
    pub(super) consistency_check: Arc<ConsistencyCheck>,
    pub(super) failed: Arc<FailedEventStore>,
    pub(super) drift_monitor: Arc<DriftMonitor>,
    pub(super) policy_actions: Arc<PolicyActions>,
    pub(super) policy_interval: Duration,
    pub(super) sender: Arc<NotificationSender>,
    pub(super) poll: Duration,
    pub(super) refresh_keys: Duration,
    pub(super) keep_history_days: u32,
    pub(super) clock_check: Arc<ClockCheck>,
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
/// Interval at which the last use of each API key is stored.
const KEY_USE_INTERVAL: Duration = Duration::from_mins(1);
/// Longest sleep until a scheduled time, so that a changed clock is noticed.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

impl BackgroundTasks {
    /// Starts the tasks. They stop once `stopped` is cancelled.
    pub(super) fn start(
        &self,
        supervisor: TaskSupervisor,
        stopped: CancellationToken,
    ) -> TaskGroup {
        let mut group = TaskGroup::new(supervisor, stopped);
        let wake = Arc::new(WakeSignals::default());
        self.start_checks(&mut group);
        self.start_retention(&mut group);
        self.start_refreshes(&mut group, &wake);
        self.start_training(&mut group, &wake);
        self.start_rescoring(&mut group, &wake);
        self.start_alerting(&mut group);
        group
    }

    /// Checks of the database, the disk, the clock and the stored states; sizes and values of segments.
    fn start_checks(&self, group: &mut TaskGroup) {
        let storage = Arc::clone(&self.storage);
        group.spawn_loop(BackgroundTask::DatabaseCheck, move || {
            let storage = Arc::clone(&storage);
            async move { storage.monitor_database().await }
        });
        // A new check knows no earlier level of free space, so it stores the alert again, which
        // changes nothing.
        let storage = Arc::clone(&self.storage);
        group.spawn_loop(BackgroundTask::DiskCheck, move || {
            let storage = Arc::clone(&storage);
            async move { storage.monitor_disk().await }
        });
        let clock_check = Arc::clone(&self.clock_check);
        group.spawn_loop(BackgroundTask::ClockCheck, move || {
            Arc::clone(&clock_check).read_periodically()
        });
        let sizes = Arc::new(SegmentSizeMonitor::new(
            self.api.db.clone(),
            Arc::clone(&self.api.deployments),
            Arc::clone(&self.api.metrics),
        ));
        group.spawn_loop(BackgroundTask::SegmentSizes, move || Arc::clone(&sizes).run());
        let (values, check) = (Arc::clone(&self.api.segment_values), Arc::clone(&self.clock_check));
        group.spawn_loop(BackgroundTask::SegmentValue, move || {
            Arc::clone(&values).run(Arc::clone(&check))
        });
        if self.consistency_check.is_enabled() {
            let consistency_check = Arc::clone(&self.consistency_check);
            group.spawn_loop(BackgroundTask::ConsistencyCheck, move || {
                check_consistency(Arc::clone(&consistency_check))
            });
        }
    }

    /// Deletion of expired data.
    fn start_retention(&self, group: &mut TaskGroup) {
        let (db, check) = (self.db.clone(), Arc::clone(&self.clock_check));
        let keep_days = self.keep_history_days;
        group.spawn_loop(BackgroundTask::HistoryPartitions, move || {
            maintain_partitions(db.clone(), Arc::clone(&check), keep_days)
        });
        let (failed, check) = (Arc::clone(&self.failed), Arc::clone(&self.clock_check));
        group.spawn_loop(BackgroundTask::RejectedEvents, move || {
            clean_up(Arc::clone(&failed), Arc::clone(&check))
        });
    }

    /// Propagation of changes by other replicas. Notifications that are lost with a task reach
    /// this process by the polls.
    fn start_refreshes(&self, group: &mut TaskGroup, wake: &Arc<WakeSignals>) {
        let feed = Arc::clone(&self.api.change_feed);
        group.spawn_loop(BackgroundTask::ChangeFeed, move || {
            let feed = Arc::clone(&feed);
            async move { feed.poll().await }
        });
        let (db, api, signals) = (self.db.clone(), self.api.clone(), Arc::clone(wake));
        group.spawn_loop(BackgroundTask::Notifications, move || {
            listen(db.clone(), api.clone(), Arc::clone(&signals))
        });
        let (api, signals, poll) = (self.api.clone(), Arc::clone(wake), self.poll);
        group.spawn_loop(BackgroundTask::DeploymentPoll, move || {
            poll_deployment(api.clone(), Arc::clone(&signals), poll)
        });
        let (api, every) = (self.api.clone(), self.refresh_keys);
        group.spawn_loop(BackgroundTask::KeyRefresh, move || refresh_keys(api.clone(), every));
        let api = self.api.clone();
        group.spawn_loop(BackgroundTask::KeyUses, move || store_key_uses(api.clone()));
    }

    /// Training runs, their schedule, and the stages of new models.
    fn start_training(&self, group: &mut TaskGroup, wake: &Arc<WakeSignals>) {
        let rollout = Arc::clone(&self.rollout);
        let (check, poll) = (Arc::clone(&self.clock_check), self.poll);
        group.spawn_loop(BackgroundTask::Rollout, move || {
            roll_out(Arc::clone(&rollout), Arc::clone(&check), poll)
        });
        // A panic closes the session of the lease, as the death of a replica does, so the runs
        // go on at the restart or on another replica.
        let (training, check) = (Arc::clone(&self.training), Arc::clone(&self.clock_check));
        let signals = Arc::clone(wake);
        group.spawn_loop(BackgroundTask::TrainingQueue, move || {
            train_queued(Arc::clone(&training), Arc::clone(&check), Arc::clone(&signals), poll)
        });
        // A restart computes the next instant anew. One that passes during the restart delay is
        // omitted here, as while a replica restarts; other replicas queue its run.
        let (training, check) = (Arc::clone(&self.training), Arc::clone(&self.clock_check));
        let clock = self.api.clock.clone();
        group.spawn_loop(BackgroundTask::TrainingSchedule, move || {
            run_schedule(Arc::clone(&training), clock.clone(), Arc::clone(&check))
        });
    }

    /// Rescoring. A stored assignment shows whether it is still due, so a new task continues.
    fn start_rescoring(&self, group: &mut TaskGroup, wake: &Arc<WakeSignals>) {
        let conditions = RescoringConditions {
            clock: Arc::clone(&self.clock_check),
            storage: Arc::clone(&self.storage),
        };
        let (scheduled_rescorer, ready) =
            (Arc::clone(&self.scheduled_rescorer), conditions.clone());
        group.spawn_loop(BackgroundTask::ScheduledRescoring, move || {
            rescore_on_schedule(Arc::clone(&scheduled_rescorer), ready.clone())
        });
        let (bulk_rescorer, ready) = (Arc::clone(&self.bulk_rescorer), conditions);
        let (signals, poll) = (Arc::clone(wake), self.poll);
        group.spawn_loop(BackgroundTask::BulkRescoring, move || {
            rescore_on_deployment_change(
                Arc::clone(&bulk_rescorer),
                ready.clone(),
                Arc::clone(&signals),
                poll,
            )
        });
    }

    /// Alerts and the automatic policy.
    fn start_alerting(&self, group: &mut TaskGroup) {
        let (policy_actions, every) = (Arc::clone(&self.policy_actions), self.policy_interval);
        let check = Arc::clone(&self.clock_check);
        group.spawn_loop(BackgroundTask::Policy, move || {
            apply_policy(Arc::clone(&policy_actions), Arc::clone(&check), every)
        });
        let (drift_monitor, sender) = (Arc::clone(&self.drift_monitor), Arc::clone(&self.sender));
        let check = Arc::clone(&self.clock_check);
        group.spawn_loop(BackgroundTask::Alerts, move || {
            maintain_alerts(Arc::clone(&drift_monitor), Arc::clone(&sender), Arc::clone(&check))
        });
    }
}

/// Signals that wake tasks before their next poll.
#[derive(Debug, Default)]
struct WakeSignals {
    training: Notify,
    bulk_rescoring: Notify,
}

/// Handles notifications of other replicas. After a lost connection it refreshes
/// everything, because some may have been missed.
async fn listen(db: DatabaseHandle, api: ApiState, wake: Arc<WakeSignals>) {
    loop {
        let listened = async {
            let mut listener = ChangeListener::connect(&db).await?;
            // Notifications sent before this listener connected are missed.
            catch_up(&api, &wake).await;
            loop {
                match listener.next_topic().await? {
                    Some(ChangeTopic::Deployment) => refresh_deployment(&api, &wake).await,
                    Some(ChangeTopic::ApiKeys) => log("keys", api.api_keys.refresh().await),
                    Some(ChangeTopic::TrainingRuns) => wake.training.notify_one(),
                    Some(ChangeTopic::Deliveries) => api.alerts.wake_delivery(),
                    None => catch_up(&api, &wake).await,
                }
            }
        };
        let ended: Result<(), crate::store::StoreError> = listened.await;
        log("notifications", ended.map_err(ServiceError::from));
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// Refreshes everything that notifications are about.
async fn catch_up(api: &ApiState, wake: &WakeSignals) {
    refresh_deployment(api, wake).await;
    log("keys", api.api_keys.refresh().await);
    wake.training.notify_one();
    api.alerts.wake_delivery();
}

async fn poll_deployment(api: ApiState, wake: Arc<WakeSignals>, every: Duration) {
    loop {
        refresh_deployment(&api, &wake).await;
        tokio::time::sleep(every).await;
    }
}

async fn refresh_deployment(api: &ApiState, wake: &WakeSignals) {
    let before = api.deployments.current().freshness_bounds();
    log("deployment", api.deployments.refresh_deployment().await);
    log("shadow", api.registry.refresh_shadows().await);
    log("policy", api.policies.refresh().await);
    if api.deployments.current().freshness_bounds() != before {
        wake.bulk_rescoring.notify_one();
    }
}

async fn refresh_keys(api: ApiState, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        log("keys", api.api_keys.refresh().await);
    }
}

/// Stores the last use of each API key: at most one write a minute, for all keys together.
async fn store_key_uses(api: ApiState) {
    let mut since = api.clock.now();
    loop {
        tokio::time::sleep(KEY_USE_INTERVAL).await;
        match api.key_registry.store_uses(&api.api_keys, since).await {
            Ok(now) => since = now,
            Err(error) => log("last uses of keys", Err(error)),
        }
    }
}

async fn train_queued(
    training: Arc<TrainingService>,
    check: Arc<ClockCheck>,
    wake: Arc<WakeSignals>,
    poll: Duration,
) {
    loop {
        check.wait_until_right().await;
        log("training", training.execute_queued_runs().await.map(|_| ()));
        wake.bulk_rescoring.notify_one();
        // A notification may be lost; polling finds the run.
        let _ = tokio::time::timeout(poll, wake.training.notified()).await;
    }
}

async fn run_schedule(training: Arc<TrainingService>, clock: TimeSource, check: Arc<ClockCheck>) {
    let mut due = training.next_scheduled();
    loop {
        check.wait_until_right().await;
        let Some(mut at) = due else {
            std::future::pending::<()>().await;
            return;
        };
        // A clock that was set back makes an earlier time the next one.
        if let Some(next) = training.next_scheduled().filter(|next| *next < at) {
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
        log("schedule", training.request_run(spec, "schedule", Some(at)).await.map(|_| ()));
        due = training.next_scheduled();
    }
}

async fn maintain_partitions(db: DatabaseHandle, check: Arc<ClockCheck>, keep_days: u32) {
    loop {
        check.wait_until_right().await;
        match history::rotate_partitions(&db, check.clock().now(), keep_days).await {
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
        check.wait_until_right().await;
        match failed.delete_expired().await {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, "expired rejected events deleted"),
            Err(error) => log("rejected events", Err(error)),
        }
        tokio::time::sleep(CLEAN_UP_INTERVAL).await;
    }
}

async fn rescore_on_deployment_change(
    bulk_rescorer: Arc<BulkRescorer>,
    conditions: RescoringConditions,
    wake: Arc<WakeSignals>,
    poll: Duration,
) {
    loop {
        conditions.wait().await;
        match bulk_rescorer.rescore_stale().await {
            Ok(0) => {}
            Ok(customers) => {
                tracing::info!(
                    customers,
                    "customers rescored after a change of the deployment or of audiences"
                );
            }
            Err(error) => log("rescoring after deployment change", Err(error)),
        }
        let _ = tokio::time::timeout(poll, wake.bulk_rescoring.notified()).await;
    }
}

async fn rescore_on_schedule(
    scheduled_rescorer: Arc<ScheduledRescorer>,
    conditions: RescoringConditions,
) {
    loop {
        conditions.wait().await;
        match scheduled_rescorer.rescore_due().await {
            Ok(0) => {}
            Ok(customers) => tracing::debug!(customers, "customers rescored on schedule"),
            Err(error) => log("scheduled rescoring", Err(error)),
        }
        tokio::time::sleep(scheduled_rescorer.idle_pause()).await;
    }
}

/// Preconditions of rescoring, which may write every stored customer.
#[derive(Debug, Clone)]
struct RescoringConditions {
    clock: Arc<ClockCheck>,
    storage: Arc<StorageMonitor>,
}

impl RescoringConditions {
    /// Waits until the clock is right and the disk has space.
    async fn wait(&self) {
        self.clock.wait_until_right().await;
        while !self.storage.has_disk_space() {
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }
}

async fn roll_out(rollout: Arc<AutomaticRollout>, check: Arc<ClockCheck>, every: Duration) {
    loop {
        check.wait_until_right().await;
        match rollout.take_due_steps().await {
            Ok(0) => {}
            Ok(steps) => tracing::info!(steps, "models advanced to their next stage"),
            Err(error) => log("rollout", Err(error)),
        }
        tokio::time::sleep(every).await;
    }
}

/// Periodic alerting work: drift checks, escalation, heartbeats, retention.
async fn maintain_alerts(
    drift_monitor: Arc<DriftMonitor>,
    sender: Arc<NotificationSender>,
    check: Arc<ClockCheck>,
) {
    let alerts = Arc::clone(drift_monitor.alerts());
    loop {
        check.wait_until_right().await;
        log("drift check", drift_monitor.check_if_due().await);
        check.wait_until_right().await;
        log("alerts", alerts.notify_due_alerts().await);
        check.wait_until_right().await;
        log("alert heartbeat", alerts.keep_alive(&sender).await);
        // The clock may go wrong during each step; this one deletes data.
        check.wait_until_right().await;
        log("alert retention", alerts.delete_expired().await);
        tokio::time::sleep(alerts.poll_interval()).await;
    }
}

async fn apply_policy(policy_actions: Arc<PolicyActions>, check: Arc<ClockCheck>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        check.wait_until_right().await;
        log("policy", policy_actions.take_due_actions().await);
    }
}

async fn check_consistency(consistency_check: Arc<ConsistencyCheck>) {
    loop {
        tokio::time::sleep(consistency_check.interval()).await;
        log("state consistency check", consistency_check.run_round().await.map(|_| ()));
    }
}

fn log(task: &'static str, outcome: Result<(), ServiceError>) {
    let Err(error) = outcome else { return };
    let error = ErrorChain(&error).to_string();
    if let Some(repeated) = count_failure(task, &error) {
        tracing::warn!(task, error, "background task failed; it will retry{repeated}");
    }
}
