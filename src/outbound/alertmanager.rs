//! Receiver for the Prometheus Alertmanager, API version 2.
//!
//! Labels are the identity of an alert: Alertmanager groups, routes and silences by them.
//! `severity` is a label because routes commonly use it, so an alert with a new severity is a
//! new alert there. The old one is resolved by the next message, and if that is lost, by its
//! `endsAt`, as it is not repeated.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use url::Url;

use super::text::{cut, facts, one_line, parts};
use crate::domain::alert::{AlertState, AlertTopic, Notification};
use crate::domain::drift::Severity;
use crate::domain::time::Timestamp;

/// Validity of an alert that is not repeated: its sender may have died.
pub(crate) const ALERT_VALIDITY: Duration = Duration::from_mins(5);

const SEVERITIES: [Severity; 3] = [Severity::Notice, Severity::Warning, Severity::Critical];
/// Limit of a label or an annotation.
const MAX_CHARACTERS: usize = 4000;

/// The endpoint of alerts below the server's root address.
pub(super) fn alerts_url(mut root: Url) -> Url {
    // Only an address without a host has no path.
    if let Ok(mut path) = root.path_segments_mut() {
        path.pop_if_empty().extend(["api", "v2", "alerts"]);
    }
    root
}

/// Body of a message about an alert that fires, changes its severity or is resolved.
pub fn postable_alert(notice: &Notification, now: Timestamp) -> Value {
    let mut alerts = vec![alert(notice, notice.severity, now)];
    // A later time marks a higher severity: resolve the alerts of the lower severities.
    if notice.state == AlertState::Firing && notice.at > notice.started_at {
        let lower = SEVERITIES.into_iter().filter(|severity| *severity < notice.severity);
        let ended = Notification { state: AlertState::Resolved, ..notice.clone() };
        alerts.extend(lower.map(|severity| alert(&ended, severity, now)));
    }
    Value::Array(alerts)
}

/// Body of the periodic repetition of firing alerts.
pub fn repetition_body(notices: &[Notification], now: Timestamp) -> Value {
    let firing = notices.iter().filter(|notice| notice.state == AlertState::Firing);
    firing.map(|notice| alert(notice, notice.severity, now)).collect()
}

fn alert(notice: &Notification, severity: Severity, now: Timestamp) -> Value {
    let ends_at = match notice.state {
        AlertState::Firing => {
            now.plus_millis(i64::try_from(ALERT_VALIDITY.as_millis()).unwrap_or(i64::MAX))
        }
        // Alertmanager shows a future end as firing and refuses an end before the start.
        AlertState::Resolved => notice.at.min(now).max(notice.started_at),
    };
    let mut alert = json!({
        "labels": labels(notice, severity),
        "annotations": annotations(notice),
        "startsAt": notice.started_at,
        "endsAt": ends_at,
    });
    // Alertmanager refuses a `generatorURL` that is not a URL.
    if let Some(link) = notice.link.as_deref().filter(|link| Url::parse(link).is_ok()) {
        alert["generatorURL"] = link.into();
    }
    alert
}

/// Identity of the alert. Empty labels are omitted, as Alertmanager drops them.
fn labels(notice: &Notification, severity: Severity) -> BTreeMap<String, String> {
    let own = [
        ("alertname", alert_name(notice.topic)),
        ("severity", severity_name(severity)),
        ("owner", notice.owner.as_deref().unwrap_or("")),
        ("topic", notice.topic.as_str()),
    ];
    let mut labels: BTreeMap<_, _> =
        own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for (name, value) in &notice.subject {
        let mut name = label_name(name);
        while labels.contains_key(&name) {
            name.insert_str(0, "subject_");
        }
        labels.insert(name, cut(value, MAX_CHARACTERS));
    }
    labels.retain(|_, value| !value.is_empty());
    labels
}

/// Replaces characters outside the Prometheus label syntax `[a-zA-Z_][a-zA-Z0-9_]*`, which
/// every version accepts.
fn label_name(name: &str) -> String {
    let mut name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        name.insert(0, '_');
    }
    name
}

fn annotations(notice: &Notification) -> Value {
    let annotations = [
        ("summary", one_line(&notice.title)),
        ("description", notice.description.clone()),
        ("advice", notice.advice.clone()),
        ("parts", parts(notice).join("\n")),
        ("facts", facts(notice)),
    ];
    let annotations = annotations.into_iter().filter(|(_, text)| !text.is_empty());
    let annotations =
        annotations.map(|(name, text)| (name.to_owned(), cut(&text, MAX_CHARACTERS).into()));
    Value::Object(annotations.collect::<Map<_, _>>())
}

const fn alert_name(topic: AlertTopic) -> &'static str {
    match topic {
        AlertTopic::Drift => "SegmentdDrift",
        AlertTopic::Source => "SegmentdSource",
        AlertTopic::Rollback => "SegmentdRollback",
        AlertTopic::Training => "SegmentdTraining",
        AlertTopic::Channel => "SegmentdChannel",
        AlertTopic::Operations => "SegmentdOperations",
        AlertTopic::Test => "SegmentdTest",
    }
}

/// Alertmanager's customary severity names.
const fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Notice => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}
