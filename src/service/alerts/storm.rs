//! Bounds the alert storm of failing channels: each failing channel raises an alert to
//! the others, so that n failing channels would send n × (n - 1) messages.
//!
//! The first few are sent one by one. The others are recorded, listed by the API, and
//! sent together as one alert; and no channel is sent the failure of another while it
//! fails itself. So n failing channels send at most `MOST_TOLD` + 1 messages to each.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::alert::{Fact, Topic, channel_key};
use crate::domain::drift::Severity;
use crate::service::ServiceError;
use crate::service::alerts::{Alerts, Found, Voice};
use crate::store::alerting::AlertRow;
use crate::store::{Tx, alerting};

/// Failing channels with an alert of their own that is sent.
const MOST_TOLD: usize = 3;
/// The key of the alert about all others that fail.
const MANY: &str = "channels";
const MOST_NAMES: usize = 20;

impl Alerts {
    /// Raises the alert about a channel that fails. While [`MOST_TOLD`] others are sent
    /// already it is only recorded, and the alert about many channels is raised.
    ///
    /// The keys are locked in this order everywhere: the channel's, then [`MANY`].
    pub(super) async fn raise_about_channel(
        &self,
        tx: &mut Tx,
        found: &Found,
    ) -> Result<(), ServiceError> {
        alerting::lock_key(tx, &found.key).await?;
        alerting::lock_key(tx, MANY).await?;
        let failing = failing(tx).await?;
        let is_known = failing.iter().any(|alert| alert.standing.key == found.key);
        let told = failing.iter().filter(|alert| !alert.standing.is_untold).count();
        if is_known || told < MOST_TOLD {
            return self.raise(tx, found, Voice::Plain).await;
        }
        self.raise(tx, found, Voice::Quiet).await?;
        let mut names: Vec<String> = failing.iter().filter_map(name).collect();
        names.extend(found.subject.get("channel").cloned());
        self.raise(tx, &many(names), Voice::Plain).await
    }

    /// Ends the alert about a channel, and the one about many channels with the last
    /// that it speaks for.
    pub(super) async fn resolve_about_channel(
        &self,
        tx: &mut Tx,
        channel_id: &str,
        why: &str,
    ) -> Result<(), ServiceError> {
        if !self.resolve_firing(tx, &channel_key(channel_id), why).await? {
            return Ok(());
        }
        alerting::lock_key(tx, MANY).await?;
        if failing(tx).await?.iter().any(|alert| alert.standing.is_untold) {
            return Ok(());
        }
        self.resolve(tx, MANY, "few channels fail").await
    }
}

/// The alerts that fire about single channels.
async fn failing(tx: &mut Tx) -> Result<Vec<AlertRow>, ServiceError> {
    let mut failing = alerting::firing_now(tx, Topic::Channel).await?;
    failing.retain(|alert| alert.standing.key != MANY);
    Ok(failing)
}

/// The keys of those channels that are sent nothing about other channels, of the alerts
/// that fire.
pub(super) fn failing_keys(firing: &[AlertRow]) -> BTreeSet<&str> {
    let failing = firing.iter().filter(|alert| alert.standing.topic == Topic::Channel);
    failing.map(|alert| &*alert.standing.key).collect()
}

fn name(alert: &AlertRow) -> Option<String> {
    alert.subject.get("channel").cloned()
}

fn many(mut names: Vec<String>) -> Found {
    let count = names.len();
    names.sort_unstable();
    names.truncate(MOST_NAMES);
    Found {
        key: MANY.into(),
        topic: Topic::Channel,
        severity: Severity::Warning,
        owner: None,
        subject: BTreeMap::new(),
        title: format!("More than {MOST_TOLD} channels take no messages"),
        what: format!(
            "More than {MOST_TOLD} channels take no messages. The others have no message of \
             their own; GET /v1/alerts?topic=channel lists each."
        ),
        advice: "Look for a common cause first: the network, a proxy, or \
                 alerts.allow_private_addresses. Then see the deliveries of each channel."
            .into(),
        facts: vec![
            Fact { name: "Channels".into(), value: count.to_string() },
            Fact { name: "Names".into(), value: names.join(", ") },
        ],
        picture: None,
    }
}
