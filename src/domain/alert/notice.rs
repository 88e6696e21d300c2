//! Content of a notification, the same for every kind of receiver.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::drift::{ChartBar, Severity};
use crate::domain::time::Timestamp;

/// The topic of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertTopic {
    /// Scored rows no longer look like the training rows.
    Drift,
    /// An event source is silent, or its volume is far from usual.
    Source,
    /// A model on probation was rolled back.
    Rollback,
    /// A training run failed.
    Training,
    /// Deliveries to a notification channel fail.
    Channel,
    /// The service itself: the disk of its database is almost full.
    Operations,
    /// A test message; no real alert.
    Test,
}

/// State of an alert in a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    Firing,
    Resolved,
}

/// One notification to one receiver. It is self-contained: sending needs no lookup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Idempotency key of this notification to this receiver: equal for all attempts.
    pub delivery_id: String,
    /// Id of the alert: equal in the firing and the resolved notification, and for every
    /// receiver.
    pub alert_id: String,
    /// Deduplication key: at most one alert of a key fires at any time.
    pub key: String,
    pub topic: AlertTopic,
    pub state: AlertState,
    pub severity: Severity,
    /// Owner of the data; `None`: the alert concerns no particular owner.
    pub owner: Option<String>,
    /// Identifying labels: `about`, `source`, `channel` and the like. They differ between
    /// any two alerts of a topic and never change during the life of an alert.
    pub subject: BTreeMap<String, String>,
    /// The headline, one line.
    pub title: String,
    /// Description of the problem, in sentences.
    pub description: String,
    /// The recommended reaction.
    pub advice: String,
    pub facts: Vec<AlertFact>,
    /// The findings that make up the alert; empty for an alert about one problem.
    #[serde(default)]
    pub parts: Vec<AlertPart>,
    pub picture: Option<AlertChart>,
    pub started_at: Timestamp,
    /// Instant of the state change: the alert began to fire, or was resolved.
    pub at: Timestamp,
    /// Address of a page about the alert; `None`: no base address is configured.
    pub link: Option<String>,
}

/// One of several findings that have a common cause and therefore one alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertPart {
    /// Key of the part, unique within the alert.
    pub key: String,
    /// The compared quantity, such as `values` or `missing`.
    pub about: String,
    /// Name of the feature; `None`: the part is about the model.
    pub feature: Option<String>,
    /// Segment to which the part is limited; `None`: all customers.
    pub segment_id: Option<String>,
    /// The highest severity since the part began.
    pub severity: Severity,
    /// The change in one sentence, when it was last found.
    pub description: String,
    /// Whether the finding disappears without the rows of one API key.
    pub depends_on_one_key: bool,
    /// First check that found it.
    pub since: Timestamp,
    /// When it was no longer found; `None`: it is a part of the problem now.
    pub ended_at: Option<Timestamp>,
}

/// A named figure, formatted for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertFact {
    pub name: String,
    pub value: String,
}

/// Chart of training against current data: an SVG, and its bars for receivers that cannot
/// show an SVG.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertChart {
    pub svg: String,
    pub bars: Vec<ChartBar>,
}

impl AlertTopic {
    pub const ALL: [Self; 7] = [
        Self::Drift,
        Self::Source,
        Self::Rollback,
        Self::Training,
        Self::Channel,
        Self::Operations,
        Self::Test,
    ];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.as_str() == text)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drift => "drift",
            Self::Source => "source",
            Self::Rollback => "rollback",
            Self::Training => "training",
            Self::Channel => "channel",
            Self::Operations => "operations",
            Self::Test => "test",
        }
    }
}

impl AlertState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Firing, Self::Resolved].into_iter().find(|state| state.name() == text)
    }
}

impl Notification {
    /// Event type for webhooks and `CloudEvents`, such as `drift.firing`.
    pub(crate) fn event_type(&self) -> String {
        format!("{}.{}", self.topic.as_str(), self.state.name())
    }
}
