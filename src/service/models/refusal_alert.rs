//! The alert about a trained model that a gate keeps from its next automatic step: it is resolved
//! by the next model that passes its gates.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::alert::{AlertFact, AlertTopic};
use crate::domain::drift::Severity;
use crate::domain::id::ModelId;
use crate::service::ServiceError;
use crate::service::alerts::{AlertService, AnnouncementMode, NewAlert};
use crate::store::DatabaseHandle;

/// Key of the alert.
const ALERT_KEY: &str = "training:promotion";

/// Raises and resolves the alert.
#[derive(Debug, Clone)]
pub struct RefusalAlert {
    db: DatabaseHandle,
    alerts: Arc<AlertService>,
}

impl RefusalAlert {
    pub fn new(db: DatabaseHandle, alerts: Arc<AlertService>) -> Self {
        Self { db, alerts }
    }

    /// Raises the alert; `origin` says where the model comes from or where it waits, such as
    /// `of run run_5f2c`.
    pub(in crate::service) async fn raise(
        &self,
        model: &ModelId,
        origin: &str,
        refusal: &ServiceError,
    ) -> Result<(), ServiceError> {
        let found = NewAlert {
            key: ALERT_KEY.into(),
            topic: AlertTopic::Training,
            severity: Severity::Warning,
            owner: None,
            subject: BTreeMap::from([("model".to_owned(), model.to_string())]),
            title: "A trained model was refused by a gate".into(),
            description: format!(
                "Model {} {origin} does not answer requests: {refusal}.",
                model.short()
            ),
            advice: "The model that serves now stays in service and becomes outdated. Compare \
                     both with GET /v1/models/{model_id}/diff/{other_model_id}, then change the \
                     data, the training spec or the gates (`[gates]`), or promote the model with \
                     `force`."
                .into(),
            facts: vec![AlertFact { name: "Model".into(), value: model.to_string() }],
            parts: vec![],
            picture: None,
        };
        // Commits together: the alert and the messages about it.
        let mut tx = self.db.begin().await?;
        self.alerts.raise_alert(&mut tx, &found, AnnouncementMode::Normal).await?;
        Ok(tx.commit().await?)
    }

    /// Resolves the alert: `model` has passed the gates.
    pub(in crate::service) async fn resolve(&self, model: &ModelId) -> Result<(), ServiceError> {
        let why = format!("model {} passed the gates", model.short());
        // Commits together: the resolution and the messages about it.
        let mut tx = self.db.begin().await?;
        self.alerts.resolve_alert(&mut tx, ALERT_KEY, &why).await?;
        Ok(tx.commit().await?)
    }
}
