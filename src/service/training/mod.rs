//! Training: runs requested through the API or due by schedule, executed by one replica at a
//! time.

mod alert;
pub mod fit;
mod past_assignments;
pub mod predecessor;
mod progress;
pub(crate) mod run;
pub mod snapshot;

use std::sync::Arc;

use crate::config;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::feature::{FeatureSet, ValueType};
use crate::domain::id::RunId;
use crate::domain::text::{self, MAX_FREE_TEXT_CHARS};
use crate::domain::time::Timestamp;
use crate::domain::train::selection::baseline::RfmFeatures;
use crate::domain::train::selection::criteria::CandidateGates;
use crate::domain::train::{CheckedTrainingSpec, SearchEffort, TrainingSpec};
use crate::service::alerts::AlertService;
use crate::service::clock::TimeSource;
use crate::service::models::refusal_alert::RefusalAlert;
use crate::service::models::registry::ModelRegistry;
use crate::service::scoring::serving::ServingState;
use crate::service::{ServiceError, random};
use crate::store::database::lease::LeaseName;
use crate::store::models::runs;
use crate::store::models::runs::{KEY_TRIGGER, NewTrainingRun};
use crate::store::{DatabaseHandle, DatabaseTransaction};
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::RefusingLimit;

pub use progress::stage_seconds_left;

/// Queues and executes training runs.
#[derive(Debug)]
pub struct TrainingService {
    db: DatabaseHandle,
    registry: Arc<ModelRegistry>,
    serving: Arc<ServingState>,
    clock: TimeSource,
    settings: config::TrainingSettings,
    alerts: Arc<AlertService>,
    refusals: RefusalAlert,
    metrics: Arc<ServiceMetrics>,
}

/// What training depends on.
#[derive(Debug)]
pub struct TrainingDependencies {
    pub db: DatabaseHandle,
    pub registry: Arc<ModelRegistry>,
    pub serving: Arc<ServingState>,
    pub clock: TimeSource,
    pub settings: config::TrainingSettings,
    pub alerts: Arc<AlertService>,
    pub refusals: RefusalAlert,
    pub metrics: Arc<ServiceMetrics>,
}

/// The purpose of a run.
#[derive(Debug, Clone, Default)]
pub struct RunPurpose {
    /// A what-if run: its model is never promoted automatically, whatever the settings.
    pub is_what_if: bool,
    /// Free text of the requester, stored with the run.
    pub reason: Option<String>,
}

/// `Retry-After` of a refused run: few runs end sooner.
const QUEUE_RETRY_AFTER_SECONDS: u64 = 60;

/// The default training spec, from the settings and the declared features.
pub(crate) fn configured_spec(
    settings: &config::TrainingSettings,
    features: &FeatureSet,
) -> TrainingSpec {
    let rfm = features.rfm().clone();
    TrainingSpec {
        segments: settings.segments,
        algorithms: settings.algorithms.clone(),
        distance: settings.distance,
        components: settings.components,
        starts: settings.starts,
        max_iterations: settings.max_iterations,
        tolerance: settings.tolerance,
        seed: settings.seed,
        holdout_share: settings.holdout_share,
        minimum_rows: settings.min_customers,
        sample: Some(settings.max_rows),
        outcomes: settings.outcomes.clone(),
        backtest_horizons_days: settings.backtest_horizons_days.clone(),
        gates: CandidateGates {
            smallest_share: Some(settings.smallest_share),
            ..CandidateGates::default()
        },
        baseline: Some(RfmFeatures {
            recency: rfm.recency.feature,
            frequency: rfm.frequency.feature,
            monetary: rfm.monetary.feature,
        }),
        ..TrainingSpec::default()
    }
}

