//! Return to the previous model or to the rule-based fallback, without gates.

use crate::domain::deployment::lifecycle::ModelStage;
use crate::domain::id::ModelId;
use crate::service::ServiceError;
use crate::service::models::registry::{ModelRegistry, StageChange};
use crate::service::models::step_request::DeploymentChange;
use crate::store::models::{DeploymentRow, decisions};
use crate::store::{DatabaseTransaction, models};

impl ModelRegistry {
    /// Rolls back to the previous model, without gates. Ends a canary.
    pub(crate) async fn rollback(
        &self,
        change: DeploymentChange,
    ) -> Result<DeploymentRow, ServiceError> {
        // Commits together: the next generation, the stages, the decision, the announcement.
        let mut tx = self.db.begin_critical().await?;
        let current = models::lock_deployment(&mut tx).await?;
        let Some(previous) = current.previous.clone() else {
            let why = "there is no previous model to roll back to";
            return Err(ServiceError::Conflict(why.into()));
        };
        let next = self.replace_active(&mut tx, current, Some(previous), &change).await?;
        tx.commit().await?;
        self.publish_committed().await?;
        Ok(next)
    }

    /// Replaces the active model by the rule-based fallback. Ends a canary.
    pub(crate) async fn activate_fallback(
        &self,
        change: DeploymentChange,
    ) -> Result<DeploymentRow, ServiceError> {
        // Commits together: the next generation, the stages, the decision, the announcement.
        let mut tx = self.db.begin_critical().await?;
        let current = models::lock_deployment(&mut tx).await?;
        if current.active.is_none() {
            let why = "no model is active: the rule-based fallback answers already";
            return Err(ServiceError::Conflict(why.into()));
        }
        let next = self.replace_active(&mut tx, current, None, &change).await?;
        tx.commit().await?;
        self.publish_committed().await?;
        Ok(next)
    }

    /// Replaces the `current` active model by another one or by the rule-based fallback
    /// (`None`), without gates. Runs in the transaction of the caller, who has locked the
    /// deployment and publishes it after the commit.
    pub(crate) async fn replace_active(
        &self,
        tx: &mut DatabaseTransaction,
        current: DeploymentRow,
        by: Option<ModelId>,
        change: &DeploymentChange,
    ) -> Result<DeploymentRow, ServiceError> {
        if let Some(model) = &by {
            let stage = models::find_stage(tx, model).await?.unwrap_or(ModelStage::Retired);
            self.end_canary(tx, &current, model, change).await?;
            let decision = self.decision(
                "rollback",
                StageChange { from: stage, to: Some(ModelStage::Active) },
                change,
                &[],
            );
            decisions::insert(tx, model, &decision).await?;
        } else if let Some(model) = &current.active {
            self.end_canary(tx, &current, model, change).await?;
            let stages = StageChange { from: ModelStage::Active, to: Some(ModelStage::Retired) };
            let decision = self.decision("fallback", stages, change, &[]);
            decisions::insert(tx, model, &decision).await?;
        }
        let next = DeploymentRow {
            generation: current.generation + 1,
            active: by,
            previous: current.active,
            canary: None,
            ..self.deployment_template(change)
        };
        models::insert_deployment(tx, &next).await?;
        Ok(next)
    }
}
