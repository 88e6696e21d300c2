//! Enqueues alert notifications into the transactional outbox.

use std::collections::BTreeMap;

use crate::domain::alert::{
    AlertChart, AlertState, AlertTopic, ChannelRoute, Notification, NotifiedState,
    channel_alert_key, is_notification_due,
};
use crate::domain::time::Timestamp;
use crate::service::alerts::AlertService;
use crate::service::alerts::storm::failing_channel_keys;
use crate::service::{ServiceError, random};
use crate::store::alerting::channels::ChannelRow;
use crate::store::alerting::deliveries::SentNotification;
use crate::store::alerting::{AlertRow, channels, deliveries, silences};
use crate::store::{DatabaseTransaction, alerting};

impl AlertService {
    /// Enqueues a firing alert for every channel that routes it and was not yet sent it. The
    /// caller has locked the alert key.
    pub(super) async fn notify_firing(
        &self,
        tx: &mut DatabaseTransaction,
        alert: &AlertRow,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        if alert.state.is_notification_suppressed {
            return Ok(());
        }
        let silences = silences::list_active_in_transaction(tx, now).await?;
        let silences: Vec<_> = silences.into_iter().map(|row| row.silence).collect();
        let sent = sent_states(&deliveries::list_sent_in_transaction(tx, &alert.alert_id).await?);
        let mut channels = channels::list_in_transaction(tx).await?;
        // A failing channel is not notified about another failing channel: see `storm`.
        if alert.state.topic == AlertTopic::Channel {
            let firing = alerting::list_firing_in_transaction(tx, AlertTopic::Channel).await?;
            let failing = failing_channel_keys(&firing);
            channels.retain(|channel| !failing.contains(&*channel_alert_key(&channel.channel_id)));
        }
        channels.retain(|channel| {
            let state = sent_state(&sent, channel);
            let recipient = ChannelRoute { channel_id: &channel.channel_id, route: &channel.route };
            channel.disabled.is_none()
                && is_notification_due(&alert.state, recipient, state, &silences, now)
        });
        if channels.is_empty() {
            return Ok(());
        }
        let picture = alerting::find_picture_in_transaction(tx, &alert.alert_id).await?;
        for channel in channels {
            // A channel that knows the alert is sent the time at which it became worse.
            let at = match sent_state(&sent, &channel) {
                NotifiedState::Firing { .. } => alert.last_seen_at,
                NotifiedState::NotNotified => alert.state.fired_at,
            };
            let notice = self.notice(alert, AlertState::Firing, at, picture.clone())?;
            deliveries::insert(tx, &channel.channel_id, &notice, now).await?;
        }
        Ok(())
    }

    /// Enqueues the resolution of the last alert of this key, if it is resolved, for every
    /// channel that was sent the firing alert. The caller has locked the alert key.
    pub(super) async fn notify_resolved(
        &self,
        tx: &mut DatabaseTransaction,
        key: &str,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let Some(alert) = alerting::find_latest(tx, key).await? else { return Ok(()) };
        let Some(resolved) = &alert.resolved else { return Ok(()) };
        for (channel, state) in
            sent_states(&deliveries::list_sent_in_transaction(tx, &alert.alert_id).await?)
        {
            if state.expects_resolution() {
                let mut notice = self.notice(&alert, AlertState::Resolved, resolved.at, None)?;
                notice.description =
                    format!("Resolved: {}. It was: {}", resolved.reason, notice.description);
                deliveries::insert(tx, &channel, &notice, now).await?;
            }
        }
        Ok(())
    }

    fn notice(
        &self,
        alert: &AlertRow,
        state: AlertState,
        at: Timestamp,
        picture: Option<AlertChart>,
    ) -> Result<Notification, ServiceError> {
        let routed = &alert.state;
        Ok(Notification {
            delivery_id: random::prefixed_id::<16>("msg")?,
            alert_id: alert.alert_id.clone(),
            key: routed.key.clone(),
            topic: routed.topic,
            state,
            severity: routed.severity,
            owner: routed.owner.clone(),
            subject: alert.subject.clone(),
            title: alert.title.clone(),
            description: alert.description.clone(),
            advice: alert.advice.clone(),
            facts: alert.facts.clone(),
            parts: alert.parts.clone(),
            picture,
            started_at: alert.started_at,
            at,
            link: self.link(&alert.alert_id),
        })
    }

    fn link(&self, alert_id: &str) -> Option<String> {
        let url = self.settings.external_url.as_ref()?;
        Some(format!("{url}/v1/alerts/{alert_id}"))
    }
}

/// The state that each channel was last sent of one alert.
pub(super) fn sent_states(sent: &[SentNotification]) -> BTreeMap<String, NotifiedState> {
    let mut by_channel: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for row in sent {
        by_channel.entry(&row.channel_id).or_default().push(row.sent);
    }
    by_channel
        .into_iter()
        .map(|(channel, sent)| (channel.to_owned(), NotifiedState::from_notifications(sent)))
        .collect()
}

/// The state that `channel` was last sent, if any.
pub(super) fn sent_state(
    sent: &BTreeMap<String, NotifiedState>,
    channel: &ChannelRow,
) -> NotifiedState {
    sent.get(&channel.channel_id).copied().unwrap_or(NotifiedState::NotNotified)
}
