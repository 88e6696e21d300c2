//! What is sent: the same content for every kind of receiver.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::drift::{Bar, Severity};
use crate::domain::time::Timestamp;

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// What is scored no longer looks like what the model was trained on.
    Drift,
    /// A source has gone quiet, or sends far more or less than it did.
    Source,
    /// A model was taken back, because of how it answered.
    Rollback,
    /// A training run failed.
    Training,
    /// A channel no longer takes what it is sent.
    Channel,
    /// The service itself: the disk of its database is running full.
    Operations,
    /// Nothing happened: somebody tries a channel.
    Test,
}

/// Where an alert stands when it is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Firing,
    Resolved,
}

/// One message to one receiver, complete: nothing has to be looked up to send it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Of this message to this receiver: the same each time it is tried.
    pub delivery_id: String,
    /// Of the alert: the same when it fires and when it is resolved, for every receiver.
    pub alert_id: String,
    /// What the alert is about, as one name: never two alerts of one key fire at once.
    pub key: String,
    pub topic: Topic,
    pub state: State,
    pub severity: Severity,
    /// Whose data it is; `None`: nobody's in particular.
    pub owner: Option<String>,
    /// What it is about, by name: `feature`, `source`, `model` and the like. Two
    /// alerts of a topic differ in these; they stay the same while the alert lives.
    pub subject: BTreeMap<String, String>,
    /// One line.
    pub title: String,
    /// What happened, in sentences.
    pub what: String,
    /// What to do about it.
    pub advice: String,
    pub facts: Vec<Fact>,
    pub picture: Option<Picture>,
    pub started_at: Timestamp,
    /// When what is told happened: it began to fire, or it was over.
    pub at: Timestamp,
    /// Where a person reads more; `None`: no address is configured.
    pub link: Option<String>,
}

/// A figure with its name, as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    pub name: String,
    pub value: String,
}

/// Reference against current: drawn, and as bars for those who cannot show a drawing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    pub svg: String,
    pub bars: Vec<Bar>,
}

impl Topic {
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
        Self::ALL.into_iter().find(|topic| topic.name() == text)
    }

    pub const fn name(self) -> &'static str {
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

impl State {
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

impl Notice {
    /// The name of the event, as webhooks and `CloudEvents` carry it: `drift.firing`.
    pub fn event_type(&self) -> String {
        format!("{}.{}", self.topic.name(), self.state.name())
    }
}
