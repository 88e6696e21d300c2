//! Alerts about unusual event sources.

use std::collections::BTreeMap;

use crate::domain::alert::{AlertFact, AlertTopic};
use crate::domain::drift::Severity;
use crate::domain::event::source_volume::SourceStatus;
use crate::domain::time::Timestamp;
use crate::service::alerts::NewAlert;
use crate::service::sources::AssessedSource;
use crate::store::sources::EventSourceRow;

/// Whether an alert key belongs to this module.
pub(super) fn is_source_key(key: &str) -> bool {
    ["source:silent:", "source:volume:"].iter().any(|begins| key.starts_with(begins))
}

/// Suffix of alert keys that identifies a source.
pub(super) fn source_suffix(source: &EventSourceRow) -> String {
    format!(":{}:{}", source.key_id, source.endpoint.as_str())
}

/// The alert about a source; `None`: its volume is usual or not assessable yet.
pub(super) fn source_alert(watched: &AssessedSource, now: Timestamp) -> Option<NewAlert> {
    let (source, assessment) = (&watched.source, &watched.assessment);
    let source_name = source.name.as_deref().unwrap_or(&source.key_id);
    let endpoint = source.endpoint.as_str();
    let (last_at, volume) = (source.volume.last_at, assessment.last_hour);
    let usual = volume.usual.unwrap_or_default();
    let counts = format!(
        "In the hour from {} key `{source_name}` sent {} new events to the `{endpoint}` endpoint; \
         {usual:.0} are usual at that hour",
        volume.hour, volume.events
    );
    let (about, title, what, advice) = match assessment.status {
        SourceStatus::Learning | SourceStatus::Usual => return None,
        SourceStatus::Silent => (
            "silent",
            format!("`{source_name}` has stopped sending events"),
            format!(
                "Key `{source_name}` has sent no new event to the `{endpoint}` endpoint since \
                 {last_at}, for {}. Its longest gap is usually {}.",
                format_duration(now.millis() - last_at.millis()),
                format_duration(assessment.usual_gap_millis.unwrap_or_default()),
            ),
            "Check whether the source is running and reaches segmentd, and whether its events are \
             rejected (`GET /v1/events/failed/summary`). If the source is retired, revoke its key \
             to resolve this alert.",
        ),
        SourceStatus::High => (
            "volume",
            format!("`{source_name}` sends far more events than usual"),
            format!("{counts}."),
            "Check whether the source resends events under new ids, or loads historical events: \
             feature windows count both as activity.",
        ),
        SourceStatus::Low => (
            "volume",
            format!("`{source_name}` sends far fewer events than usual"),
            format!("{counts}."),
            "Check whether a part of the source is down, and whether its events are rejected \
             (`GET /v1/events/failed/summary`). Customers appear less active than they are.",
        ),
    };
    let mut facts = vec![fact("Last event", last_at.to_string())];
    if about == "volume" {
        facts.push(fact("Events in the hour", volume.events.to_string()));
        facts.push(fact("Usual", format!("{usual:.0}")));
        let p_value = volume.p_value.unwrap_or(1.0);
        facts.push(fact("p-value", format!("{p_value:.2e}")));
    }
    let subject = [
        ("source", source_name),
        ("endpoint", endpoint),
        ("key", &*source.key_id),
        ("about", about),
    ];
    let subject = subject.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some(NewAlert {
        key: format!("source:{about}{}", source_suffix(source)),
        topic: AlertTopic::Source,
        severity: Severity::Warning,
        owner: None,
        subject: BTreeMap::from(subject),
        title,
        description: what,
        advice: advice.into(),
        facts,
        parts: vec![],
        picture: None,
    })
}

fn fact(name: &str, value: String) -> AlertFact {
    AlertFact { name: name.into(), value }
}

/// A duration in its largest fitting unit: `45 seconds`, `2.5 hours`.
fn format_duration(millis: i64) -> String {
    let units = [(86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes")];
    match units.into_iter().find(|(unit, _)| millis >= 2 * unit) {
        Some((unit, name)) => {
            // One decimal, without floats.
            let tenths = (millis * 10 + unit / 2) / unit;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{} seconds", millis / 1000),
    }
}
