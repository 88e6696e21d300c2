//! Alert-storm protection: bounds the alerts about failing channels. Each failing channel
//! raises an alert to the others, so n failing channels would send n × (n - 1) messages.
//!
//! The first few are sent one by one. The others are recorded, listed by the API, and sent
//! together as one alert. A failing channel is not sent the failures of other channels. So each
//! channel receives at most `MAX_SINGLE_ALERTS` + 1 messages, however many fail.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::alert::{AlertFact, AlertTopic, channel_alert_key};
use crate::domain::drift::Severity;
use crate::service::ServiceError;
use crate::service::alerts::{AlertService, AnnouncementMode, NewAlert};
use crate::store::alerting::AlertRow;
use crate::store::{DatabaseTransaction, alerting};

/// Failing channels that are announced by an alert of their own.
const MAX_SINGLE_ALERTS: usize = 3;
/// Key of the alert about all other failing channels.
const MANY_CHANNELS_KEY: &str = "channels";
const MAX_NAMES: usize = 20;

impl AlertService {
    /// Raises the alert about a failing channel. If [`MAX_SINGLE_ALERTS`] others are already
    /// announced, it is only recorded, and the alert about many channels is raised.
    ///
    /// Lock order everywhere: the channel's key, then [`MANY_CHANNELS_KEY`].
    pub(super) async fn raise_channel_alert(
        &self,
        tx: &mut DatabaseTransaction,
        found: &NewAlert,
    ) -> Result<(), ServiceError> {
        alerting::lock_key(tx, &found.key).await?;
        alerting::lock_key(tx, MANY_CHANNELS_KEY).await?;
        let failing = firing_channel_alerts(tx).await?;
        let is_known = failing.iter().any(|alert| alert.state.key == found.key);
        let announced =
            failing.iter().filter(|alert| !alert.state.is_notification_suppressed).count();
        if is_known || announced < MAX_SINGLE_ALERTS {
            return self.raise_alert(tx, found, AnnouncementMode::Normal).await;
        }
        self.raise_alert(tx, found, AnnouncementMode::RecordOnly).await?;
        let mut names: Vec<String> = failing.iter().filter_map(channel_name).collect();
        names.extend(found.subject.get("channel").cloned());
        self.raise_alert(tx, &many_channels_alert(names), AnnouncementMode::Normal).await
    }

    /// Resolves the alert about a channel, and the alert about many channels with the last
    /// channel that it covers.
    pub(super) async fn resolve_channel_alert(
        &self,
        tx: &mut DatabaseTransaction,
        channel_id: &str,
        why: &str,
    ) -> Result<(), ServiceError> {
        if !self.resolve_firing(tx, &channel_alert_key(channel_id), why).await? {
            return Ok(());
        }
        alerting::lock_key(tx, MANY_CHANNELS_KEY).await?;
        if firing_channel_alerts(tx)
            .await?
            .iter()
            .any(|alert| alert.state.is_notification_suppressed)
        {
            return Ok(());
        }
        self.resolve_alert(tx, MANY_CHANNELS_KEY, "only a few channels fail").await
    }
}

/// The firing alerts about single channels.
async fn firing_channel_alerts(
    tx: &mut DatabaseTransaction,
) -> Result<Vec<AlertRow>, ServiceError> {
    let mut failing = alerting::list_firing_in_transaction(tx, AlertTopic::Channel).await?;
    failing.retain(|alert| alert.state.key != MANY_CHANNELS_KEY);
    Ok(failing)
}

/// Keys of the failing channels among the firing alerts. These channels are not notified about
/// other channels.
pub(super) fn failing_channel_keys(firing: &[AlertRow]) -> BTreeSet<&str> {
    let failing = firing.iter().filter(|alert| alert.state.topic == AlertTopic::Channel);
    failing.map(|alert| &*alert.state.key).collect()
}

fn channel_name(alert: &AlertRow) -> Option<String> {
    alert.subject.get("channel").cloned()
}

fn many_channels_alert(mut names: Vec<String>) -> NewAlert {
    let count = names.len();
    names.sort_unstable();
    names.truncate(MAX_NAMES);
    NewAlert {
        key: MANY_CHANNELS_KEY.into(),
        topic: AlertTopic::Channel,
        severity: Severity::Warning,
        owner: None,
        subject: BTreeMap::new(),
        title: format!("More than {MAX_SINGLE_ALERTS} channels cannot be notified"),
        description: format!(
            "More than {MAX_SINGLE_ALERTS} channels do not accept messages. The others are not \
             announced one by one; GET /v1/alerts?topic=channel lists each."
        ),
        advice: "Look for a common cause first: the network, a proxy, or \
                 alerts.allow_private_addresses. Then see the deliveries of each channel."
            .into(),
        facts: vec![
            AlertFact { name: "Channels".into(), value: count.to_string() },
            AlertFact { name: "Names".into(), value: names.join(", ") },
        ],
        parts: vec![],
        picture: None,
    }
}
