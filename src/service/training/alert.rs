//! Alerts about failed training runs, resolved by the next successful run, and about models that
//! a gate kept from automatic promotion, resolved by the next model that passes the gates.

use std::collections::BTreeMap;

use crate::domain::alert::{AlertFact, AlertTopic};
use crate::domain::drift::Severity;
use crate::domain::id::ModelId;
use crate::service::ServiceError;
use crate::service::alerts::{AnnouncementMode, NewAlert};
use crate::service::training::TrainingService;
use crate::store::DatabaseTransaction;
use crate::store::models::runs::TrainingRunRow;

/// Alert keys of requested and of scheduled runs, in the order in which they are locked.
const ALERT_KEYS: [&str; 2] = ["training:request", "training:schedule"];

/// Alert key of a refused automatic promotion.
const PROMOTION_ALERT_KEY: &str = "training:promotion";

fn fact(name: &str, value: &str) -> AlertFact {
    AlertFact { name: name.into(), value: value.into() }
}

impl TrainingService {
    /// Raises the alert about a failed run. What-if runs raise none: their requester reads the
    /// outcome.
    pub(super) async fn raise_failure_alert(
        &self,
        tx: &mut DatabaseTransaction,
        run: &TrainingRunRow,
        why: &str,
    ) -> Result<(), ServiceError> {
        if run.is_what_if {
            return Ok(());
        }
        let is_scheduled = run.trigger == "schedule";
        let which = if is_scheduled { "scheduled training run" } else { "training run" };
        let found = NewAlert {
            key: ALERT_KEYS[usize::from(is_scheduled)].into(),
            topic: AlertTopic::Training,
            severity: Severity::Warning,
            owner: None,
            subject: BTreeMap::from([(
                "trigger".to_owned(),
                if is_scheduled { "schedule" } else { "request" }.to_owned(),
            )]),
            title: format!("A {which} failed"),
            description: format!("No model was trained: {why}."),
            advice: "The active model stays in service. See the run's error, fix its cause, and \
                     request another run."
                .into(),
            facts: vec![
                fact("Run", run.run_id.as_str()),
                fact("Trigger", &run.trigger),
                fact("Stage", &run.stage),
            ],
            parts: vec![],
            picture: None,
        };
        self.alerts.raise_alert(tx, &found, AnnouncementMode::Normal).await
    }

    /// Raises the alert about a trained model that did not enter service.
    pub(super) async fn raise_refusal_alert(
        &self,
        run: &TrainingRunRow,
        model: &ModelId,
        refusal: &ServiceError,
    ) -> Result<(), ServiceError> {
        let found = NewAlert {
            key: PROMOTION_ALERT_KEY.into(),
            topic: AlertTopic::Training,
            severity: Severity::Warning,
            owner: None,
            subject: BTreeMap::from([("model".to_owned(), model.to_string())]),
            title: "A trained model was refused by a gate".into(),
            description: format!(
                "Model {} of run {} was not promoted: {refusal}.",
                model.short(),
                run.run_id
            ),
            advice: "The model that serves now stays in service and becomes outdated. Compare \
                     both with GET /v1/models/{model_id}/diff/{other_model_id}, then change the \
                     data, the training spec or the gates (`[gates]`), or promote the model with \
                     `force`."
                .into(),
            facts: vec![
                fact("Model", model.as_str()),
                fact("Run", run.run_id.as_str()),
                fact("Trigger", &run.trigger),
            ],
            parts: vec![],
            picture: None,
        };
        // Commits together: the alert and the messages about it.
        let mut tx = self.db.begin().await?;
        self.alerts.raise_alert(&mut tx, &found, AnnouncementMode::Normal).await?;
        Ok(tx.commit().await?)
    }

    /// Resolves the alert about a refused model: `model` has passed the gates.
    pub(super) async fn resolve_refusal_alert(&self, model: &ModelId) -> Result<(), ServiceError> {
        let why = format!("model {} passed the gates", model.short());
        // Commits together: the resolution and the messages about it.
        let mut tx = self.db.begin().await?;
        self.alerts.resolve_alert(&mut tx, PROMOTION_ALERT_KEY, &why).await?;
        Ok(tx.commit().await?)
    }

    pub(super) async fn resolve_failure_alerts(
        &self,
        tx: &mut DatabaseTransaction,
        run: &TrainingRunRow,
    ) -> Result<(), ServiceError> {
        if run.is_what_if {
            return Ok(());
        }
        for key in ALERT_KEYS {
            self.alerts.resolve_alert(tx, key, &format!("run {} succeeded", run.run_id)).await?;
        }
        Ok(())
    }
}
