//! What the service does by itself: the rules in force on every replica, and who
//! changes them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;

use crate::domain::alert::Topic;
use crate::domain::deployment::policy::{Action, Policy};
use crate::domain::drift::{Limits, Severity};
use crate::domain::fault::Faults;
use crate::domain::text::{self, MAX_FREE_TEXT_CHARS};
use crate::service::ServiceError;
use crate::service::clock::Clock;
use crate::store::database::connect::News;
use crate::store::models::policy;
use crate::store::models::policy::PolicyRow;
use crate::store::{Db, ReadDb, alerting};

/// The rules of this process.
#[derive(Debug)]
pub struct Policies {
    db: Db,
    clock: Clock,
    /// In force until somebody changes them.
    configured: Policy,
    current: ArcSwap<Current>,
}

/// What is in force.
#[derive(Debug, Clone)]
pub struct Current {
    pub policy: Policy,
    /// `None`: as configured.
    pub changed: Option<PolicyRow>,
}

impl Policies {
    pub fn new(db: Db, clock: Clock, configured: Policy) -> Self {
        let current = Current { policy: configured.clone(), changed: None };
        Self { db, clock, configured, current: ArcSwap::from_pointee(current) }
    }

    pub fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// From when on a difference is told.
    pub fn limits(&self) -> Limits {
        let current = self.current.load();
        Limits { alpha: self.configured.drift.alpha, ..current.policy.drift }
    }

    /// Takes up what another replica may have changed.
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

    /// Changes what `changes` names and leaves the rest; all of it, or nothing.
    pub async fn change(
        &self,
        changes: &Value,
        (by, reason): (&str, &str),
    ) -> Result<Arc<Current>, ServiceError> {
        let reason = &text::required_text("reason", reason, MAX_FREE_TEXT_CHARS)?;
        // Commits together: the next version, made of the one before it, and the news.
        let mut tx = self.db.begin_critical().await?;
        let mut document = match policy::lock(&mut tx).await? {
            Some(newest) => newest,
            None => serde_json::to_value(&self.configured).map_err(ServiceError::internal)?,
        };
        merge(&mut document, changes);
        let wanted: Policy = serde_json::from_value(document)
            .map_err(|error| ServiceError::Invalid(Faults::one("policy", error.to_string())))?;
        let wanted = wanted.check().map_err(ServiceError::Invalid)?;
        let document = serde_json::to_value(&wanted).map_err(ServiceError::internal)?;
        policy::insert(&mut tx, &document, by, reason, self.clock.now()).await?;
        tx.announce(News::Lineup).await?;
        tx.commit().await?;
        self.refresh().await?;
        Ok(self.current())
    }

    /// Why no model may go live by itself now: the alert that keeps it. `None`: it may.
    pub async fn frozen_by(&self, db: &ReadDb) -> Result<Option<(String, String)>, ServiceError> {
        let current = self.current.load();
        let actions = &current.policy.actions;
        let freezes = |severity| actions.at(severity).contains(&Action::Freeze);
        if !Severity::ALL.into_iter().any(freezes) {
            return Ok(None);
        }
        let firing = alerting::firing(db).await?.into_iter();
        let mut keeping = firing.filter(|alert| {
            alert.standing.topic == Topic::Drift
                && freezes(alert.standing.severity)
                && !alert.rests_on_one_key()
        });
        Ok(keeping.next().map(|alert| (alert.alert_id, alert.title)))
    }
}

/// RFC 7396, without its removals: a policy is whole.
fn merge(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(into.entry(name.clone()).or_insert(Value::Null), change);
            }
        }
        (into, changes) => *into = changes.clone(),
    }
}
