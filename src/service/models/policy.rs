//! Automation policy: the rules in force on every replica, versioned in the database, and their
//! changes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;

use crate::domain::alert::Topic;
use crate::domain::deployment::policy::{Action, AutomationPolicy};
use crate::domain::drift::{DriftLimits, Severity};
use crate::domain::fault::Faults;
use crate::domain::text::{self, MAX_FREE_TEXT_CHARS};
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::store::database::connect::ChangeTopic;
use crate::store::models::policy;
use crate::store::models::policy::PolicyRow;
use crate::store::{Db, ReadDb, alerting};

/// The automation policy of this process, kept in sync with the database.
#[derive(Debug)]
pub struct Policies {
    db: Db,
    clock: TimeSource,
    /// In force until the first change through the API.
    configured: AutomationPolicy,
    current: ArcSwap<Current>,
}

/// The policy in force.
#[derive(Debug, Clone)]
pub struct Current {
    pub policy: AutomationPolicy,
    /// `None`: the configured policy, unchanged.
    pub changed: Option<PolicyRow>,
}

impl Policies {
    pub fn new(db: Db, clock: TimeSource, configured: AutomationPolicy) -> Self {
        let current = Current { policy: configured.clone(), changed: None };
        Self { db, clock, configured, current: ArcSwap::from_pointee(current) }
    }

    /// The policy in force; no I/O.
    pub fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// Thresholds of drift findings. The configured `alpha` applies, whatever a stored version
    /// says.
    pub fn limits(&self) -> DriftLimits {
        let current = self.current.load();
        DriftLimits { alpha: self.configured.drift.alpha, ..current.policy.drift }
    }

    /// Loads the newest version, which another replica may have written.
    pub async fn refresh(&self) -> Result<(), ServiceError> {
        let newest = policy::versions(self.db.critical_read(), 1).await?.pop();
        let known = self.current.load().changed.as_ref().map(|row| row.version);
        let Some(row) = newest.filter(|row| Some(row.version) != known) else {
            return Ok(());
        };
        let policy = serde_json::from_value(row.document.clone()).map_err(|error| {
            ServiceError::internal(format!("policy {}, as stored: {error}", row.version))
        })?;
        self.current.store(Arc::new(Current { policy, changed: Some(row) }));
        Ok(())
    }

    /// Changes the fields named in `changes` and leaves the others; atomic.
    pub async fn change(
        &self,
        changes: &Value,
        by: &str,
        reason: &str,
    ) -> Result<Arc<Current>, ServiceError> {
        let reason = &text::required_text("reason", reason, MAX_FREE_TEXT_CHARS)?;
        // Commits together: the next version, derived from the locked latest one, and its
        // announcement.
        let mut tx = self.db.begin_critical().await?;
        let mut document = match policy::lock(&mut tx).await? {
            Some(newest) => newest,
            None => serde_json::to_value(&self.configured).map_err(ServiceError::internal)?,
        };
        merge_patch(&mut document, changes);
        let changed: AutomationPolicy = serde_json::from_value(document)
            .map_err(|error| ServiceError::Invalid(Faults::one("policy", error.to_string())))?;
        let changed = changed.check().map_err(ServiceError::Invalid)?;
        let document = serde_json::to_value(&changed).map_err(ServiceError::internal)?;
        policy::insert(&mut tx, &document, by, reason, self.clock.now()).await?;
        tx.announce(ChangeTopic::Lineup).await?;
        tx.commit().await?;
        self.refresh().await?;
        Ok(self.current())
    }

    /// The firing alert that blocks automatic promotion (id and title); `None`: promotion is
    /// allowed.
    pub async fn frozen_by(&self, db: &ReadDb) -> Result<Option<(String, String)>, ServiceError> {
        let current = self.current.load();
        let policy = &current.policy;
        // Without a freeze rule the alerts need not be read.
        if !Severity::ALL.into_iter().any(|severity| freezes(policy, severity)) {
            return Ok(None);
        }
        for alert in alerting::firing(db).await? {
            let is_drift = alert.standing.topic == Topic::Drift;
            // A key that may only score must not freeze promotion.
            if is_drift && freezes(policy, alert.standing.severity) && !alert.rests_on_one_key() {
                return Ok(Some((alert.alert_id, alert.title)));
            }
        }
        Ok(None)
    }
}

fn freezes(policy: &AutomationPolicy, severity: Severity) -> bool {
    policy.actions.at(severity).contains(&Action::Freeze)
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
