//! Policy actions on drift alerts: retraining or fallback, once per alert. Drift that rests on
//! the rows of one API key triggers no action: a key that may only score must not retrain,
//! freeze or replace the model.

use std::sync::Arc;

use crate::domain::alert::AlertTopic;
use crate::domain::deployment::policy::DriftAction;
use crate::domain::id::RunId;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::automation::AutomationDependencies;
use crate::service::automation::probation::{POLICY_AUTHOR, ProbationMonitor};
use crate::service::clock::TimeSource;
use crate::service::drift::{DriftPeriod, DriftQuery, DriftService};
use crate::service::models::policy::AutomationPolicies;
use crate::service::models::registry::ModelRegistry;
use crate::service::models::step_request::DeploymentChange;
use crate::service::scoring::serving::ServingState;
use crate::service::training::{RunPurpose, TrainingService};
use crate::store::alerting::AlertRow;
use crate::store::models::policy;
use crate::store::models::policy::{NewPolicyAction, PolicyActionKind};
use crate::store::{DatabaseHandle, alerting, models};
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::PolicyAction;

/// Carries out the actions that the automation policy names.
#[derive(Debug)]
pub(crate) struct PolicyActions {
    db: DatabaseHandle,
    serving: Arc<ServingState>,
    clock: TimeSource,
    policies: Arc<AutomationPolicies>,
    registry: Arc<ModelRegistry>,
    drift: Arc<DriftService>,
    metrics: Arc<ServiceMetrics>,
    probation: Arc<ProbationMonitor>,
    training: Arc<TrainingService>,
}

impl PolicyActions {
    pub(crate) fn new(
        dependencies: AutomationDependencies,
        probation: Arc<ProbationMonitor>,
        training: Arc<TrainingService>,
    ) -> Self {
        let AutomationDependencies {
            db, serving, clock, policies, registry, drift, metrics, ..
        } = dependencies;
        Self { db, serving, clock, policies, registry, drift, metrics, probation, training }
    }

    /// Evaluates probation, firing alerts and the refresh rule once.
    pub(crate) async fn take_due_actions(&self) -> Result<(), ServiceError> {
        self.probation.evaluate_probation().await?;
        let db = self.db.read();
        let current = self.policies.current();
        for alert in alerting::firing(db).await? {
            if alert.state.topic != AlertTopic::Drift {
                continue;
            }
            let Some(severity) = alert.severity_for_actions() else { continue };
            for action in current.policy.actions.for_severity(severity) {
                match action {
                    // Evaluated where a model would be promoted automatically.
                    DriftAction::Freeze => {}
                    DriftAction::Retrain => self.retrain(&alert).await?,
                    DriftAction::Fallback => self.activate_fallback(&alert).await?,
                }
            }
        }
        self.retrain_if_unconfident().await
    }

    async fn retrain(&self, alert: &AlertRow) -> Result<(), ServiceError> {
        let reason = format!("{} ({})", alert.title, alert.alert_id);
        let since = Timestamp::from_millis(0);
        self.request_training(PolicyActionKind::Retrain, &alert.alert_id, since, reason).await
    }

    /// Requests a training run if the mean confidence has fallen below the policy's limit.
    async fn retrain_if_unconfident(&self) -> Result<(), ServiceError> {
        let policy = &self.policies.current().policy;
        let deployment = models::current_deployment(self.db.read()).await?;
        let Some(model) = deployment.active.filter(|_| policy.refresh.confidence > 0.0) else {
            return Ok(());
        };
        let ask = DriftQuery {
            model: Some(model.clone()),
            source: None,
            period: DriftPeriod::ConfiguredHours,
        };
        let check = self.drift.check_window(&ask).await?;
        // All rows may come from one caller, so a sample of stored customers must agree.
        if !policy.is_worn_out(&check)
            || !policy.is_worn_out(&self.drift.sample_customers(&model, None).await?.now)
        {
            return Ok(());
        }
        // A cool-down: the same model is not refreshed again until it has passed.
        let pause = 1000 * i64::from(policy.refresh.cool_down_seconds);
        let since = self.clock.now().plus_millis(-pause);
        let reason = format!(
            "the mean confidence is {:.2}, below {} (policy.refresh.confidence)",
            check.confidence.unwrap_or_default(),
            policy.refresh.confidence
        );
        self.request_training(PolicyActionKind::Refresh, model.as_str(), since, reason).await
    }

    async fn request_training(
        &self,
        done: PolicyActionKind,
        about: &str,
        since: Timestamp,
        reason: String,
    ) -> Result<(), ServiceError> {
        let now = self.clock.now();
        let purpose = RunPurpose { is_what_if: false, reason: Some(reason.clone()) };
        // Commits together: the run, its announcement, and the record of the action.
        let mut tx = self.db.begin().await?;
        if policy::begin_action(
            &mut tx,
            NewPolicyAction { action: done, subject: about, reason: &reason },
            since,
            now,
        )
        .await?
        {
            let spec = self.training.default_spec();
            let run =
                self.training.enqueue_run(&mut tx, spec, POLICY_AUTHOR, None, purpose).await?;
            tx.commit().await?;
            let action = match done {
                PolicyActionKind::Refresh => PolicyAction::Refresh,
                _ => PolicyAction::Retrain,
            };
            self.metrics.policy_actions.add(action, 1);
            let run = run.as_ref().map(RunId::as_str);
            tracing::info!(run, reason, "training run requested by policy");
        }
        Ok(())
    }

    async fn activate_fallback(&self, alert: &AlertRow) -> Result<(), ServiceError> {
        let now = self.clock.now();
        let reason = format!("{} ({})", alert.title, alert.alert_id);
        // Commits together: the next generation, the stages, the decision, the record of the
        // action, the announcement.
        let mut tx = self.db.begin_critical().await?;
        let action = NewPolicyAction {
            action: PolicyActionKind::Fallback,
            subject: &alert.alert_id,
            reason: &reason,
        };
        let since = Timestamp::from_millis(0);
        if !policy::begin_action(&mut tx, action, since, now).await? {
            return Ok(());
        }
        let current = models::lock_deployment(&mut tx).await?;
        let is_model_live = current.active.is_some();
        if is_model_live {
            let change = DeploymentChange { author: POLICY_AUTHOR.into(), reason };
            self.registry.replace_active(&mut tx, current, None, &change).await?;
        }
        tx.commit().await?;
        if is_model_live {
            self.metrics.policy_actions.add(PolicyAction::Fallback, 1);
            tracing::warn!(alert = alert.alert_id, "policy activated the rule-based fallback");
            self.serving.refresh_deployment().await?;
        }
        Ok(())
    }
}
