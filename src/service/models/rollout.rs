//! Automatic rollout: promotes a model that training put in shadow or canary, once it has
//! stayed long enough and the gates pass.
//!
//! Every replica evaluates the rollout. The deployment lock lets a single replica
//! take the step.

use std::sync::Arc;

use crate::config;

use crate::domain::deployment::lifecycle::{ModelStage, StageTransition};
use crate::domain::id::ModelId;
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::models::refusal_alert::RefusalAlert;
use crate::service::models::registry::ModelRegistry;
use crate::service::models::step_request::{DeploymentChange, StepRequest};
use crate::store::models::decisions;
use crate::store::{ReadOnlyDatabase, models};

/// Prefix of `decided_by` in decisions of training.
pub(crate) const TRAINING_AUTHOR_PREFIX: &str = "training ";
/// Latest decisions searched for the last one that was carried out.
const LATEST_DECISIONS: i64 = 50;

/// Takes the automatic steps from shadow and canary.
#[derive(Debug)]
pub(crate) struct AutomaticRollout {
    db: ReadOnlyDatabase,
    clock: TimeSource,
    settings: config::LifecycleSettings,
    registry: Arc<ModelRegistry>,
    refusals: RefusalAlert,
}

impl AutomaticRollout {
    pub(crate) fn new(
        db: ReadOnlyDatabase,
        clock: TimeSource,
        settings: config::LifecycleSettings,
        registry: Arc<ModelRegistry>,
        refusals: RefusalAlert,
    ) -> Self {
        Self { db, clock, settings, registry, refusals }
    }

    /// Takes every step that is due; returns how many.
    pub(crate) async fn take_due_steps(&self) -> Result<u64, ServiceError> {
        let life = &self.settings;
        let after_shadow =
            if life.has_canary_phase { StageTransition::Canary } else { StageTransition::Promote };
        let mut taken = 0;
        if self.registry.frozen_reason().await?.is_some() {
            return Ok(0);
        }
        for (stage, is_used, step) in [
            (ModelStage::Canary, life.has_canary_phase, StageTransition::Promote),
            (ModelStage::Shadow, life.has_shadow_phase, after_shadow),
        ] {
            if is_used {
                for model in models::list_at_stage(&self.db, stage).await? {
                    taken += u64::from(self.advance_if_due(&model, stage, step).await?);
                }
            }
        }
        Ok(taken)
    }

    async fn advance_if_due(
        &self,
        model: &ModelId,
        stage: ModelStage,
        step: StageTransition,
    ) -> Result<bool, ServiceError> {
        let latest = decisions::list_of_model(&self.db, model, LATEST_DECISIONS).await?;
        let Some(last) = latest.into_iter().find(|decision| decision.to_stage.is_some()) else {
            return Ok(false);
        };
        let stay =
            i64::try_from(self.settings.minimum_phase_duration.as_millis()).unwrap_or(i64::MAX);
        // A decision in the future was recorded by a wrong clock.
        let stayed = self.clock.now().millis() - last.decided_at.millis();
        let is_due = stayed >= stay || stayed < -stay;
        let is_by_training = last.decided_by.starts_with(TRAINING_AUTHOR_PREFIX)
            && last.to_stage.as_deref() == Some(stage.as_str());
        if !is_due || !is_by_training {
            return Ok(false);
        }
        let ask = StepRequest { record_refusal: false, ..StepRequest::new(step) };
        let change =
            DeploymentChange { author: last.decided_by, reason: format!("stayed in {stage}") };
        match self.registry.take_step(model, ask, change).await {
            Ok(_) => {
                self.refusals.resolve(model).await?;
                Ok(true)
            }
            // Another replica was first.
            Err(ServiceError::Conflict(_)) => Ok(false),
            // Either the figures are bad, or there are not enough of them after the whole phase:
            // both keep the model from serving until somebody acts.
            Err(refusal @ ServiceError::Refused { .. }) => {
                self.refusals.raise(model, &format!("waits in {stage} and"), &refusal).await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}
