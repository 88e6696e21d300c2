//! Alert routing: decides which channels are notified of an alert, and when.
//!
//! The terms follow Prometheus Alertmanager: a route selects alerts for a channel, a
//! silence suppresses them for a time.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::domain::alert::notice::{AlertState, AlertTopic};
use crate::domain::drift::Severity;
use crate::domain::time::Timestamp;

/// A topic that a channel can receive: of alerts, or the moves of customers between segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelTopic {
    Alert(AlertTopic),
    /// No topic of alerts. A channel receives it only if the route names it.
    Moves,
}

/// Selection of the alerts that a channel receives, and whether it receives moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRoute {
    /// Owners of the selected alerts; empty: all owners, and alerts without an owner.
    pub owners: Vec<String>,
    /// Received topics; empty: all topics of alerts, without moves.
    pub topics: Vec<ChannelTopic>,
    pub min_severity: Severity,
    /// Escalation delay. 0: notify at once. Otherwise only if the alert still fires after
    /// this time and is not acknowledged.
    pub escalation_delay_seconds: u32,
}

/// The properties of an alert that decide its routing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutedAlert {
    pub key: String,
    pub topic: AlertTopic,
    pub owner: Option<String>,
    pub severity: Severity,
    /// When it began to fire (again).
    pub fired_at: Timestamp,
    /// When it last had news for those who know it: it began to fire, or a part joined later.
    pub announced_at: Timestamp,
    pub is_acknowledged: bool,
    /// The alert fires again within its cool-down: no notification is sent.
    pub is_notification_suppressed: bool,
}

/// A temporary suppression of notifications. It covers alerts that match all given fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertSilence {
    pub topic: Option<AlertTopic>,
    pub owner: Option<String>,
    pub key_prefix: Option<String>,
    pub until: Timestamp,
}

/// One notification of an alert that was sent to a channel, or is queued for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotificationRecord {
    pub state: AlertState,
    pub severity: Severity,
    pub created_at: Timestamp,
    /// All attempts have failed: the receiver never got it.
    pub is_undeliverable: bool,
}

/// The state of an alert as far as a channel has been notified of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifiedState {
    /// No notification yet, or the last one said that the alert is resolved.
    NotNotified,
    /// Notified that it fires, at this severity or below, last at this time.
    Firing { severity: Severity, last_at: Timestamp, is_dead: bool },
}

/// Deduplication key of the alert about a channel with failing deliveries.
pub fn channel_alert_key(channel: &str) -> String {
    format!("channel:{channel}")
}

impl ChannelTopic {
    pub const ALL: [Self; AlertTopic::ALL.len() + 1] = {
        let mut all = [Self::Moves; AlertTopic::ALL.len() + 1];
        let mut index = 0;
        while index < AlertTopic::ALL.len() {
            all[index] = Self::Alert(AlertTopic::ALL[index]);
            index += 1;
        }
        all
    };

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.as_str() == text)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alert(topic) => topic.as_str(),
            Self::Moves => "moves",
        }
    }
}

impl<'de> Deserialize<'de> for ChannelTopic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const NAMES: [&str; ChannelTopic::ALL.len()] = {
            let mut names = [""; ChannelTopic::ALL.len()];
            let mut index = 0;
            while index < names.len() {
                names[index] = ChannelTopic::ALL[index].as_str();
                index += 1;
            }
            names
        };
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::unknown_variant(&text, &NAMES))
    }
}

impl AlertRoute {
    pub fn has_moves(&self) -> bool {
        self.topics.contains(&ChannelTopic::Moves)
    }

    pub fn selects(&self, alert: &RoutedAlert) -> bool {
        let owner = alert.owner.as_ref();
        (self.owners.is_empty() || owner.is_some_and(|owner| self.owners.contains(owner)))
            && (self.topics.is_empty() || self.topics.contains(&ChannelTopic::Alert(alert.topic)))
            && alert.severity >= self.min_severity
    }
}

impl AlertSilence {
    pub(crate) fn covers(&self, alert: &RoutedAlert, now: Timestamp) -> bool {
        now < self.until
            && self.topic.is_none_or(|topic| topic == alert.topic)
            && (self.owner.is_none() || self.owner == alert.owner)
            && self.key_prefix.as_ref().is_none_or(|prefix| alert.key.starts_with(prefix))
    }
}

impl NotifiedState {
    /// Folds the notifications of one alert to one channel, in the order they were sent.
    pub fn from_notifications(sent: impl IntoIterator<Item = NotificationRecord>) -> Self {
        sent.into_iter().fold(Self::NotNotified, |state, sent| match (sent.state, state) {
            (AlertState::Resolved, _) => Self::NotNotified,
            (AlertState::Firing, Self::NotNotified) => Self::Firing {
                severity: sent.severity,
                last_at: sent.created_at,
                is_dead: sent.is_undeliverable,
            },
            (AlertState::Firing, Self::Firing { severity, last_at, is_dead }) => Self::Firing {
                severity: severity.max(sent.severity),
                last_at: last_at.max(sent.created_at),
                is_dead: is_dead && sent.is_undeliverable,
            },
        })
    }

    /// Whether the channel must get the resolved notification: only if a firing one arrived.
    pub const fn expects_resolution(self) -> bool {
        matches!(self, Self::Firing { is_dead: false, .. })
    }
}

/// A channel, with the route that selects its alerts.
#[derive(Debug, Clone, Copy)]
pub struct ChannelRoute<'a> {
    pub channel_id: &'a str,
    pub route: &'a AlertRoute,
}

/// Whether a firing notification of the alert is due to a channel, given its notifications
/// so far.
pub fn is_notification_due(
    alert: &RoutedAlert,
    channel: ChannelRoute<'_>,
    sent_state: NotifiedState,
    silences: &[AlertSilence],
    now: Timestamp,
) -> bool {
    let ChannelRoute { channel_id, route } = channel;
    // A channel is notified again only if the alert has become worse or was announced again.
    let is_notified = match sent_state {
        NotifiedState::NotNotified => false,
        NotifiedState::Firing { severity, last_at, .. } => {
            severity >= alert.severity && last_at >= alert.announced_at
        }
    };
    let is_time = route.escalation_delay_seconds == 0
        || (!alert.is_acknowledged
            // A start in the future comes from a wrong clock: escalate at once rather than
            // never.
            && (now >= alert.fired_at.plus_millis(1000 * i64::from(route.escalation_delay_seconds))
                || now < alert.fired_at));
    !is_notified
        && !alert.is_notification_suppressed
        && is_time
        && route.selects(alert)
        // An alert about failing deliveries must not use the failing channel.
        && alert.key != channel_alert_key(channel_id)
        && !silences.iter().any(|silence| silence.covers(alert, now))
}
