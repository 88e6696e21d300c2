//! Automatic rollout: promotes a model that training put in shadow or canary, once it has
//! stayed long enough and the gates pass.
//!
//! Every replica evaluates the rollout. The deployment lock lets a single replica
//! take the step.

use std::sync::Arc;

use crate::config;
use crate::domain::deployment::lifecycle::{Move, Stage};
use crate::domain::id::ModelId;
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::models::registry::{DeploymentChange, Registry, StepRequest};
use crate::store::models::decisions;
use crate::store::{ReadDb, models};

/// Prefix of `decided_by` in decisions of training.
pub const TRAINING: &str = "training ";
/// Latest decisions searched for the last one that was carried out.
const LATEST_DECISIONS: i64 = 50;

/// Takes the automatic steps from shadow and canary.
#[derive(Debug)]
pub struct Rollout {
    db: ReadDb,
    clock: TimeSource,
    settings: config::Life,
    registry: Arc<Registry>,
}

impl Rollout {
    pub fn new(
        db: ReadDb,
        clock: TimeSource,
        settings: config::Life,
        registry: Arc<Registry>,
    ) -> Self {
        Self { db, clock, settings, registry }
    }

    /// Takes every step that is due; returns how many.
    pub async fn run(&self) -> Result<u64, ServiceError> {
        let life = &self.settings;
        let after_shadow = if life.through_canary { Move::Canary } else { Move::Promote };
        let mut taken = 0;
        if self.registry.frozen().await?.is_some() {
            return Ok(0);
        }
        for (stage, is_used, step) in [
            (Stage::Canary, life.through_canary, Move::Promote),
            (Stage::Shadow, life.through_shadow, after_shadow),
        ] {
            if is_used {
                for model in models::at_stage(&self.db, stage).await? {
                    taken += u64::from(self.advance_if_due(&model, stage, step).await?);
                }
            }
        }
        Ok(taken)
    }

    async fn advance_if_due(
        &self,
        model: &ModelId,
        stage: Stage,
        step: Move,
    ) -> Result<bool, ServiceError> {
        let latest = decisions::of_model(&self.db, model, LATEST_DECISIONS).await?;
        let Some(last) = latest.into_iter().find(|decision| decision.to_stage.is_some()) else {
            return Ok(false);
        };
        let stay = i64::try_from(self.settings.stay.as_millis()).unwrap_or(i64::MAX);
        // A decision in the future was recorded by a wrong clock.
        let stayed = self.clock.now().millis() - last.decided_at.millis();
        let is_due = stayed >= stay || stayed < -stay;
        let is_by_training = last.decided_by.starts_with(TRAINING)
            && last.to_stage.as_deref() == Some(stage.as_str());
        if !is_due || !is_by_training {
            return Ok(false);
        }
        let ask = StepRequest { record_refusal: false, ..StepRequest::to(step) };
        let change = DeploymentChange { by: last.decided_by, reason: format!("stayed in {stage}") };
        match self.registry.carry_out(model, ask, change).await {
            Ok(_) => Ok(true),
            // Another replica was first, or the evidence is not sufficient yet.
            Err(ServiceError::Refused { .. } | ServiceError::Conflict(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