/// Completes and validates a spec against the features. `sample` never exceeds
/// `training.max_rows`, which bounds the memory of a run.
pub(crate) fn validate_spec(
    mut spec: TrainingSpec,
    settings: &config::TrainingSettings,
    features: &FeatureSet,
) -> Result<CheckedTrainingSpec, ValidationFaults> {
    let sample = *spec.sample.get_or_insert(settings.max_rows);
    if sample > settings.max_rows {
        let most = settings.max_rows;
        let problem = format!("must be at most {most} (`training.max_rows`), is {sample}");
        return Err(ValidationFaults::single("sample", problem));
    }
    let spec = spec.check()?;
    spec.spec().check_features(features.features())?;
    check_outcome_types(&spec.spec().outcomes, features)?;
    SearchEffort::from_spec(spec.spec()).check(settings.max_fits)?;
    Ok(spec)
}

/// Validates configured outcomes as a training run with the default settings does.
pub(crate) fn check_outcomes(
    outcomes: &[Box<str>],
    features: &FeatureSet,
) -> Result<(), ValidationFaults> {
    let spec = TrainingSpec { outcomes: outcomes.to_vec(), ..TrainingSpec::default() };
    spec.check()?.spec().check_features(features.features())?;
    check_outcome_types(outcomes, features)
}

/// Checks that the outcomes, which are features of the set, are numbers.
fn check_outcome_types(
    outcomes: &[Box<str>],
    features: &FeatureSet,
) -> Result<(), ValidationFaults> {
    let mut faults = ValidationFaults::default();
    for (place, name) in outcomes.iter().enumerate() {
        let index = features.index_of(name);
        if index.is_some_and(|index| features.value_type_at(index) != ValueType::Number) {
            let problem = format!("`{name}` is a text: an outcome is a number");
            faults.push(ValidationFault::new(format!("outcomes[{place}]"), problem));
        }
    }
    faults.into_result(())
}

impl TrainingService {
    pub fn new(dependencies: TrainingDependencies) -> Self {
        let TrainingDependencies {
            db,
            registry,
            serving,
            clock,
            settings,
            alerts,
            refusals,
            metrics,
        } = dependencies;
        Self { db, registry, serving, clock, settings, alerts, refusals, metrics }
    }

    /// The default spec of a run.
    pub fn default_spec(&self) -> TrainingSpec {
        configured_spec(&self.settings, &self.serving.snapshot().features)
    }

    /// Queues a run. `None`: the scheduled instant already has a run.
    pub async fn request_run(
        &self,
        spec: TrainingSpec,
        trigger: &str,
        due_at: Option<Timestamp>,
    ) -> Result<Option<RunId>, ServiceError> {
        self.request_run_for(spec, trigger, due_at, RunPurpose::default()).await
    }

    /// As [`Self::request_run`], with a purpose.
    pub async fn request_run_for(
        &self,
        spec: TrainingSpec,
        trigger: &str,
        due_at: Option<Timestamp>,
        purpose: RunPurpose,
    ) -> Result<Option<RunId>, ServiceError> {
        // Commits together: the run and its announcement.
        let mut tx = self.db.begin().await?;
        let queued = self.enqueue_run(&mut tx, spec, trigger, due_at, purpose).await?;
        tx.commit().await?;
        Ok(queued)
    }

    /// As [`Self::request_run_for`], in the caller's transaction.
    pub(in crate::service) async fn enqueue_run(
        &self,
        tx: &mut DatabaseTransaction,
        spec: TrainingSpec,
        trigger: &str,
        due_at: Option<Timestamp>,
        purpose: RunPurpose,
    ) -> Result<Option<RunId>, ServiceError> {
        let reason = purpose.reason.as_deref().unwrap_or_default();
        let reason = text::check_free_text("reason", reason, MAX_FREE_TEXT_CHARS)?;
        let reason = Some(reason.as_str()).filter(|reason| !reason.is_empty());
        let features = Arc::clone(&self.serving.snapshot().features);
        let spec = validate_spec(spec, &self.settings, &features).map_err(ServiceError::Invalid)?;
        let run: RunId = format!("run_{}", random::hex_token::<8>()?)
            .try_into()
            .map_err(ServiceError::internal)?;
        let spec = serde_json::to_value(spec.spec()).map_err(ServiceError::internal)?;
        let what_if = purpose.is_what_if;
        if trigger.starts_with(KEY_TRIGGER) {
            self.check_queue(tx, trigger).await?;
        }
        let new = NewTrainingRun {
            run_id: &run,
            trigger,
            due_at,
            is_what_if: what_if,
            reason,
            spec: &spec,
        };
        let queued = runs::enqueue(tx, &new, self.clock.now()).await?;
        Ok(queued.then_some(run))
    }

