//! Outcome of a delivery attempt: the message's next state, and the alert about a failing
//! channel.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::alert::{Fact, Target, Topic, channel_key, schedule};
use crate::domain::drift::Severity;
use crate::outbound::SendErrorKind;
use crate::service::alerts::deliver::Tried;
use crate::service::alerts::{Alerts, Found};
use crate::service::{ServiceError, random};
use crate::store::alerting::deliveries::{Claimed, Next};
use crate::store::alerting::{channels, deliveries};
use crate::store::{DedicatedDb, Tx};
use crate::telemetry::labels::{ChannelKind, DeliveryOutcome};

impl Alerts {
    pub(super) async fn settle(
        &self,
        db: &DedicatedDb,
        token: &str,
        claimed: &Claimed,
        tried: &Tried,
    ) -> Result<(), ServiceError> {
        let now = self.clock.now();
        let failed = claimed.attempts + 1;
        let next = match tried.failure {
            None => Next::Delivered,
            Some((SendErrorKind::Gone, _)) => Next::Dead,
            Some((SendErrorKind::Temporary | SendErrorKind::Forbidden, asked)) => {
                match schedule::delay(failed, random::share()?, asked) {
                    Some(delay) => Next::Again(now.plus_millis(millis(delay))),
                    None => Next::Dead,
                }
            }
        };
        // Commits together: the attempt, the message's next state, the channel's state, and the
        // alert about the channel.
        let mut tx = db.begin().await?;
        deliveries::log(&mut tx, &claimed.delivery_id, &tried.attempt).await?;
        // False if the claim has expired and another replica took the message over: its outcome
        // counts.
        if deliveries::settle(&mut tx, &claimed.delivery_id, token, next, now).await? {
            match tried.failure {
                None => self.takes_again(&mut tx, claimed).await?,
                Some((SendErrorKind::Gone, _)) => self.gone(&mut tx, claimed).await?,
                Some((SendErrorKind::Forbidden, _)) => {
                    let what = "cannot be notified with its present configuration";
                    self.about_channel(&mut tx, claimed, tried, what).await?;
                }
                Some((SendErrorKind::Temporary, _)) if next == Next::Dead => {
                    let what = "has not accepted a message for days; the message was given up";
                    self.about_channel(&mut tx, claimed, tried, what).await?;
                }
                Some((SendErrorKind::Temporary, _)) => {}
            }
        }
        tx.commit().await?;
        self.count(claimed, next);
        Ok(())
    }

    async fn takes_again(&self, tx: &mut Tx, claimed: &Claimed) -> Result<(), ServiceError> {
        self.resolve_about_channel(tx, &claimed.channel_id, "it accepts messages again").await
    }

    /// Disables a channel whose receiver answered 410 (gone), and withdraws its pending
    /// messages.
    async fn gone(&self, tx: &mut Tx, claimed: &Claimed) -> Result<(), ServiceError> {
        let why = "the receiver answered 410 (gone)";
        let now = self.clock.now();
        channels::disable(tx, &claimed.channel_id, why, now).await?;
        deliveries::withdraw(tx, &claimed.channel_id, now).await?;
        let found = found(claimed, "was disabled: its receiver answered 410 (gone)", Vec::new());
        self.raise_about_channel(tx, &found).await
    }

    async fn about_channel(
        &self,
        tx: &mut Tx,
        claimed: &Claimed,
        tried: &Tried,
        what: &str,
    ) -> Result<(), ServiceError> {
        let status = tried.attempt.status.map_or("none".into(), |status| status.to_string());
        let facts = vec![
            Fact { name: "Last status".into(), value: status },
            Fact { name: "Last answer".into(), value: tried.attempt.answer.clone() },
        ];
        self.raise_about_channel(tx, &found(claimed, what, facts)).await
    }

    fn count(&self, claimed: &Claimed, next: Next) {
        let kind = match claimed.target {
            Target::Webhook { .. } => ChannelKind::Webhook,
            Target::Alertmanager { .. } => ChannelKind::Alertmanager,
            Target::Slack { .. } => ChannelKind::Slack,
            Target::Email { .. } => ChannelKind::Email,
        };
        let outcome = match next {
            Next::Delivered => DeliveryOutcome::Delivered,
            Next::Again(_) => DeliveryOutcome::Failed,
            Next::Dead => DeliveryOutcome::Dead,
        };
        self.metrics.alerts.deliveries.add((kind, outcome), 1);
    }
}

fn found(claimed: &Claimed, what: &str, facts: Vec<Fact>) -> Found {
    let name = &claimed.channel_name;
    Found {
        key: channel_key(&claimed.channel_id),
        topic: Topic::Channel,
        severity: Severity::Warning,
        owner: None,
        subject: BTreeMap::from([("channel".to_owned(), name.clone())]),
        title: format!("Channel {name} cannot be notified"),
        what: format!("Channel {name} ({}) {what}.", claimed.target.kind()),
        advice: "See its deliveries, fix the receiver or the channel, enable it if it is \
                 disabled, and replay the missed messages."
            .into(),
        facts,
        picture: None,
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
