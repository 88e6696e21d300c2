//! Execution of one training run: snapshot, fit, register, promote.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::config::PromotionMode;
use crate::domain::feature::FeatureSet;
use crate::domain::id::ModelId;
use crate::domain::time::Timestamp;
use crate::domain::train::backtest::BacktestReport;
use crate::domain::train::{SamplingReport, TrainedModel, TrainingReport, TrainingSpec};
use crate::service::ServiceError;
use crate::service::error::ErrorChain;
use crate::service::models::rollout::TRAINING_AUTHOR_PREFIX;
use crate::service::models::step_request::DeploymentChange;
use crate::service::training::TrainingService;
use crate::service::training::fit::{Job, fit_model};
use crate::service::training::predecessor;
use crate::service::training::progress::RunProgress;
use crate::service::training::snapshot::{
    self, SnapshotInstant, SnapshotRequest, TrainingSnapshot,
};
use crate::store::models;
use crate::store::models::runs::TrainingRunRow;
use crate::store::models::{NewModel, feature_sets, lineage, runs};
use crate::telemetry::labels::TrainingRunOutcome;

/// The stored report of a run, beside its model.
#[derive(Debug, Serialize)]
pub(crate) struct StoredReport<'a> {
    #[serde(flatten)]
    pub trained: &'a TrainingReport,
    /// The instant that the rows describe; with the spec it reproduces the run.
    pub as_of: Timestamp,
    pub data: SamplingReport,
    /// The assignments of earlier models against what customers then did; `None` if not asked for,
    /// and for rows from tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backtest: Option<&'a BacktestReport>,
}

/// What a run has trained, with the figures that are not about the model.
struct RunResult {
    trained: TrainedModel,
    data: SamplingReport,
    backtest: Option<BacktestReport>,
}

impl TrainingService {
    /// Executes the next queued run; false if the queue is empty.
    pub(super) async fn execute_next(&self) -> Result<bool, ServiceError> {
        // Commits alone: the claim, which makes the run visible as running while it executes.
        let mut tx = self.db.begin().await?;
        let Some(run) = runs::claim(&mut tx, self.clock.now()).await? else {
            return Ok(false);
        };
        tx.commit().await?;
        let started = Instant::now();
        tracing::info!(run = %run.run_id, trigger = run.trigger, "training run started");
        let outcome = self.execute(&run).await;
        self.metrics.training.seconds.observe(started.elapsed().as_secs_f64());
        let ended = match outcome {
            Ok(Some(model)) => {
                tracing::info!(run = %run.run_id, model = model.short(), "training run finished");
                TrainingRunOutcome::Succeeded
            }
            Ok(None) => TrainingRunOutcome::Cancelled,
            Err(error) => self.record_failure(&run, error).await?,
        };
        if ended == TrainingRunOutcome::Cancelled {
            tracing::info!(run = %run.run_id, "training run cancelled");
        }
        self.metrics.training.runs.add(ended, 1);
        Ok(true)
    }

    /// Records a failed run. A cancelled run also ends in an error, which is not recorded as
    /// one.
    async fn record_failure(
        &self,
        run: &TrainingRunRow,
        error: ServiceError,
    ) -> Result<TrainingRunOutcome, ServiceError> {
        // Commits together: the run's end and the alert about it.
        let mut tx = self.db.begin().await?;
        let why = ErrorChain(&error).to_string();
        let failed = runs::mark_failed(&mut tx, &run.run_id, &why, self.clock.now()).await?;
        if failed {
            self.raise_failure_alert(&mut tx, run, &why).await?;
        }
        tx.commit().await?;
        if !failed {
            return Ok(TrainingRunOutcome::Cancelled);
        }
        tracing::warn!(run = %run.run_id, error = %ErrorChain(&error), "training run failed");
        Ok(TrainingRunOutcome::Failed)
    }

