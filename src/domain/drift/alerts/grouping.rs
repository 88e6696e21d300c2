//! Alert grouping: the findings of one cause become the parts of one alert.
//!
//! One change of the data appears in many tests. Each finding has its own alarm, which debounces
//! it; the alarms that fire are grouped into alerts, at least one for each source and owner.
//!
//! - Findings that fire in one check come from the same rows, so that their causes cannot be
//!   separated statistically: they are one alert. So are those about the same input that begin within the length of one
//!   window, as alarms of different severity fire after different numbers of checks.
//! - A finding that begins later joins the firing alert about features of the same input, which
//!   is an event or a trait: features over long periods follow a change for months. A feature
//!   that the alert does not list yet is news, so the alert is announced again.
//! - A finding about another input is an alert of its own. So are missing values that begin later
//!   than changed values, as they end for another reason.
//! - A change of the model's answers follows from its features. It joins the most severe alert
//!   about features, if one fires.
//! - Findings that only the rows of one API key show are one alert for each key, without an
//!   owner.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::domain::drift::finding::{ComparedQuantity, DriftFinding};
use crate::domain::drift::limits::Severity;
use crate::domain::drift::source::ScoreSource;
use crate::domain::time::Timestamp;

/// Subject of a drift alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DriftAlertTopic {
    /// Changed values of features.
    Values,
    /// Changed rates of missing values.
    Missing,
    /// Changed answers of the model.
    Model,
    /// Findings that only the rows of one API key show.
    OneKey,
}

/// The input of each feature by its name: an event or a trait.
pub type FeatureInputs = BTreeMap<Box<str>, Box<str>>;

/// Identity of a drift alert: `drift:values:rows:Order_Completed:finance@example.com`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DriftAlertKey {
    pub topic: DriftAlertTopic,
    pub source: ScoreSource,
    scope: AlertScope,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum AlertScope {
    /// Features of one owner, and their input.
    Features {
        input: Box<str>,
        owner: Box<str>,
    },
    Model,
    /// Id of an API key.
    ApiKey(Box<str>),
}

/// An input that is not known, as a part of a key.
const NO_INPUT: &str = "-";

/// How a finding that begins to fire belongs to its alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertMembership {
    /// It begins the alert.
    Opens,
    /// It shares rows with the latest announcement of the alert, follows from it, or was a part of
    /// it before.
    BeginsTogether,
    /// It is a later part with a subject that is new in the alert, which is announced again.
    JoinsLater,
}

/// The firing drift alerts.
#[derive(Debug, Clone)]
pub struct FiringAlerts {
    alerts: BTreeMap<DriftAlertKey, FiringAlert>,
    window_millis: i64,
    now: Timestamp,
}

/// State of a firing alert.
#[derive(Debug, Clone)]
pub struct FiringAlert {
    pub severity: Severity,
    pub announced_at: Timestamp,
    /// Subjects of all its parts since it began to fire, also of those that have ended: the
    /// feature, else the compared quantity of the model.
    pub subjects: BTreeSet<Box<str>>,
}

impl DriftAlertTopic {
    const ALL: [Self; 4] = [Self::Values, Self::Missing, Self::Model, Self::OneKey];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::Missing => "missing",
            Self::Model => "model",
            Self::OneKey => "one_key",
        }
    }
}

impl DriftAlertKey {
    /// The alert that a finding begins if it joins no other.
    pub fn of(finding: &DriftFinding, source: ScoreSource, inputs: &FeatureInputs) -> Self {
        if let Some(decisive) = finding.decisive_key.as_ref().filter(|key| key.is_contradicted) {
            let scope = AlertScope::ApiKey(decisive.key.key.clone());
            return Self { topic: DriftAlertTopic::OneKey, source, scope };
        }
        let (Some(feature), Some(owner)) = (&finding.feature, &finding.owner) else {
            return Self { topic: DriftAlertTopic::Model, source, scope: AlertScope::Model };
        };
        let topic = match finding.about {
            ComparedQuantity::Missing => DriftAlertTopic::Missing,
            _ => DriftAlertTopic::Values,
        };
        // A colon separates the parts of a key, and a header of CloudEvents has no blanks.
        let input = inputs.get(feature).map(|input| {
            input.replace(|letter: char| !letter.is_alphanumeric(), "_").into_boxed_str()
        });
        let input = input.unwrap_or_else(|| NO_INPUT.into());
        Self { topic, source, scope: AlertScope::Features { input, owner: owner.clone() } }
    }

    /// Parses the text form; `None` for keys of other alerts.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':');
        if parts.next()? != "drift" {
            return None;
        }
        let topic = parts.next()?;
        let topic = DriftAlertTopic::ALL.into_iter().find(|known| known.name() == topic)?;
        let source = ScoreSource::parse(parts.next()?)?;
        let scope = match (topic, parts.next()) {
            (DriftAlertTopic::Model, None) => AlertScope::Model,
            (DriftAlertTopic::OneKey, Some(key)) => AlertScope::ApiKey(key.into()),
            (DriftAlertTopic::Values | DriftAlertTopic::Missing, Some(scope)) => {
                let (input, owner) = scope.split_once(':')?;
                AlertScope::Features { input: input.into(), owner: owner.into() }
            }
            _ => return None,
        };
        Some(Self { topic, source, scope })
    }

    /// Owner of the features; `None`: the alert is addressed to operators.
    pub fn owner(&self) -> Option<&str> {
        match &self.scope {
            AlertScope::Features { owner, .. } => Some(owner),
            AlertScope::Model | AlertScope::ApiKey(_) => None,
        }
    }

    /// The event or trait from which the features of the alert are computed, if it is known;
    /// `_` stands for blanks and signs in its name.
    pub fn input(&self) -> Option<&str> {
        match &self.scope {
            AlertScope::Features { input, .. } => Some(&**input).filter(|input| *input != NO_INPUT),
            AlertScope::Model | AlertScope::ApiKey(_) => None,
        }
    }

    /// Id of the API key whose rows alone show the findings.
    pub fn api_key(&self) -> Option<&str> {
        match &self.scope {
            AlertScope::ApiKey(key) => Some(key),
            AlertScope::Features { .. } | AlertScope::Model => None,
        }
    }
}

