//! Automation policy: the rules in force on every replica, versioned in the database, and their
//! changes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;

use crate::domain::alert::AlertTopic;
use crate::domain::deployment::policy::{AutomationPolicy, DriftAction};
use crate::domain::drift::{DriftLimits, Severity};
use crate::domain::fault::ValidationFaults;
use crate::domain::text::{self, MAX_FREE_TEXT_CHARS};
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::store::database::connect::ChangeTopic;
use crate::store::models::policy;
use crate::store::models::policy::PolicyVersionRow;
use crate::store::{DatabaseHandle, ReadOnlyDatabase, alerting};

/// The automation policy of this process, kept in sync with the database.
#[derive(Debug)]
pub struct AutomationPolicies {
    db: DatabaseHandle,
    clock: TimeSource,
    /// In force until the first change through the API.
    configured: AutomationPolicy,
    current: ArcSwap<CurrentPolicy>,
}

/// The policy in force.
#[derive(Debug, Clone)]
pub(crate) struct CurrentPolicy {
    pub policy: AutomationPolicy,
    /// `None`: the configured policy, unchanged.
    pub stored_version: Option<PolicyVersionRow>,
}

impl AutomationPolicies {
    pub fn new(db: DatabaseHandle, clock: TimeSource, configured: AutomationPolicy) -> Self {
        let current = CurrentPolicy { policy: configured.clone(), stored_version: None };
        Self { db, clock, configured, current: ArcSwap::from_pointee(current) }
    }

    /// The policy in force; no I/O.
    pub(crate) fn current(&self) -> Arc<CurrentPolicy> {
        self.current.load_full()
    }

    /// Thresholds of drift findings. The configured `alpha` applies, whatever a stored version
    /// says.
    pub fn drift_limits(&self) -> DriftLimits {
        let current = self.current.load();
        DriftLimits { alpha: self.configured.drift.alpha, ..current.policy.drift }
    }

    /// Loads the newest version, which another replica may have written.
    pub(crate) async fn refresh(&self) -> Result<(), ServiceError> {
        let newest = policy::list_versions(self.db.critical_read(), None, 1).await?.pop();
        let known = self.current.load().stored_version.as_ref().map(|row| row.version);
        let Some(row) = newest.filter(|row| Some(row.version) != known) else {
            return Ok(());
        };
        let policy = serde_json::from_value(row.document.clone()).map_err(|error| {
            ServiceError::internal(format!("policy {}, as stored: {error}", row.version))
        })?;
        self.current.store(Arc::new(CurrentPolicy { policy, stored_version: Some(row) }));
        Ok(())
    }

    /// Changes the fields named in `changes` and leaves the others; atomic.
    pub(crate) async fn change_policy(
        &self,
        changes: &Value,
        by: &str,
        reason: &str,
    ) -> Result<Arc<CurrentPolicy>, ServiceError> {
        let reason = &text::check_required_text("reason", reason, MAX_FREE_TEXT_CHARS)?;
        // Commits together: the next version, derived from the locked latest one, and its
        // announcement.
        let mut tx = self.db.begin_critical().await?;
        let mut document = match policy::lock_newest(&mut tx).await? {
            Some(newest) => newest,
            None => serde_json::to_value(&self.configured).map_err(ServiceError::internal)?,
        };
        merge_patch(&mut document, changes);
        let changed: AutomationPolicy = serde_json::from_value(document).map_err(|error| {
            ServiceError::Invalid(ValidationFaults::single("policy", error.to_string()))
        })?;
        let changed = changed.check();
        let changed = changed.map_err(|faults| ServiceError::Invalid(faults.within("policy")))?;
        let document = serde_json::to_value(&changed).map_err(ServiceError::internal)?;
        policy::insert(&mut tx, &document, by, reason, self.clock.now()).await?;
        tx.notify_replicas(ChangeTopic::Deployment).await?;
        tx.commit().await?;
        self.refresh().await?;
        Ok(self.current())
    }

    /// The firing alert that blocks automatic promotion (id and title); `None`: promotion is
    /// allowed.
    pub(crate) async fn freezing_alert(
        &self,
        db: &ReadOnlyDatabase,
    ) -> Result<Option<(String, String)>, ServiceError> {
        let current = self.current.load();
        let policy = &current.policy;
        // Without a freeze rule the alerts need not be read.
        if !Severity::ALL.into_iter().any(|severity| freezes(policy, severity)) {
            return Ok(None);
        }
        for alert in alerting::firing(db).await? {
            let is_drift = alert.state.topic == AlertTopic::Drift;
            // A key that may only score must not freeze promotion.
            let severity = alert.severity_for_actions();
            if is_drift && severity.is_some_and(|severity| freezes(policy, severity)) {
                return Ok(Some((alert.alert_id, alert.title)));
            }
        }
        Ok(None)
    }
}

fn freezes(policy: &AutomationPolicy, severity: Severity) -> bool {
    policy.actions.for_severity(severity).contains(&DriftAction::Freeze)
}

/// JSON merge patch (RFC 7396) without removal by `null`: every field of a policy is required.
fn merge_patch(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (name, change) in changes {
                merge_patch(into.entry(name.clone()).or_insert(Value::Null), change);
            }
        }
        (into, changes) => *into = changes.clone(),
    }
}
