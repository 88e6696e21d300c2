//! Outcome of a delivery attempt: the message's next state, and the alert about a failing
//! channel.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::alert::{AlertFact, AlertTopic, DeliveryTarget, channel_alert_key, schedule};
use crate::domain::drift::Severity;
use crate::outbound::SendErrorKind;
use crate::service::alerts::deliver::{AttemptFailure, AttemptOutcome};
use crate::service::alerts::{AlertService, NewAlert};
use crate::service::{ServiceError, random};
use crate::store::alerting::deliveries::{ClaimedDelivery, DeliveryAttempt, DeliveryOutcome};
use crate::store::alerting::{channels, deliveries};
use crate::store::{DatabaseTransaction, DedicatedDatabase};
use crate::telemetry::labels::{ChannelKind, DeliveryOutcomeLabel};

/// Description of a channel whose target is not permitted or not configured.
pub(super) const MISCONFIGURED: &str = "cannot be notified with its present configuration";

/// The channel of an attempt.
#[derive(Clone, Copy)]
pub(super) struct AttemptedChannel<'a> {
    pub(super) channel_id: &'a str,
    pub(super) name: &'a str,
    pub(super) target: &'a DeliveryTarget,
}

impl AlertService {
    /// Records an attempt: reschedules or finishes the message, and raises or resolves the alert
    /// about its channel.
    pub(super) async fn record_attempt(
        &self,
        db: &DedicatedDatabase,
        token: &str,
        claimed: &ClaimedDelivery,
        outcome: &AttemptOutcome,
    ) -> Result<(), ServiceError> {
        let now = self.clock.now();
        let failed = claimed.attempts + 1;
        let next = match outcome.failure {
            None => DeliveryOutcome::Delivered,
            Some(AttemptFailure { kind: SendErrorKind::Gone, .. }) => DeliveryOutcome::Failed,
            // Forbidden is retried too: an operator may change the configuration meanwhile.
            Some(AttemptFailure { retry_after, .. }) => {
                match schedule::retry_delay(failed, random::random_fraction()?, retry_after) {
                    Some(delay) => DeliveryOutcome::RetryAt(now.plus_millis(millis(delay))),
                    None => DeliveryOutcome::Failed,
                }
            }
        };
        let channel = AttemptedChannel {
            channel_id: &claimed.channel_id,
            name: &claimed.channel_name,
            target: &claimed.target,
        };
        // Commits together: the attempt, the message's next state, the channel's state, and the
        // alert about the channel.
        let mut tx = db.begin().await?;
        deliveries::record_attempt(&mut tx, &claimed.delivery_id, &outcome.attempt).await?;
        // False if the claim has expired and another replica took the message over: its outcome
        // counts.
        if deliveries::finish_attempt(&mut tx, &claimed.delivery_id, token, next, now).await? {
            match outcome.failure.map(|failure| failure.kind) {
                None => self.resolve_recovered_channel(&mut tx, channel).await?,
                Some(SendErrorKind::Gone) => self.disable_gone_channel(&mut tx, channel).await?,
                Some(SendErrorKind::Forbidden) => {
                    let attempt = &outcome.attempt;
                    self.raise_delivery_failure(&mut tx, channel, attempt, MISCONFIGURED).await?;
                }
                Some(SendErrorKind::Temporary) if next == DeliveryOutcome::Failed => {
                    let what = "has not accepted a message for days; the message was given up";
                    self.raise_delivery_failure(&mut tx, channel, &outcome.attempt, what).await?;
                }
                Some(SendErrorKind::Temporary) => {}
            }
        }
        tx.commit().await?;
        self.count_delivery(claimed, next);
        Ok(())
    }

    pub(super) async fn resolve_recovered_channel(
        &self,
        tx: &mut DatabaseTransaction,
        channel: AttemptedChannel<'_>,
    ) -> Result<(), ServiceError> {
        self.resolve_channel_alert(tx, channel.channel_id, "it accepts messages again").await
    }

    /// Disables a channel after its receiver answered 410 (gone), and withdraws its pending
    /// messages.
    pub(super) async fn disable_gone_channel(
        &self,
        tx: &mut DatabaseTransaction,
        channel: AttemptedChannel<'_>,
    ) -> Result<(), ServiceError> {
        let why = "the receiver answered 410 (gone)";
        let now = self.clock.now();
        channels::disable(tx, channel.channel_id, why, now).await?;
        deliveries::withdraw_pending(tx, channel.channel_id, now).await?;
        let found =
            channel_alert(channel, "was disabled: its receiver answered 410 (gone)", Vec::new());
        self.raise_channel_alert(tx, &found).await
    }

    pub(super) async fn raise_delivery_failure(
        &self,
        tx: &mut DatabaseTransaction,
        channel: AttemptedChannel<'_>,
        attempt: &DeliveryAttempt,
        what: &str,
    ) -> Result<(), ServiceError> {
        let status = attempt.status.map_or("none".into(), |status| status.to_string());
        let facts = vec![
            AlertFact { name: "Last status".into(), value: status },
            AlertFact { name: "Last answer".into(), value: attempt.response.clone() },
        ];
        self.raise_channel_alert(tx, &channel_alert(channel, what, facts)).await
    }

    fn count_delivery(&self, claimed: &ClaimedDelivery, next: DeliveryOutcome) {
        let kind = match claimed.target {
            DeliveryTarget::Webhook { .. } => ChannelKind::Webhook,
            DeliveryTarget::Alertmanager { .. } => ChannelKind::Alertmanager,
            DeliveryTarget::Slack { .. } => ChannelKind::Slack,
            DeliveryTarget::Email { .. } => ChannelKind::Email,
        };
        let label = match next {
            DeliveryOutcome::Delivered => DeliveryOutcomeLabel::Delivered,
            DeliveryOutcome::RetryAt(_) => DeliveryOutcomeLabel::Failed,
            DeliveryOutcome::Failed => DeliveryOutcomeLabel::GivenUp,
        };
        self.metrics.alerts.deliveries.add((kind, label), 1);
    }
}

fn channel_alert(channel: AttemptedChannel<'_>, what: &str, facts: Vec<AlertFact>) -> NewAlert {
    let name = channel.name;
    NewAlert {
        key: channel_alert_key(channel.channel_id),
        topic: AlertTopic::Channel,
        severity: Severity::Warning,
        owner: None,
        subject: BTreeMap::from([("channel".to_owned(), name.to_owned())]),
        title: format!("Channel {name} cannot be notified"),
        description: format!("Channel {name} ({}) {what}.", channel.target.kind()),
        advice: "See its deliveries, fix the receiver or the channel, enable it if it is \
                 disabled, and replay the missed messages."
            .into(),
        facts,
        parts: vec![],
        picture: None,
    }
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