impl fmt::Display for DriftAlertKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "drift:{}:{}", self.topic.name(), self.source.name())?;
        match &self.scope {
            AlertScope::Features { input, owner } => write!(f, ":{input}:{owner}"),
            AlertScope::Model => Ok(()),
            AlertScope::ApiKey(key) => write!(f, ":{key}"),
        }
    }
}

impl FiringAlerts {
    pub fn new(window_millis: i64, now: Timestamp) -> Self {
        Self { alerts: BTreeMap::new(), window_millis, now }
    }

    /// Adds an alert that fires.
    pub fn insert(&mut self, key: DriftAlertKey, alert: FiringAlert) {
        self.alerts.insert(key, alert);
    }

    /// Adds an alert that fires again in this check, unless it fires already.
    pub fn reopen(&mut self, key: DriftAlertKey) {
        let (severity, subjects) = (Severity::Notice, BTreeSet::new());
        let alert = FiringAlert { severity, announced_at: self.now, subjects };
        self.alerts.entry(key).or_insert(alert);
    }

    /// Chooses the alert of a finding that begins to fire and was first found at `since`; `own`
    /// is its [`DriftAlertKey::of`]. Findings of one check are given in [`order_of_findings`],
    /// features first.
    pub fn join(
        &mut self,
        own: &DriftAlertKey,
        finding: &DriftFinding,
        since: Timestamp,
    ) -> (DriftAlertKey, AlertMembership) {
        let explanation = match own.topic {
            DriftAlertTopic::Model => self.explanation(own.source, |_| true),
            _ => None,
        };
        if let Some(known) = explanation.or_else(|| self.sharing(own, finding, since)) {
            self.add_subject(&known, finding);
            return (known, AlertMembership::BeginsTogether);
        }
        let membership = if let Some(alert) = self.alerts.get_mut(own) {
            alert.announced_at = self.now;
            AlertMembership::JoinsLater
        } else {
            self.reopen(own.clone());
            AlertMembership::Opens
        };
        self.add_subject(own, finding);
        (own.clone(), membership)
    }

    /// The alert from which a change of the model's answers follows: the most severe one about
    /// features among those that `is_candidate` accepts.
    pub fn explanation(
        &self,
        source: ScoreSource,
        is_candidate: impl Fn(&DriftAlertKey) -> bool,
    ) -> Option<DriftAlertKey> {
        let of_features = self
            .alerts
            .iter()
            .filter(|(key, _)| key.source == source && key.owner().is_some() && is_candidate(key));
        of_features
            .max_by_key(|(_, alert)| (alert.severity, alert.announced_at))
            .map(|(key, _)| key.clone())
    }

    /// The alert of which its subject is a part already, or one that shares rows with a finding
    /// since `since`: its own, else the one of the owner that was announced last.
    fn sharing(
        &self,
        own: &DriftAlertKey,
        finding: &DriftFinding,
        since: Timestamp,
    ) -> Option<DriftAlertKey> {
        let shares_rows = |alert: &FiringAlert| {
            // An announcement in the future comes from a wrong clock.
            alert.announced_at <= self.now
                && since.millis() - alert.announced_at.millis() < self.window_millis
        };
        let is_own = self.alerts.get(own).is_some_and(|alert| {
            shares_rows(alert) || alert.subjects.contains(subject_of(finding))
        });
        if is_own {
            return Some(own.clone());
        }
        let of_owner = self.alerts.iter().filter(|(key, alert)| {
            own.owner().is_some()
                && (key.source, key.owner()) == (own.source, own.owner())
                && shares_rows(alert)
                && (key.input() == own.input() || alert.announced_at == self.now)
        });
        of_owner.max_by_key(|(_, alert)| alert.announced_at).map(|(key, _)| key.clone())
    }

    fn add_subject(&mut self, key: &DriftAlertKey, finding: &DriftFinding) {
        if let Some(alert) = self.alerts.get_mut(key) {
            alert.subjects.insert(subject_of(finding).into());
            alert.severity = alert.severity.max(finding.severity);
        }
    }
}

fn subject_of(finding: &DriftFinding) -> &str {
    finding.feature.as_deref().unwrap_or_else(|| finding.about.name())
}

/// Orders findings of one check: those about features first, then the most severe, then the
/// largest. The first one leads the text of their alert.
pub fn order_of_findings(one: &DriftFinding, other: &DriftFinding) -> std::cmp::Ordering {
    let is_about_model = |finding: &DriftFinding| finding.feature.is_none();
    is_about_model(one)
        .cmp(&is_about_model(other))
        .then(other.severity.cmp(&one.severity))
        .then(other.relative_size.total_cmp(&one.relative_size))
}