    /// Refuses a run requested by a key while too many requested runs are queued or running.
    async fn check_queue(
        &self,
        tx: &mut DatabaseTransaction,
        trigger: &str,
    ) -> Result<(), ServiceError> {
        let requested = runs::count_requested(tx, trigger).await?;
        let (most, own) = (self.settings.max_queued_runs, self.settings.max_queued_runs_per_key);
        let detail = if requested.own >= i64::from(own) {
            format!(
                "{own} runs of this key are queued or running (training.max_queued_runs_per_key)"
            )
        } else if requested.all >= i64::from(most) {
            format!("{most} requested runs are queued or running (training.max_queued_runs)")
        } else {
            return Ok(());
        };
        self.metrics.limits.refusals.add(RefusingLimit::QueuedRuns, 1);
        let retry_after_seconds = QUEUE_RETRY_AFTER_SECONDS;
        Err(ServiceError::OverLimit { detail: detail.into(), retry_after_seconds })
    }

    /// Cancels a run. A queued run never starts; a running one stops soon, on any replica, and
    /// stores no model. Idempotent.
    pub async fn cancel_run(&self, run: &RunId, by: &str) -> Result<(), ServiceError> {
        let why = format!("cancelled by {by}");
        // Commits alone: the run's end, which the executing replica polls.
        let mut tx = self.db.begin().await?;
        let cancelled = runs::cancel(&mut tx, run, &why, self.clock.now()).await?;
        tx.commit().await?;
        if cancelled {
            return Ok(());
        }
        let found = runs::find(self.db.read(), run).await?;
        let status = found.map(|found| found.status);
        match status.as_deref() {
            Some("cancelled") => Ok(()),
            Some(status) => Err(ServiceError::Conflict(format!("the run has already {status}"))),
            None => Err(ServiceError::NotFound(format!("training run `{run}`"))),
        }
    }

    /// Executes queued runs until the queue is empty; returns how many. Does nothing while
    /// another replica trains.
    pub async fn execute_queued_runs(&self) -> Result<u64, ServiceError> {
        self.execute_with_lease(None).await
    }

    /// Executes queued runs until `run` has ended; later ones are left to the replicas. Does
    /// nothing while another replica trains.
    pub(crate) async fn execute_queued_runs_up_to(&self, run: &RunId) -> Result<(), ServiceError> {
        self.execute_with_lease(Some(run)).await.map(|_| ())
    }

    async fn execute_with_lease(&self, last: Option<&RunId>) -> Result<u64, ServiceError> {
        let Some(mut lease) = self.db.try_lease(LeaseName::Training).await? else {
            return Ok(0);
        };
        let mut done = 0;
        let outcome = loop {
            if let Err(error) = lease.verify().await {
                break Err(error.into());
            }
            if let Some(last) = last {
                match self.is_finished(last).await {
                    Ok(false) => {}
                    Ok(true) => break Ok(done),
                    Err(error) => break Err(error),
                }
            }
            match self.execute_next().await {
                Ok(true) => done += 1,
                Ok(false) => break Ok(done),
                Err(error) => break Err(error),
            }
        };
        lease.release().await;
        outcome
    }

    /// Whether a run has ended, in whatever way.
    pub(crate) async fn is_finished(&self, run: &RunId) -> Result<bool, ServiceError> {
        let row = runs::find(self.db.read(), run).await?;
        let row = row.ok_or_else(|| ServiceError::NotFound(format!("training run `{run}`")))?;
        Ok(row.finished_at.is_some())
    }

    /// The next instant of the schedule; `None` without one.
    pub(crate) fn next_scheduled(&self) -> Option<Timestamp> {
        self.settings.schedule.as_ref()?.next_after(self.clock.now())
    }
}
