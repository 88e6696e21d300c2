//! Model registry: the life cycle from candidate to retired, with gates and recorded decisions.
//!
//! Every step is taken under the deployment lock and recorded with the figures of its gates.
//! Refused steps are recorded too.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::config;
use crate::domain::deployment::lifecycle::{
    GateResult, GateThresholds, ModelStage, StageTransition, TransitionRefusal,
};
use crate::domain::fault::ValidationFaults;
use crate::domain::id::ModelId;
use crate::domain::model::Model;
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::error::ErrorChain;
use crate::service::models::gate_evidence;
use crate::service::models::policy::AutomationPolicies;
use crate::service::models::shadow::{MAX_SHADOWS, ShadowModels};
use crate::service::models::step_request::{DeploymentChange, StepRequest};
use crate::service::scoring::deployment::Deployment;
use crate::service::scoring::serving::ServingState;
use crate::store::models::decisions::ModelDecision;
use crate::store::models::{CanaryRow, DeploymentRow, decisions};
use crate::store::{DatabaseHandle, DatabaseTransaction, ReadOnlyDatabase, models};

/// Most attempts at a step: a concurrent deployment change outdates the gate evidence.
const MAX_ATTEMPTS: usize = 5;

/// The stages before and after a decision.
#[derive(Debug, Clone, Copy)]
pub(super) struct StageChange {
    pub(super) from: ModelStage,
    /// `None`: the step was not taken.
    pub(super) to: Option<ModelStage>,
}

/// Dependencies of the model registry.
#[derive(Debug)]
pub struct RegistryDependencies {
    pub db: DatabaseHandle,
    pub serving: Arc<ServingState>,
    pub shadows: Arc<ShadowModels>,
    pub clock: TimeSource,
    pub gate_thresholds: GateThresholds,
    pub rollout_settings: config::LifecycleSettings,
    pub policies: Arc<AutomationPolicies>,
}

/// The registry of stored models and the deployment they serve in.
#[derive(Debug)]
pub struct ModelRegistry {
    pub(super) db: DatabaseHandle,
    pub(super) serving: Arc<ServingState>,
    pub(super) shadows: Arc<ShadowModels>,
    pub(super) clock: TimeSource,
    pub(super) gate_thresholds: GateThresholds,
    pub(super) rollout_settings: config::LifecycleSettings,
    pub(super) policies: Arc<AutomationPolicies>,
    /// Limits promotion previews to one at a time.
    pub(super) preview_slot: Semaphore,
}

/// Loads and self-tests a stored model on the blocking pool.
pub(crate) async fn open_model(db: &ReadOnlyDatabase, id: &ModelId) -> Result<Model, ServiceError> {
    let bytes = models::artifact(db, id)
        .await?
        .ok_or_else(|| ServiceError::NotFound(format!("model `{id}`")))?;
    let expected = id.clone();
    tokio::task::spawn_blocking(move || Model::open_addressed(&bytes, &expected))
        .await
        .map_err(ServiceError::internal)?
        .map_err(|error| ServiceError::Conflict(format!("the model fails its self-test: {error}")))
}

impl ModelRegistry {
    pub fn new(dependencies: RegistryDependencies) -> Self {
        let RegistryDependencies {
            db,
            serving,
            shadows,
            clock,
            gate_thresholds,
            rollout_settings,
            policies,
        } = dependencies;
        let preview_slot = Semaphore::new(1);
        Self {
            db,
            serving,
            shadows,
            clock,
            gate_thresholds,
            rollout_settings,
            policies,
            preview_slot,
        }
    }

    /// Loads the shadow models that another replica has started or ended.
    pub(crate) async fn refresh_shadows(&self) -> Result<(), ServiceError> {
        self.shadows.refresh().await
    }

    /// Promotes a stored model to active, after its self-test and if the gates pass.
    /// Idempotent. On return this replica has published the model.
    pub async fn promote(
        &self,
        model: &ModelId,
        change: DeploymentChange,
    ) -> Result<DeploymentRow, ServiceError> {
        self.take_step(model, StepRequest::new(StageTransition::Promote), change).await
    }

    /// Takes the first step of automatic promotion. Without an active model that is the
    /// promotion itself. Returns the step; `None` while promotion is frozen: the model remains a
    /// candidate.
    pub(crate) async fn advance_automatically(
        &self,
        model: &ModelId,
        change: DeploymentChange,
    ) -> Result<Option<StageTransition>, ServiceError> {
        let step = match (&self.serving.current().active, &self.rollout_settings) {
            (Some(_), rollout) if rollout.has_shadow_phase => StageTransition::Shadow,
            (Some(_), rollout) if rollout.has_canary_phase => StageTransition::Canary,
            _ => StageTransition::Promote,
        };
        let Some(why) = self.frozen_reason().await? else {
            self.take_step(model, StepRequest::new(step), change).await?;
            return Ok(Some(step));
        };
        tracing::warn!(model = model.short(), why, "automatic promotion is frozen");
        let change = DeploymentChange { author: change.author, reason: why };
        let decision = self.decision(
            step.as_str(),
            StageChange { from: ModelStage::Candidate, to: None },
            &change,
            &[],
        );
        // Commits alone: the record of the step not taken, and its reason.
        let mut tx = self.db.begin_critical().await?;
        decisions::insert(&mut tx, model, &decision).await?;
        tx.commit().await?;
        Ok(None)
    }

