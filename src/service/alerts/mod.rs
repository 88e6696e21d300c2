//! Alerts: raised in the transaction that detects the problem, sent to the channels that route
//! them, at least once and in order, and sent again when they are resolved.
//!
//! Messages are written with the alert (transactional outbox). The delivery worker sends them
//! outside of any transaction.

mod channel_queue;
pub mod channels;
pub mod deliver;
mod delivery_outcome;
mod escalation;
mod housekeeping;
pub mod moves;
mod notify;
mod replay;
pub mod silences;
mod storm;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::config;
use crate::domain::alert::{AlertChart, AlertFact, AlertPart, AlertTopic, RoutedAlert};
use crate::domain::drift::Severity;
use crate::domain::text::{self, MAX_FREE_TEXT_CHARS};
use crate::domain::time::Timestamp;
use crate::service::clock::TimeSource;
use crate::service::{ServiceError, random};
use crate::store::alerting::decisions::AlertDecision;
use crate::store::alerting::{AlertAcknowledgement, AlertContent, AlertRow, decisions};
use crate::store::{DatabaseHandle, DatabaseTransaction, StoreError, alerting};
use crate::telemetry::ServiceMetrics;

pub use replay::ReplayRange;

/// Alert service: raises, resolves and routes alerts.
#[derive(Debug)]
pub struct AlertService {
    db: DatabaseHandle,
    clock: TimeSource,
    settings: config::AlertSettings,
    metrics: Arc<ServiceMetrics>,
    /// Wakes the delivery worker: a message may have become due.
    wake: Notify,
}

/// A detected problem: the content of an alert.
#[derive(Debug, Clone)]
pub struct NewAlert {
    /// Identity of the problem: at most one alert per key fires.
    pub key: String,
    pub topic: AlertTopic,
    pub severity: Severity,
    /// Data owner responsible for the subject; `None`: no owner in particular.
    pub owner: Option<String>,
    /// Names of the affected objects, such as `feature` or `channel`.
    pub subject: BTreeMap<String, String>,
    /// A single line.
    pub title: String,
    pub description: String,
    pub advice: String,
    pub facts: Vec<AlertFact>,
    /// The findings of one cause; empty for an alert about one problem.
    pub parts: Vec<AlertPart>,
    pub picture: Option<AlertChart>,
}

/// How a detected problem is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnnouncementMode {
    /// A new alert. If one is firing already, only a higher severity is sent.
    Normal,
    /// If no alert of the key fires, reopens the last one without a notification.
    ReopenSilently,
    /// As `ReopenSilently`, with a notification, also if the alert was never sent so far.
    ReopenAndNotify,
    /// As `ReopenAndNotify`. The alert has news, so it is sent again to channels that know it.
    AnnounceAgain,
    /// As `Normal`, recorded without a notification: another alert covers it.
    RecordOnly,
}

/// The author of a change and the reason given.
#[derive(Debug, Clone)]
pub struct ChangeAuthor {
    pub name: String,
    pub reason: String,
}

