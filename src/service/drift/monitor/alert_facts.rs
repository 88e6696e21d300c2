//! Facts of a drift alert beside the figures of its finding.

use crate::domain::drift::{DriftCheck, DriftFinding, ScoreSource, Severity, WorstFinding};
use crate::domain::time::Timestamp;

/// What the alert was at its worst, if it is not now.
pub(super) fn worst_facts(
    worst: Option<&WorstFinding>,
    now: Severity,
) -> Vec<(&'static str, String)> {
    let Some(WorstFinding { severity, description, found_at, .. }) = worst else {
        return Vec::new();
    };
    let mut facts = vec![("At its worst", format!("{description} ({found_at})"))];
    if *severity != now {
        facts.push(("Severity at its worst", severity.as_str().to_owned()));
        facts.push(("Severity now", now.as_str().to_owned()));
    }
    facts
}

/// The rows that a source compares.
pub(super) fn compared_rows(source: ScoreSource) -> &'static str {
    match source {
        ScoreSource::Rows => "rows that were sent to be scored",
        ScoreSource::Events => "customers with new events",
        ScoreSource::Customers => "stored customers, each once a day",
    }
}

/// Start of the uninterrupted run of latest hours with the same finding, skipping hours with
/// too few rows.
pub(super) fn found_since(
    history: &[(Timestamp, DriftCheck)],
    finding: &DriftFinding,
) -> Option<Timestamp> {
    let mut found_since = None;
    for (hour, check) in history.iter().rev().filter(|(_, check)| check.is_enough) {
        if !check.findings.iter().any(|one| is_same_finding(one, finding)) {
            break;
        }
        found_since = Some(*hour);
    }
    found_since
}

/// Whether two findings are about the same feature in the same segment.
fn is_same_finding(one: &DriftFinding, other: &DriftFinding) -> bool {
    (one.about, &one.feature, &one.segment) == (other.about, &other.feature, &other.segment)
}
