//! Alerts about failed training runs, resolved by the next successful run.

use std::collections::BTreeMap;

use crate::domain::alert::{AlertFact, AlertTopic};
use crate::domain::drift::Severity;
use crate::service::ServiceError;
use crate::service::alerts::{AnnouncementMode, NewAlert};
use crate::service::training::TrainingService;
use crate::store::DatabaseTransaction;
use crate::store::models::runs::TrainingRunRow;

/// Alert keys of requested and of scheduled runs, in the order in which they are locked.
const ALERT_KEYS: [&str; 2] = ["training:request", "training:schedule"];

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