    /// Trains, registers and, if configured, promotes. `None`: the run was cancelled.
    async fn execute(&self, run: &TrainingRunRow) -> Result<Option<ModelId>, ServiceError> {
        let features = Arc::clone(&self.serving.snapshot().features);
        let as_of = self.clock.now();
        let progress = Arc::new(RunProgress::new(self.settings.max_run_duration));
        let work = Box::pin(self.train(run, &features, as_of, &progress));
        let RunResult { trained, data, backtest } =
            progress.drive(&self.db, &self.clock, &run.run_id, work).await?;
        let backtest = backtest.as_ref();
        let report = StoredReport { trained: &trained.report, as_of, data, backtest };
        if !self.register(run, &features, &trained, &report).await? {
            return Ok(None);
        }
        let model = trained.model.id().clone();
        if self.settings.promote == PromotionMode::Automatic && !run.is_what_if {
            let reason = run.reason.clone().unwrap_or_else(|| run.trigger.clone());
            let change = DeploymentChange {
                author: format!("{TRAINING_AUTHOR_PREFIX}{}", run.run_id),
                reason,
            };
            match self.registry.advance_automatically(&model, change).await {
                // The refusal is recorded with the model; the active model stays.
                Err(error @ ServiceError::Refused { .. }) => {
                    tracing::warn!(model = model.short(), %error, "a gate refused the automatic promotion step");
                    self.metrics.training.refused_models.inc();
                    let origin = format!("of run {}", run.run_id);
                    self.refusals.raise(&model, &origin, &error).await?;
                }
                Ok(Some(step)) if step.is_gated() => self.refusals.resolve(&model).await?,
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(model))
    }

    async fn train(
        &self,
        run: &TrainingRunRow,
        features: &Arc<FeatureSet>,
        as_of: Timestamp,
        progress: &Arc<RunProgress>,
    ) -> Result<RunResult, ServiceError> {
        let spec: TrainingSpec =
            serde_json::from_value(run.spec.clone()).map_err(ServiceError::internal)?;
        let spec = spec.check().map_err(ServiceError::Invalid)?;
        let request = SnapshotRequest { when: SnapshotInstant::Present(as_of), spec: spec.spec() };
        let TrainingSnapshot { sample, orders, backtest } =
            snapshot::gather_snapshot(self.db.read(), features, request, &**progress).await?;
        let sample = sample.finish();
        let data = sample.report;
        let before = predecessor::load_active(self.db.read()).await?;
        let features = Arc::clone(features);
        let job = Job { spec, features, sample, orders, as_of, predecessor: before };
        let trained = fit_model(job, self.settings.threads, Arc::clone(progress)).await?;
        Ok(RunResult { trained, data, backtest })
    }

    /// Stores the model; returns false, and stores nothing, if the run was cancelled.
    async fn register(
        &self,
        run: &TrainingRunRow,
        set: &FeatureSet,
        trained: &TrainedModel,
        report: &StoredReport<'_>,
    ) -> Result<bool, ServiceError> {
        let report = serde_json::to_value(report).map_err(ServiceError::internal)?;
        let now = self.clock.now();
        // Commits together: the feature set, the candidate, its segment lineage, the run's end,
        // and the resolution of the alert about failed runs.
        let mut tx = self.db.begin().await?;
        feature_sets::insert(&mut tx, set.id(), set.normal_form(), now).await?;
        let model = NewModel {
            model_id: trained.model.id(),
            feature_set: set.id(),
            artifact: &trained.bytes,
            run_id: Some(run.run_id.as_str()),
            report: &report,
        };
        models::insert(&mut tx, &model, now).await?;
        if let Some(lineage_report) = &trained.report.lineage {
            lineage::record(&mut tx, trained.model.id(), lineage_report).await?;
        }
        let ended =
            runs::mark_succeeded(&mut tx, &run.run_id, trained.model.id(), &report, now).await?;
        if ended {
            self.resolve_failure_alerts(&mut tx, run).await?;
            tx.commit().await?;
        }
        Ok(ended)
    }
}
