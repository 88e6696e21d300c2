//! Content of a drift alert: text, figures, parts and picture.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::alert::{AlertChart, AlertFact, AlertPart, AlertTopic};
use crate::domain::drift::{
    AlertMembership, CheckedAlarm, ComparedQuantity, DECISIVE_KEY_FACT, DriftAlertKey,
    DriftAlertText, DriftFinding, Severity, WorstFinding, alert_severity, finding_facts,
    lasting_change_facts, order_of_findings,
};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::alerts::NewAlert;
use crate::service::drift::monitor::alert_facts::{compared_rows, found_since, worst_facts};
use crate::service::drift::monitor::{DriftMonitor, SourceCheck};
use crate::service::drift::{DriftPeriod, DriftQuery};
use crate::store::alerting::AlertRow;

/// Most parts that an alert lists: the firing and most severe ones.
const MAX_PARTS: usize = 100;

/// An alert with at least one part that the check found.
pub(super) struct AlertGroup<'a> {
    pub(super) key: &'a DriftAlertKey,
    /// The alarms that fire.
    pub(super) alarms: Vec<&'a CheckedAlarm<'a>>,
    /// The firing alert of this key.
    pub(super) known: Option<&'a AlertRow>,
}

/// The finding that leads the text, and its alarm.
struct Lead<'a> {
    finding: &'a DriftFinding,
    alarm: &'a CheckedAlarm<'a>,
}

impl<'a> AlertGroup<'a> {
    /// `None` if the check found no part.
    fn lead(&self) -> Option<Lead<'a>> {
        let found = self.alarms.iter().filter_map(|alarm| {
            let finding = alarm.finding?;
            Some(Lead { finding, alarm })
        });
        found.min_by(|one, other| order_of_findings(one.finding, other.finding))
    }

    /// The parts that fire, the most severe first, and then those that have ended.
    fn parts(&self, checked: &SourceCheck, now: Timestamp) -> Vec<AlertPart> {
        let known: BTreeMap<&str, &AlertPart> = self
            .known
            .iter()
            .flat_map(|alert| &alert.parts)
            .map(|part| (&*part.key, part))
            .collect();
        let mut parts: Vec<AlertPart> = Vec::new();
        for alarm in &self.alarms {
            let before = known.get(&*alarm.record.key).copied();
            let before = before.filter(|part| part.ended_at.is_none());
            parts.extend(part(alarm, before, checked, now));
        }
        let firing: BTreeSet<String> = parts.iter().map(|part| part.key.clone()).collect();
        for part in known.into_values().filter(|part| !firing.contains(&part.key)) {
            let ended_at = Some(part.ended_at.unwrap_or(now));
            parts.push(AlertPart { ended_at, ..part.clone() });
        }
        parts.sort_by(|a, b| {
            let has_ended = |part: &AlertPart| part.ended_at.is_some();
            has_ended(a)
                .cmp(&has_ended(b))
                .then(b.severity.cmp(&a.severity))
                .then(a.since.cmp(&b.since))
        });
        parts.truncate(MAX_PARTS);
        parts
    }

    /// The highest severity of a firing part.
    fn severity(&self) -> Severity {
        let severities = self.alarms.iter().filter_map(|alarm| alarm.record.alarm.severity());
        severities.max().unwrap_or(Severity::Notice)
    }
}

/// The part of an alarm that fires. An alarm that was not found now remains as it was.
fn part(
    alarm: &CheckedAlarm<'_>,
    before: Option<&AlertPart>,
    checked: &SourceCheck,
    now: Timestamp,
) -> Option<AlertPart> {
    let Some(finding) = alarm.finding else { return before.cloned() };
    let first_check = alarm.record.alarm.since().unwrap_or(now);
    let since = match before {
        Some(part) => part.since,
        None => {
            found_since(&checked.history, finding).map_or(first_check, |hour| hour.min(first_check))
        }
    };
    Some(AlertPart {
        key: alarm.record.key.clone(),
        about: finding.about.name().to_owned(),
        feature: finding.feature.as_deref().map(str::to_owned),
        segment_id: finding.segment.as_ref().map(|segment| segment.id.to_string()),
        severity: alarm.record.alarm.severity().unwrap_or_else(|| alert_severity(finding)),
        description: finding.description(),
        depends_on_one_key: finding.decisive_key.is_some(),
        since,
        ended_at: None,
    })
}