/// The object of an audited change, by its id.
#[derive(Debug, Clone, Copy)]
enum DecisionSubject<'a> {
    Alert(&'a str),
    Channel(&'a str),
    Delivery(&'a str),
    Silence(&'a str),
}

impl<'a> DecisionSubject<'a> {
    const fn kind_and_id(self) -> (&'static str, &'a str) {
        match self {
            Self::Alert(id) => ("alert", id),
            Self::Channel(id) => ("channel", id),
            Self::Delivery(id) => ("delivery", id),
            Self::Silence(id) => ("silence", id),
        }
    }
}

impl AlertService {
    pub fn new(
        db: DatabaseHandle,
        clock: TimeSource,
        settings: config::AlertSettings,
        metrics: Arc<ServiceMetrics>,
    ) -> Self {
        Self { db, clock, settings, metrics, wake: Notify::new() }
    }

    /// Wakes the delivery worker: a message may have become due.
    pub fn wake_delivery(&self) {
        self.wake.notify_one();
    }

    /// Resolves once [`Self::wake_delivery`] is called.
    async fn delivery_wake(&self) {
        self.wake.notified().await;
    }

    /// Interval of the periodic work on alerts.
    pub(crate) fn poll_interval(&self) -> Duration {
        self.settings.poll_interval
    }

    /// As `Self::raise_alert`, in a transaction of its own, which succeeds while other work has
    /// taken every pooled connection.
    pub async fn raise_in_own_transaction(&self, found: &NewAlert) -> Result<(), ServiceError> {
        // Commits together: the alert and the messages about it.
        let mut tx = self.db.begin_critical().await?;
        self.raise_alert(&mut tx, found, AnnouncementMode::Normal).await?;
        Ok(tx.commit().await?)
    }

    /// As `Self::resolve_alert`, in a transaction of its own, which succeeds while other work has
    /// taken every pooled connection.
    pub async fn resolve_in_own_transaction(
        &self,
        key: &str,
        why: &str,
    ) -> Result<(), ServiceError> {
        // Commits together: the resolution and the messages about it.
        let mut tx = self.db.begin_critical().await?;
        self.resolve_alert(&mut tx, key, why).await?;
        Ok(tx.commit().await?)
    }

    /// Raises an alert: writes it, and a message for each channel that routes it, in the
    /// caller's transaction. A repeated call updates the content and the
    /// time last seen; it notifies again only if the severity has risen or the mode asks for it.
    ///
    /// A transaction that raises several alerts raises them in the order of their keys: each
    /// call locks its key, and a common order prevents deadlocks.
    pub(crate) async fn raise_alert(
        &self,
        tx: &mut DatabaseTransaction,
        found: &NewAlert,
        voice: AnnouncementMode,
    ) -> Result<(), ServiceError> {
        let now = self.clock.now();
        alerting::lock_key(tx, &found.key).await?;
        let latest = alerting::find_latest(tx, &found.key).await?;
        let sight = AlertContent {
            title: &found.title,
            description: &found.description,
            advice: &found.advice,
            facts: &found.facts,
            parts: &found.parts,
            picture: found.picture.as_ref(),
        };
        let comes_back = match voice {
            AnnouncementMode::ReopenSilently
            | AnnouncementMode::ReopenAndNotify
            | AnnouncementMode::AnnounceAgain => true,
            AnnouncementMode::Normal | AnnouncementMode::RecordOnly => false,
        };
        let known = latest.filter(|last| last.resolved.is_none() || comes_back);
        match known {
            None => {
                let routed = RoutedAlert {
                    key: found.key.clone(),
                    topic: found.topic,
                    owner: found.owner.clone(),
                    severity: found.severity,
                    fired_at: now,
                    announced_at: now,
                    is_acknowledged: false,
                    is_notification_suppressed: voice == AnnouncementMode::RecordOnly,
                };
                let id = random::prefixed_id::<12>("alert")?;
                alerting::insert(tx, &id, &routed, &found.subject, &sight).await?;
            }
            Some(known) => {
                let routed = update_routed_alert(&known, found.severity, voice, now);
                alerting::record_observation(tx, &known.alert_id, &routed, &sight, now).await?;
            }
        }
        if let Some(alert) = alerting::find_latest(tx, &found.key).await? {
            self.notify_firing(tx, &alert, now).await?;
        }
        Ok(())
    }

    /// Resolves the firing alert of a key and sends the resolution to every channel that was
    /// sent the alert. Does nothing if no alert of the key fires.
    pub(crate) async fn resolve_alert(
        &self,
        tx: &mut DatabaseTransaction,
        key: &str,
        why: &str,
    ) -> Result<(), ServiceError> {
        self.resolve_firing(tx, key, why).await.map(|_| ())
    }

    /// As [`AlertService::resolve_alert`]; returns whether an alert of the key was firing.
    async fn resolve_firing(
        &self,
        tx: &mut DatabaseTransaction,
        key: &str,
        why: &str,
    ) -> Result<bool, ServiceError> {
        let now = self.clock.now();
        alerting::lock_key(tx, key).await?;
        let latest = alerting::find_latest(tx, key).await?;
        let Some(alert) = latest.filter(|alert| alert.resolved.is_none()) else {
            return Ok(false);
        };
        alerting::resolve(tx, &alert.alert_id, why, now).await?;
        self.notify_resolved(tx, key, now).await?;
        Ok(true)
    }

    /// Acknowledges an alert. Escalation channels (`escalation_delay_seconds`) are not notified
    /// any more.
    pub(crate) async fn acknowledge_alert(
        &self,
        alert_id: &str,
        by: ChangeAuthor,
    ) -> Result<AlertRow, ServiceError> {
        let note = validated_text("note", &by.reason)?;
        let row = self.alert(alert_id).await?;
        let (key, at) = (&row.state.key, self.clock.now());
        // Commits together: the acknowledgement and the record of it.
        let mut tx = self.db.begin().await?;
        alerting::lock_key(&mut tx, key).await?;
        let latest = alerting::find_latest(&mut tx, key).await?;
        // The alert may have been resolved between the read and the lock.
        if latest.is_none_or(|last| last.alert_id != alert_id || last.resolved.is_some()) {
            return Err(ServiceError::Conflict("the alert is resolved".into()));
        }
        let acknowledged = AlertAcknowledgement { at, by: by.name.clone(), note };
        alerting::acknowledge(&mut tx, alert_id, &acknowledged).await?;
        self.record_decision(&mut tx, DecisionSubject::Alert(alert_id), "acknowledge", &by).await?;
        tx.commit().await?;
        self.alert(alert_id).await
    }

    async fn alert(&self, alert_id: &str) -> Result<AlertRow, ServiceError> {
        let found = alerting::find(self.db.read(), alert_id).await?;
        found.ok_or_else(|| ServiceError::NotFound(format!("alert `{alert_id}`")))
    }

    /// Writes an audit record of a change.
    async fn record_decision(
        &self,
        tx: &mut DatabaseTransaction,
        subject: DecisionSubject<'_>,
        step: &str,
        by: &ChangeAuthor,
    ) -> Result<(), StoreError> {
        let decision = AlertDecision {
            step: step.into(),
            decided_at: self.clock.now(),
            actor: by.name.clone(),
            reason: by.reason.clone(),
        };
        let (kind, id) = subject.kind_and_id();
        decisions::insert(tx, kind, id, &decision).await
    }
}

/// Routing state of a known alert after the problem was detected again.
fn update_routed_alert(
    known: &AlertRow,
    found: Severity,
    voice: AnnouncementMode,
    now: Timestamp,
) -> RoutedAlert {
    let before = &known.state;
    if known.resolved.is_some() {
        return RoutedAlert {
            severity: found,
            fired_at: now,
            announced_at: now,
            is_acknowledged: false,
            is_notification_suppressed: voice == AnnouncementMode::ReopenSilently,
            ..before.clone()
        };
    }
    let is_news = voice == AnnouncementMode::AnnounceAgain;
    RoutedAlert {
        severity: before.severity.max(found),
        announced_at: if is_news { now } else { before.announced_at },
        is_notification_suppressed: before.is_notification_suppressed
            && voice != AnnouncementMode::ReopenAndNotify
            && !is_news,
        ..before.clone()
    }
}

/// Validates a note or a reason for storage.
fn validated_text(field: &str, text: &str) -> Result<String, ServiceError> {
    Ok(text::check_free_text(field, text, MAX_FREE_TEXT_CHARS)?)
}
