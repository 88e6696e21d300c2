//! Alert sweep: notifications that become due with time alone, and gauges of firing alerts.
//! Time escalates an unacknowledged alert, ends a silence, and adds channels.

use std::collections::BTreeMap;

use crate::domain::alert::{ChannelRoute, Topic, channel_key, is_owed};
use crate::service::ServiceError;
use crate::service::alerts::AlertService;
use crate::service::alerts::notify::{sent_state, sent_states};
use crate::service::alerts::storm::failing_channel_keys;
use crate::store::alerting;
use crate::store::alerting::deliveries::SentRow;
use crate::store::alerting::{AlertRow, channels, deliveries, silences};

impl AlertService {
    /// Sends the notifications that are due. Replicas may sweep concurrently: each locks the
    /// alert key and decides again before it enqueues a message.
    pub async fn sweep(&self) -> Result<(), ServiceError> {
        let now = self.clock.now();
        let db = self.db.read();
        let firing = alerting::firing(db).await?;
        self.update_metrics(&firing).await?;
        if firing.is_empty() {
            return Ok(());
        }
        let mut channels = channels::all(db).await?;
        channels.retain(|channel| channel.disabled.is_none());
        let silences = silences::in_force(db, now).await?;
        let silences: Vec<_> = silences.into_iter().map(|row| row.silence).collect();
        let ids: Vec<String> = firing.iter().map(|alert| alert.alert_id.clone()).collect();
        let mut sent: BTreeMap<String, Vec<SentRow>> = BTreeMap::new();
        for row in deliveries::sent(db, &ids).await? {
            sent.entry(row.alert_id.clone()).or_default().push(row);
        }
        let failing = failing_channel_keys(&firing);
        for alert in &firing {
            let about_channel = alert.standing.topic == Topic::Channel;
            let sent = sent_states(sent.get(&alert.alert_id).map_or(&[], Vec::as_slice));
            let is_due = channels.iter().any(|channel| {
                let is_failing = failing.contains(&*channel_key(&channel.channel_id));
                if about_channel && is_failing {
                    return false;
                }
                let recipient =
                    ChannelRoute { channel_id: &channel.channel_id, route: &channel.route };
                let state = sent_state(&sent, channel);
                is_owed(&alert.standing, recipient, state, &silences, now)
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
        alerting::lock_key(&mut tx, &alert.standing.key).await?;
        let latest = alerting::latest(&mut tx, &alert.standing.key).await?;
        if let Some(latest) = latest.filter(|latest| latest.resolved.is_none()) {
            self.notify_firing(&mut tx, &latest, self.clock.now()).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn update_metrics(&self, firing: &[AlertRow]) -> Result<(), ServiceError> {
        let metrics = &self.metrics.alerts;
        metrics.show_firing(
            firing.iter().map(|alert| (alert.standing.topic, alert.standing.severity)),
        );
        let oldest = deliveries::oldest_waiting(self.db.read()).await?;
        metrics.show_oldest_waiting(oldest, self.clock.now());
        Ok(())
    }
}
