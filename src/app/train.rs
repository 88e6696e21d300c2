//! Training, with the automatic steps of the models that it has trained, the value of segments over
//! time, and a training run requested on the command line. Such a run is queued like every other: this process executes it,
//! or waits for the replica that does.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Map, Value};

use crate::app::Application;
use crate::app::parts::{CommonParts, ModelParts};
use crate::domain::id::RunId;
use crate::domain::model::Model;
use crate::service::ServiceError;
use crate::service::alerts::AlertService;
use crate::service::limits::heavy::HeavyWorkPool;
use crate::service::models::refusal_alert::RefusalAlert;
use crate::service::models::rollout::AutomaticRollout;
use crate::service::scoring::serving::ServingState;
use crate::service::segment_value::{SegmentValueDependencies, SegmentValueService};
use crate::service::training::{TrainingDependencies, TrainingService};
use crate::store::models;
use crate::store::models::runs::{self, TrainingRunRow};

/// Maximum wait for the workers of a command, which have nothing left to do.
const WORKER_STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval at which the progress is read.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The value of segments over time.
pub(super) fn segment_values(
    common: &CommonParts<'_>,
    serving: &Arc<ServingState>,
    heavy: &Arc<HeavyWorkPool>,
) -> Arc<SegmentValueService> {
    let &CommonParts { config, db, clock, .. } = common;
    let (serving, heavy) = (Arc::clone(serving), Arc::clone(heavy));
    let dependencies =
        SegmentValueDependencies { db: db.clone(), serving, clock: clock.clone(), heavy };
    Arc::new(SegmentValueService::new(dependencies, config.segment_value))
}

/// Builds both; they share the alert about refused models.
pub(super) fn build(
    common: &CommonParts<'_>,
    models: &ModelParts,
    alerts: &Arc<AlertService>,
) -> (Arc<TrainingService>, Arc<AutomaticRollout>) {
    let &CommonParts { config, db, clock, metrics } = common;
    let refusals = RefusalAlert::new(db.clone(), Arc::clone(alerts));
    let rollout = AutomaticRollout::new(
        db.read().clone(),
        clock.clone(),
        config.lifecycle.clone(),
        Arc::clone(&models.registry),
        refusals.clone(),
    );
    let training = TrainingService::new(TrainingDependencies {
        db: db.clone(),
        registry: Arc::clone(&models.registry),
        serving: Arc::clone(&models.serving),
        clock: clock.clone(),
        settings: config.training.clone(),
        alerts: Arc::clone(alerts),
        refusals,
        metrics: Arc::clone(metrics),
    });
    (Arc::new(training), Arc::new(rollout))
}

/// A successful training run and its model.
#[derive(Debug)]
pub struct FinishedTraining {
    pub run: TrainingRunRow,
    pub model: Model,
}

impl Application {
    /// Queues a training run with `changes` to the default spec.
    pub(crate) async fn request_training(
        &self,
        changes: Map<String, Value>,
    ) -> anyhow::Result<RunId> {
        let training = &self.api_state.training;
        let spec = training.default_spec().with_changes(changes)?;
        let run = training.request_run(spec, "command line", None).await;
        let run = run.map_err(|error| match error {
            // The list of problems is printed.
            ServiceError::Invalid(faults) => anyhow::Error::from(faults),
            error => error.into(),
        })?;
        run.context("the training run was not queued")
    }

    /// Waits until the run has ended, and passes its progress to `show`. Fails unless the run
    /// has trained a model.
    pub(crate) async fn wait_for_training(
        &self,
        run: &RunId,
        show: impl Fn(&TrainingRunRow),
    ) -> anyhow::Result<FinishedTraining> {
        show(&self.training_run(run).await?);
        let mut execution = pin!(self.execute_until_finished(run));
        loop {
            tokio::select! {
                executed = &mut execution => {
                    executed?;
                    break;
                }
                () = tokio::time::sleep(POLL_INTERVAL) => {
                    // A failed read must not end an execution that continues.
                    if let Ok(row) = self.training_run(run).await {
                        show(&row);
                    }
                }
            }
        }
        let row = self.training_run(run).await?;
        let Some(id) = &row.model else {
            let reason = row.error.as_deref().unwrap_or("no reason is stored");
            anyhow::bail!("training run {run} has {}: {reason}", row.status);
        };
        let bytes = models::artifact(&self.api_state.db, id).await?;
        let bytes = bytes.with_context(|| format!("the model {id} is not stored"))?;
        let model = Model::open_addressed(&bytes, id)?;
        Ok(FinishedTraining { run: row, model })
    }

    /// Closes the database of an application that has not served.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        // First, and while the services exist: a worker whose service is gone ends, and would be
        // reported as failed.
        self.workers.stop(WORKER_STOP_TIMEOUT).await;
        self.database.close().await
    }

    /// Executes queued runs up to this one whenever no other replica trains. Never dropped
    /// before its end: a model is promoted after its run has ended.
    async fn execute_until_finished(&self, run: &RunId) -> Result<(), ServiceError> {
        let training = &self.api_state.training;
        loop {
            training.execute_queued_runs_up_to(run).await?;
            if training.is_finished(run).await? {
                return Ok(());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn training_run(&self, run: &RunId) -> anyhow::Result<TrainingRunRow> {
        let row = runs::find(&self.api_state.db, run).await?;
        row.with_context(|| format!("training run {run} no longer exists"))
    }
}