    /// Why automatic promotion is frozen; `None`: it is not.
    pub(crate) async fn frozen_reason(&self) -> Result<Option<String>, ServiceError> {
        let frozen_by = self.policies.freezing_alert(self.db.critical_read()).await?;
        Ok(frozen_by.map(|(alert, title)| {
            format!("promotion is frozen while alert {alert} fires ({title}): promote manually")
        }))
    }

    /// Takes a life-cycle step. A step to the present stage changes nothing.
    ///
    /// Optimistic concurrency: evidence is gathered without the lock and discarded if the
    /// generation has changed by the time the lock is taken.
    pub(crate) async fn take_step(
        &self,
        model: &ModelId,
        ask: StepRequest,
        change: DeploymentChange,
    ) -> Result<DeploymentRow, ServiceError> {
        if let Some(share) = ask.share.filter(|share| !(0.0..=1.0).contains(share)) {
            let problem = format!("must be from 0 to 1: is {share}");
            return Err(ServiceError::Invalid(ValidationFaults::single("share", problem)));
        }
        let row = models::find(self.db.critical_read(), model).await?;
        let row = row.ok_or_else(|| ServiceError::NotFound(format!("model `{model}`")))?;
        let opened = match ask.step {
            StageTransition::Shadow | StageTransition::Canary | StageTransition::Promote => {
                Some(Arc::new(open_model(self.db.critical_read(), model).await?))
            }
            StageTransition::Retire | StageTransition::Reject => None,
        };
        for _ in 0..MAX_ATTEMPTS {
            self.serving.refresh_deployment().await?;
            let deployment = self.serving.snapshot();
            let is_compared = matches!(ask.step, StageTransition::Shadow | StageTransition::Canary);
            if is_compared && row.feature_set != deployment.features.id().as_str() {
                let why = "the model's feature set differs from the feature set of this server";
                return Err(ServiceError::Conflict(why.into()));
            }
            let gates = match &opened {
                Some(opened) if ask.step.is_gated() && row.stage != ModelStage::Active.as_str() => {
                    let evidence = gate_evidence::gather_evidence(
                        self.db.critical_read(),
                        &deployment,
                        &row,
                        opened,
                        self.clock.now(),
                    )
                    .await?;
                    self.gate_thresholds.gates(&evidence, deployment.rules.outlier_alpha)
                }
                _ => Vec::new(),
            };
            if let Some(next) = self.try_step(&deployment, model, ask, &change, &gates).await? {
                self.serving.refresh_deployment().await?;
                self.shadows.refresh().await?;
                return Ok(next);
            }
        }
        Err(ServiceError::Conflict("the deployment keeps changing: try again".into()))
    }

    /// Publishes a committed change. An unavailable database does not fail the request: the
    /// change is committed, and the next poll publishes it.
    pub(super) async fn publish_committed(&self) -> Result<(), ServiceError> {
        match self.serving.refresh_deployment().await {
            Err(error @ ServiceError::Unavailable(_)) => {
                tracing::warn!(
                    error = %ErrorChain(&error),
                    "a committed deployment will be published later"
                );
                Ok(())
            }
            published => published,
        }
    }

