//! Alerts: raised in the transaction that finds them, told to whom they concern, at
//! least once and in order, and told again when they are over.
//!
//! What is to be sent is written with the alert (an outbox); whoever sends it holds
//! no transaction meanwhile.

pub mod channels;
pub mod deliver;
mod keep;
mod replay;
mod settle;
pub mod silences;
mod storm;
mod sweep;
mod tell;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::config;
use crate::domain::alert::{Fact, Picture, Standing, Topic};
use crate::domain::drift::Severity;
use crate::domain::text::{self, MAX_FREE_TEXT_CHARS};
use crate::domain::time::Timestamp;
use crate::service::clock::Clock;
use crate::service::{ServiceError, random};
use crate::store::alerting::decisions::AlertDecision;
use crate::store::alerting::{Acknowledged, AlertRow, Sight, decisions};
use crate::store::{Db, StoreError, Tx, alerting};
use crate::telemetry::Metrics;

pub use replay::Range;

#[derive(Debug)]
pub struct Alerts {
    pub db: Db,
    pub clock: Clock,
    pub settings: config::Alerts,
    pub metrics: Arc<Metrics>,
    /// There may be something to send.
    pub wake: Notify,
}

/// What has been found.
#[derive(Debug, Clone)]
pub struct Found {
    /// As one name: of one key at most one alert fires.
    pub key: String,
    pub topic: Topic,
    pub severity: Severity,
    /// Whose it is; `None`: nobody's in particular.
    pub owner: Option<String>,
    /// What it is about, by name.
    pub subject: BTreeMap<String, String>,
    /// One line.
    pub title: String,
    pub what: String,
    pub advice: String,
    pub facts: Vec<Fact>,
    pub picture: Option<Picture>,
}

/// What is made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// A new alert, unless it fires already: then only one that is worse is told.
    Plain,
    /// If it does not fire, the last alert of the key again, and nobody is told.
    Back,
    /// As `Back`, and told, also where nobody was told so far.
    BackAloud,
    /// As `Plain`, recorded without a message: another alert speaks for it.
    Quiet,
}

/// Who did it, and why.
#[derive(Debug, Clone)]
pub struct By {
    pub who: String,
    pub why: String,
}

impl Alerts {
    /// It is so: the alert, and a message to each channel that is to hear of it, in
    /// the caller's transaction. Once more changes nothing but when it was seen last.
    /// Who raises several goes by their keys in order.
    pub async fn raise(
        &self,
        tx: &mut Tx,
        found: &Found,
        voice: Voice,
    ) -> Result<(), ServiceError> {
        let now = self.clock.now();
        alerting::lock_key(tx, &found.key).await?;
        let latest = alerting::latest(tx, &found.key).await?;
        let sight = Sight {
            title: &found.title,
            what: &found.what,
            advice: &found.advice,
            facts: &found.facts,
            picture: found.picture.as_ref(),
        };
        let comes_back = matches!(voice, Voice::Back | Voice::BackAloud);
        let known = latest.filter(|last| last.resolved.is_none() || comes_back);
        match known {
            None => {
                let standing = Standing {
                    key: found.key.clone(),
                    topic: found.topic,
                    owner: found.owner.clone(),
                    severity: found.severity,
                    fired_at: now,
                    is_acknowledged: false,
                    is_untold: voice == Voice::Quiet,
                };
                let id = random::named::<12>("alert")?;
                alerting::insert(tx, &id, &standing, &found.subject, &sight).await?;
            }
            Some(known) => {
                let standing = next(&known, found.severity, voice, now);
                alerting::see(tx, &known.alert_id, &standing, &sight, now).await?;
            }
        }
        if let Some(alert) = alerting::latest(tx, &found.key).await? {
            self.tell(tx, &alert, now).await?;
        }
        Ok(())
    }

    /// It is so no more: whoever was told that it is, hears of the end. Does nothing
    /// where no alert of this key fires.
    pub async fn resolve(&self, tx: &mut Tx, key: &str, why: &str) -> Result<(), ServiceError> {
        self.resolve_firing(tx, key, why).await.map(|_| ())
    }

    /// As [`Alerts::resolve`]; whether an alert of this key fired.
    async fn resolve_firing(
        &self,
        tx: &mut Tx,
        key: &str,
        why: &str,
    ) -> Result<bool, ServiceError> {
        let now = self.clock.now();
        alerting::lock_key(tx, key).await?;
        let latest = alerting::latest(tx, key).await?;
        let Some(alert) = latest.filter(|alert| alert.resolved.is_none()) else {
            return Ok(false);
        };
        alerting::resolve(tx, &alert.alert_id, why, now).await?;
        self.tell_end(tx, key, now).await?;
        Ok(true)
    }

    /// Somebody looks after it: it is told to nobody else who waits for that.
    pub async fn acknowledge(&self, alert_id: &str, by: By) -> Result<AlertRow, ServiceError> {
        let note = written("note", &by.why)?;
        let unknown = || ServiceError::NotFound(format!("alert `{alert_id}`"));
        let row = alerting::find(self.db.read(), alert_id).await?.ok_or_else(unknown)?;
        let (key, at) = (&row.standing.key, self.clock.now());
        // Commits together: who looks after it, and the record of that.
        let mut tx = self.db.begin().await?;
        alerting::lock_key(&mut tx, key).await?;
        let latest = alerting::latest(&mut tx, key).await?;
        if latest.is_none_or(|last| last.alert_id != alert_id || last.resolved.is_some()) {
            return Err(ServiceError::Conflict("the alert is over".into()));
        }
        let acknowledged = Acknowledged { at, by: by.who.clone(), note };
        alerting::acknowledge(&mut tx, alert_id, &acknowledged).await?;
        self.record(&mut tx, ("alert", alert_id), "acknowledge", &by).await?;
        tx.commit().await?;
        alerting::find(self.db.read(), alert_id).await?.ok_or_else(unknown)
    }

    /// Writes down who did what.
    async fn record(
        &self,
        tx: &mut Tx,
        about: (&str, &str),
        step: &str,
        by: &By,
    ) -> Result<(), StoreError> {
        let decision = AlertDecision {
            step: step.into(),
            at: self.clock.now(),
            by: by.who.clone(),
            reason: by.why.clone(),
        };
        decisions::insert(tx, about.0, about.1, &decision).await
    }
}

/// How an alert that is known stands once it is found again.
fn next(known: &AlertRow, found: Severity, voice: Voice, now: Timestamp) -> Standing {
    let before = &known.standing;
    if known.resolved.is_some() {
        return Standing {
            severity: found,
            fired_at: now,
            is_acknowledged: false,
            is_untold: voice == Voice::Back,
            ..before.clone()
        };
    }
    Standing {
        severity: before.severity.max(found),
        is_untold: before.is_untold && voice != Voice::BackAloud,
        ..before.clone()
    }
}

/// A note or a reason, fit to be stored.
fn written(field: &str, text: &str) -> Result<String, ServiceError> {
    Ok(text::free_text(field, text, MAX_FREE_TEXT_CHARS)?)
}
