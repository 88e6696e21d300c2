//! Who is to hear of an alert, and when.

use crate::domain::alert::notice::{State, Topic};
use crate::domain::drift::Severity;
use crate::domain::time::Timestamp;

/// What a channel wants to hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Alerts of these owners; empty: of everybody, and of nobody in particular.
    pub owners: Vec<String>,
    /// Empty: all of them.
    pub topics: Vec<Topic>,
    pub least_severity: Severity,
    /// 0: at once. Else only of what still fires after so long, and that nobody has
    /// acknowledged.
    pub after_seconds: u32,
}

/// What of an alert decides who hears of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub key: String,
    pub topic: Topic,
    pub owner: Option<String>,
    pub severity: Severity,
    /// When it began to fire (again).
    pub fired_at: Timestamp,
    pub is_acknowledged: bool,
    /// It fires again soon after it was over: nobody is told.
    pub is_untold: bool,
}

/// What is not to be told for a while: all that is named has to be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    pub topic: Option<Topic>,
    pub owner: Option<String>,
    pub key_prefix: Option<String>,
    pub until: Timestamp,
}

/// What a channel has been sent of an alert, or is about to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub state: State,
    pub severity: Severity,
    /// It was given up: the receiver has never had it.
    pub is_dead: bool,
}

/// What came of all that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nothing, or that it was over.
    Nothing,
    /// That it fires, at worst so badly.
    Firing { severity: Severity, is_dead: bool },
}

/// The key of the alert about a channel that no longer takes anything.
pub fn channel_key(channel: &str) -> String {
    format!("channel:{channel}")
}

impl Route {
    pub fn takes(&self, alert: &Standing) -> bool {
        let owner = alert.owner.as_ref();
        (self.owners.is_empty() || owner.is_some_and(|owner| self.owners.contains(owner)))
            && (self.topics.is_empty() || self.topics.contains(&alert.topic))
            && alert.severity >= self.least_severity
    }
}

impl Silence {
    pub fn covers(&self, alert: &Standing, now: Timestamp) -> bool {
        now < self.until
            && self.topic.is_none_or(|topic| topic == alert.topic)
            && (self.owner.is_none() || self.owner == alert.owner)
            && self.key_prefix.as_ref().is_none_or(|prefix| alert.key.starts_with(prefix))
    }
}

impl Told {
    /// In the order in which they were sent.
    pub fn of(sent: impl IntoIterator<Item = Sent>) -> Self {
        sent.into_iter().fold(Self::Nothing, |told, sent| match (sent.state, told) {
            (State::Resolved, _) => Self::Nothing,
            (State::Firing, Self::Nothing) => {
                Self::Firing { severity: sent.severity, is_dead: sent.is_dead }
            }
            (State::Firing, Self::Firing { severity, is_dead }) => Self::Firing {
                severity: severity.max(sent.severity),
                is_dead: is_dead && sent.is_dead,
            },
        })
    }

    /// Whether a channel that was told this is to hear that it is over.
    pub const fn hears_the_end(self) -> bool {
        matches!(self, Self::Firing { is_dead: false, .. })
    }
}

/// Whether `channel`, which was told `told`, is now to hear that the alert fires.
pub fn is_owed(
    alert: &Standing,
    (channel, route): (&str, &Route),
    told: Told,
    silences: &[Silence],
    now: Timestamp,
) -> bool {
    let knows = match told {
        Told::Nothing => false,
        Told::Firing { severity, .. } => severity >= alert.severity,
    };
    let is_time = route.after_seconds == 0
        || (!alert.is_acknowledged
            // An alert of the future fires since a clock was wrong.
            && (now >= alert.fired_at.plus_millis(1000 * i64::from(route.after_seconds))
                || now < alert.fired_at));
    !knows
        && !alert.is_untold
        && is_time
        && route.takes(alert)
        && alert.key != channel_key(channel)
        && !silences.iter().any(|silence| silence.covers(alert, now))
}
