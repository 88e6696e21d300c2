//! Alert sweep: notifications that become due with time alone, and gauges of firing alerts.
//! Time escalates an unacknowledged alert, ends a silence, and adds channels.

use std::collections::BTreeMap;

use crate::domain::alert::{AlertTopic, ChannelRoute, channel_alert_key, is_notification_due};
use crate::service::ServiceError;
use crate::service::alerts::AlertService;
use crate::service::alerts::notify::{sent_state, sent_states};
use crate::service::alerts::storm::failing_channel_keys;
use crate::store::alerting;
use crate::store::alerting::deliveries::SentNotification;
use crate::store::alerting::{AlertRow, channels, deliveries, silences};

impl AlertService {
    /// Sends the notifications that are due. Replicas may sweep concurrently: each locks the
    /// alert key and decides again before it enqueues a message.
    pub async fn notify_due_alerts(&self) -> Result<(), ServiceError> {
        let now = self.clock.now();
        let db = self.db.read();
        let firing = alerting::firing(db).await?;
        self.update_metrics(&firing).await?;
        if firing.is_empty() {
            return Ok(());
        }
        let mut channels = channels::list(db).await?;
        channels.retain(|channel| channel.disabled.is_none());
        let silences = silences::list_active(db, now).await?;
        let silences: Vec<_> = silences.into_iter().map(|row| row.silence).collect();
        let ids: Vec<String> = firing.iter().map(|alert| alert.alert_id.clone()).collect();
        let mut sent: BTreeMap<String, Vec<SentNotification>> = BTreeMap::new();
        for row in deliveries::sent(db, &ids).await? {
            sent.entry(row.alert_id.clone()).or_default().push(row);
        }
        let failing = failing_channel_keys(&firing);
        for alert in &firing {
            let about_channel = alert.state.topic == AlertTopic::Channel;
            let sent = sent_states(sent.get(&alert.alert_id).map_or(&[], Vec::as_slice));
            let is_due = channels.iter().any(|channel| {
                let is_failing = failing.contains(&*channel_alert_key(&channel.channel_id));
                if about_channel && is_failing {
                    return false;
                }
                let recipient =
                    ChannelRoute { channel_id: &channel.channel_id, route: &channel.route };
                let state = sent_state(&sent, channel);
                is_notification_due(&alert.state, recipient, state, &silences, now)
            });
            if is_due {
                self.notify_due(alert).await?;
            }
        }
        Ok(())
    }

    async fn notify_due(&self, alert: &AlertRow) -> Result<(), ServiceError> {
        // Commits together: a message to each channel to which the alert is due.
        let mut tx = self.db.begin().await?;
        alerting::lock_key(&mut tx, &alert.state.key).await?;
        let latest = alerting::find_latest(&mut tx, &alert.state.key).await?;
        if let Some(latest) = latest.filter(|latest| latest.resolved.is_none()) {
            self.notify_firing(&mut tx, &latest, self.clock.now()).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn update_metrics(&self, firing: &[AlertRow]) -> Result<(), ServiceError> {
        let metrics = &self.metrics.alerts;
        metrics.set_firing_alerts(
            firing.iter().map(|alert| (alert.state.topic, alert.state.severity)),
        );
        let oldest = deliveries::oldest_waiting_at(self.db.read()).await?;
        metrics.set_oldest_undelivered(oldest, self.clock.now());
        Ok(())
    }
}