    /// Takes a step under the deployment lock. `None`: the generation is no longer the one that
    /// the gates were evaluated against.
    async fn try_step(
        &self,
        deployment: &Deployment,
        model: &ModelId,
        ask: StepRequest,
        change: &DeploymentChange,
        gates: &[GateResult],
    ) -> Result<Option<DeploymentRow>, ServiceError> {
        // Commits together: the next generation, the stages, the decision, the announcement; or
        // the record of a refusal alone.
        let mut tx = self.db.begin_critical().await?;
        let current = models::lock_deployment(&mut tx).await?;
        if current.generation != deployment.generation {
            return Ok(None);
        }
        let stage = models::find_stage(&mut tx, model).await?;
        let stage = stage.ok_or_else(|| ServiceError::NotFound(format!("model `{model}`")))?;
        let next_stage = match stage.apply_transition(ask.step, gates) {
            Ok(next) => next,
            Err(TransitionRefusal::NoSuchTransition(why)) => {
                return Err(ServiceError::Conflict(why));
            }
            Err(TransitionRefusal::Gates(_)) if ask.force => stage
                .apply_ungated(ask.step)
                .map_err(|_| ServiceError::Conflict("no such step".into()))?,
            Err(TransitionRefusal::Gates(refusing)) => {
                if ask.record_refusal {
                    let stages = StageChange { from: stage, to: None };
                    let decision = self.decision(ask.step.as_str(), stages, change, gates);
                    decisions::insert(&mut tx, model, &decision).await?;
                    tx.commit().await?;
                }
                return Err(ServiceError::Refused { step: ask.step, gates: refusing });
            }
        };
        let canary_share = current.canary.as_ref().map(|canary| canary.share);
        let is_other_share =
            ask.share.zip(canary_share).is_some_and(|(a, b)| a.total_cmp(&b).is_ne());
        if stage == next_stage && !is_other_share {
            return Ok(Some(current));
        }
        let next = match ask.step {
            StageTransition::Promote => {
                self.end_canary(&mut tx, &current, model, change).await?;
                let next = DeploymentRow {
                    generation: current.generation + 1,
                    active: Some(model.clone()),
                    previous: current.active,
                    canary: None,
                    ..self.deployment_template(change)
                };
                models::insert_deployment(&mut tx, &next).await?;
                next
            }
            StageTransition::Canary => {
                let next = self.with_canary(current, model, ask.share, change)?;
                models::insert_deployment(&mut tx, &next).await?;
                next
            }
            StageTransition::Retire | StageTransition::Reject if stage == ModelStage::Canary => {
                let next = DeploymentRow {
                    generation: current.generation + 1,
                    active: current.active,
                    previous: current.previous,
                    canary: None,
                    ..self.deployment_template(change)
                };
                models::insert_deployment(&mut tx, &next).await?;
                next
            }
            StageTransition::Shadow => {
                if models::list_at_stage_in_transaction(&mut tx, ModelStage::Shadow).await?.len()
                    >= MAX_SHADOWS
                {
                    let why = format!("{MAX_SHADOWS} models are in shadow: retire one first");
                    return Err(ServiceError::Conflict(why));
                }
                models::set_stage(&mut tx, model, ModelStage::Shadow).await?;
                current
            }
            StageTransition::Retire | StageTransition::Reject => {
                models::set_stage(&mut tx, model, ModelStage::Retired).await?;
                current
            }
        };
        let stages = StageChange { from: stage, to: Some(next_stage) };
        let mut decision = self.decision(ask.step.as_str(), stages, change, gates);
        decision.is_forced = gates.iter().any(|gate| !gate.passed);
        decisions::insert(&mut tx, model, &decision).await?;
        tx.commit().await?;
        Ok(Some(next))
    }

    fn with_canary(
        &self,
        current: DeploymentRow,
        model: &ModelId,
        share: Option<f64>,
        change: &DeploymentChange,
    ) -> Result<DeploymentRow, ServiceError> {
        if current.active.is_none() {
            let why = "no model is active to answer the other customers: promote this one";
            return Err(ServiceError::Conflict(why.into()));
        }
        if let Some(other) = current.canary.filter(|canary| canary.model != *model) {
            let why = format!("model `{}` is in canary: promote or retire it first", other.model);
            return Err(ServiceError::Conflict(why));
        }
        // Two generations: the first is the canary's own, so answers of the canary and of the
        // active model remain distinguishable.
        let generation = current.generation + 1;
        let share = share.unwrap_or(self.rollout_settings.canary_share);
        Ok(DeploymentRow {
            generation: generation + 1,
            active: current.active,
            previous: current.previous,
            canary: Some(CanaryRow { generation, model: model.clone(), share }),
            ..self.deployment_template(change)
        })
    }

    /// Records the end of a canary caused by `model`.
    pub(super) async fn end_canary(
        &self,
        tx: &mut DatabaseTransaction,
        current: &DeploymentRow,
        model: &ModelId,
        change: &DeploymentChange,
    ) -> Result<(), ServiceError> {
        if let Some(canary) = current.canary.as_ref().filter(|canary| canary.model != *model) {
            let reason = format!("model {model} became active: {}", change.reason);
            let change = DeploymentChange { author: change.author.clone(), reason };
            let stages = StageChange { from: ModelStage::Canary, to: Some(ModelStage::Retired) };
            let decision = self.decision(StageTransition::Retire.as_str(), stages, &change, &[]);
            decisions::insert(tx, &canary.model, &decision).await?;
        }
        Ok(())
    }

    pub(super) fn deployment_template(&self, change: &DeploymentChange) -> DeploymentRow {
        DeploymentRow {
            generation: 0,
            active: None,
            previous: None,
            canary: None,
            changed_at: self.clock.now(),
            changed_by: change.author.clone(),
            reason: change.reason.clone(),
        }
    }

    pub(super) fn decision(
        &self,
        step: &str,
        stages: StageChange,
        change: &DeploymentChange,
        gates: &[GateResult],
    ) -> ModelDecision {
        ModelDecision {
            step: step.to_owned(),
            from_stage: stages.from.as_str().to_owned(),
            to_stage: stages.to.map(|stage| stage.as_str().to_owned()),
            is_forced: false,
            decided_at: self.clock.now(),
            decided_by: change.author.clone(),
            reason: change.reason.clone(),
            // Texts and numbers always serialise.
            gates: serde_json::to_value(gates).unwrap_or_default(),
        }
    }
}