impl DriftMonitor {
    /// `None` if the check found no part of the alert.
    pub(super) async fn alert_content(
        &self,
        group: &AlertGroup<'_>,
        checked: &SourceCheck,
        now: Timestamp,
    ) -> Result<Option<NewAlert>, ServiceError> {
        let Some(lead) = group.lead() else { return Ok(None) };
        let Lead { finding, alarm } = lead;
        let parts = group.parts(checked, now);
        let firing: Vec<&AlertPart> = parts.iter().filter(|part| part.ended_at.is_none()).collect();
        let features: BTreeSet<&str> =
            firing.iter().filter_map(|part| part.feature.as_deref()).collect();
        let begins = firing.iter().map(|part| part.since);
        let mut joined: Vec<&DriftFinding> = group
            .alarms
            .iter()
            .filter(|alarm| alarm.membership == Some(AlertMembership::JoinsLater))
            .filter_map(|alarm| alarm.finding)
            .collect();
        joined.sort_by(|one, other| order_of_findings(one, other));
        let severity_now = alert_severity(finding);
        let worst = alarm.record.alarm.worst().filter(|worst| worst.found_at != now);
        let text = DriftAlertText {
            key: group.key,
            lead: finding,
            worst: worst.filter(|worst| worst.severity > severity_now),
            joined: &joined,
            features: features.len(),
            parts: firing.len(),
            first_since: begins.clone().min().unwrap_or(now),
            last_since: begins.max().unwrap_or(now),
            window_millis: self.drift.window_millis(),
        };
        let since = firing.iter().find(|part| part.key == alarm.record.key).map(|part| part.since);
        Ok(Some(NewAlert {
            key: group.key.to_string(),
            topic: AlertTopic::Drift,
            severity: group.severity(),
            owner: group.key.owner().map(str::to_owned),
            subject: subject_of(group.key),
            title: text.title(),
            description: text.description(),
            advice: advice(finding, firing.len()),
            facts: facts(checked, finding, worst, since),
            picture: self.picture(checked, finding).await?,
            parts,
        }))
    }

    /// The picture shows all customers, so a finding within one segment has none.
    async fn picture(
        &self,
        checked: &SourceCheck,
        finding: &DriftFinding,
    ) -> Result<Option<AlertChart>, ServiceError> {
        let (Some(feature), None) = (&finding.feature, &finding.segment) else { return Ok(None) };
        let ask = DriftQuery {
            model: Some(checked.report.model.clone()),
            source: Some(checked.source),
            period: DriftPeriod::ConfiguredHours,
        };
        let drawn = self.drift.draw_picture(&ask, feature).await?;
        Ok(Some(AlertChart { svg: drawn.svg, bars: drawn.bars }))
    }
}

/// Labels that identify the alert and do not change while it fires.
fn subject_of(key: &DriftAlertKey) -> BTreeMap<String, String> {
    let mut subject = BTreeMap::from([
        ("about".to_owned(), key.topic.name().to_owned()),
        ("source".to_owned(), key.source.name().to_owned()),
    ]);
    if let Some(input) = key.input() {
        subject.insert("input".into(), input.to_owned());
    }
    if let Some(api_key) = key.api_key() {
        subject.insert("key_id".into(), api_key.to_owned());
    }
    subject
}

fn advice(finding: &DriftFinding, parts: usize) -> String {
    if parts < 2 {
        return finding.advice.clone();
    }
    format!(
        "{} Changes that begin together usually have one cause: look first for what the parts \
         share, such as a sender or a property.",
        finding.advice
    )
}

fn facts(
    checked: &SourceCheck,
    finding: &DriftFinding,
    worst: Option<&WorstFinding>,
    since: Option<Timestamp>,
) -> Vec<AlertFact> {
    let report = &checked.report;
    let named_values = match (finding.about, &report.detectors) {
        (ComparedQuantity::Stream, Some(stream)) => lasting_change_facts(stream, report.since),
        _ => finding_facts(&report.check, finding),
    };
    // The severity of an alert is its highest; the description and the figures are the latest.
    let mut facts: Vec<AlertFact> = worst_facts(worst, alert_severity(finding))
        .into_iter()
        .chain(named_values)
        .map(|(name, value)| AlertFact { name: name.into(), value })
        .collect();
    if let (ComparedQuantity::Stream, Some(decisive_key)) = (finding.about, &finding.decisive_key) {
        facts.push(AlertFact { name: DECISIVE_KEY_FACT.into(), value: decisive_key.describe() });
    }
    if let Some(since) = since {
        facts.push(AlertFact { name: "Found since".into(), value: since.to_string() });
    }
    facts.push(AlertFact { name: "Compared".into(), value: compared_rows(checked.source).into() });
    facts.push(AlertFact { name: "Model".into(), value: report.model.to_string() });
    facts
}
