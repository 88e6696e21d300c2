//! Drift finding from the alarms of the sequential detectors.

use crate::domain::drift::detectors::{DetectorReport, DetectorState, RUN_LENGTH_HOURS};
use crate::domain::drift::finding::{ComparedQuantity, DriftChange, DriftFinding};
use crate::domain::drift::limits::Severity;
use crate::domain::presentation::number_format::{
    format_integer, format_number, format_p_value, format_time,
};
use crate::domain::time::{MILLIS_PER_HOUR, Timestamp};

/// A finding if any detector raised an alarm in these hours.
pub fn lasting_change_finding(
    stream: &DetectorReport,
    since: Timestamp,
    until: Timestamp,
) -> Option<DriftFinding> {
    let alarmed: Vec<&DetectorState> = alarms(stream, since).collect();
    let first = alarmed.iter().filter_map(|detector| detector.changed_at).min()?;
    let hours = (until.millis() - since.millis()) as f64 / MILLIS_PER_HOUR as f64;
    // Probability of a false alarm in these hours: run lengths are about exponential, with
    // a mean of at least `RUN_LENGTH_HOURS` per detector.
    let detectors = stream.detectors.len() as f64;
    let p_value = -(-hours.ceil() * detectors / RUN_LENGTH_HOURS).exp_m1();
    let names: Vec<&str> = alarmed.iter().map(|detector| detector.name.title()).collect();
    let begin = alarmed.iter().filter_map(|detector| detector.about_since).min().unwrap_or(first);
    Some(DriftFinding {
        about: ComparedQuantity::Stream,
        feature: None,
        segment: None,
        title: "The model".into(),
        owner: None,
        unit: None,
        severity: if alarmed.len() > 1 { Severity::Warning } else { Severity::Notice },
        size: alarmed.len() as f64,
        relative_size: alarmed.len() as f64 / detectors,
        p_value,
        adjusted_p_value: p_value,
        effective_sample_size: None,
        change: DriftChange {
            subject: "The scored rows".into(),
            predicate: "slowly became different from those of earlier weeks".into(),
            comparison: format!("since about {}", format_time(begin)),
        },
        statistics: format!(
            "change of the ranks of hours, detected by {}, probability of a false alarm {}",
            names.join(" and "),
            format_p_value(p_value)
        ),
        advice: "The change may be too small for the check of one day. See which features moved \
                 since then; if the change lasts, retrain."
            .into(),
        decisive_key: None,
    })
}

/// Alert facts of the finding: each alarm, the number of hours, the martingale.
pub fn lasting_change_facts(
    stream: &DetectorReport,
    since: Timestamp,
) -> Vec<(&'static str, String)> {
    let mut facts: Vec<(&'static str, String)> = Vec::new();
    for detector in alarms(stream, since) {
        let times =
            [detector.changed_at, detector.about_since].map(|at| at.map(|at| at.to_string()));
        if let [Some(changed), Some(since)] = times {
            facts.push((
                detector.name.title(),
                format!("in the hour of {changed}, since about {since}"),
            ));
        }
    }
    facts.push(("Hours compared", format_integer(stream.steps as f64)));
    facts.push(("Martingale, power of ten", format_number(stream.martingale_log10)));
    facts
}

fn alarms(stream: &DetectorReport, since: Timestamp) -> impl Iterator<Item = &DetectorState> {
    stream.detectors.iter().filter(move |detector| detector.has_alarm_since(since))
}
