//! One check applied to all alarms of a source: steps each alarm, groups the alarms that fire into
//! alerts, and decides how each alert is announced.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::drift::alerts::alarm::{AlarmTransition, DriftAlarm, DriftAlarmRules};
use crate::domain::drift::alerts::grouping::{
    AlertMembership, DriftAlertKey, DriftAlertTopic, FeatureInputs, FiringAlerts, order_of_findings,
};
use crate::domain::drift::finding::{ComparedQuantity, DriftFinding};
use crate::domain::drift::limits::Severity;
use crate::domain::drift::source::ScoreSource;
use crate::domain::time::Timestamp;

/// An alarm and the alert of which it is a part.
#[derive(Debug, Clone)]
pub struct AlarmRecord {
    /// One alarm per kind of finding, feature, segment and source.
    pub key: String,
    /// Key of the alert; `None` before the alarm first fires.
    pub alert_key: Option<String>,
    pub alarm: DriftAlarm,
}

/// Stands for the feature in the key of an alarm about the model.
const NO_FEATURE: &str = "-";

/// How an alert is announced after a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertAnnouncement {
    /// A new alert is notified. A known one only if its severity rises.
    Normal,
    /// The last alert of the key fires again, without a notification.
    ReopenSilently,
    /// As `Normal`; the last alert of the key fires again if none fires, and ends a suppression
    /// of notifications.
    Louder,
    /// As `Louder`. The alert has news, so it is notified in any case.
    Again,
}

/// An alarm after a check.
#[derive(Debug)]
pub struct CheckedAlarm<'c> {
    pub record: AlarmRecord,
    /// Its finding in this check.
    pub finding: Option<&'c DriftFinding>,
    step: AlarmTransition,
    /// Of an alarm that begins to fire.
    pub membership: Option<AlertMembership>,
    /// Key of the alert that it has left for another one.
    pub left: Option<String>,
}

/// Steps every alarm with a present finding or a remembered state.
pub fn step_alarms<'c>(
    findings: &'c [DriftFinding],
    source: ScoreSource,
    records: Vec<AlarmRecord>,
    rules: &DriftAlarmRules,
    now: Timestamp,
) -> Vec<CheckedAlarm<'c>> {
    let mut known: BTreeMap<String, AlarmRecord> =
        records.into_iter().map(|record| (record.key.clone(), record)).collect();
    let found: BTreeMap<String, &DriftFinding> =
        findings.iter().map(|finding| (alarm_key(finding, source), finding)).collect();
    for key in found.keys() {
        known.entry(key.clone()).or_insert_with(|| AlarmRecord {
            key: key.clone(),
            alert_key: None,
            alarm: DriftAlarm::default(),
        });
    }
    known
        .into_values()
        .map(|record| {
            let finding = found.get(&record.key).copied();
            step_alarm(record, finding, rules, now)
        })
        .collect()
}

/// Steps the alarms that fire as if their findings were gone: with too few rows for a judgement
/// no alarm rises, and one that fires would otherwise fire for as long as nothing comes in.
pub fn step_alarms_without_findings(
    records: Vec<AlarmRecord>,
    rules: &DriftAlarmRules,
    now: Timestamp,
) -> Vec<CheckedAlarm<'static>> {
    let firing = records.into_iter().filter(|record| record.alarm.is_firing());
    firing.map(|record| step_alarm(record, None, rules, now)).collect()
}

/// Steps one alarm; `None`: the check did not find it.
fn step_alarm<'c>(
    mut record: AlarmRecord,
    finding: Option<&'c DriftFinding>,
    rules: &DriftAlarmRules,
    now: Timestamp,
) -> CheckedAlarm<'c> {
    // A sequential detector reports once, after many hours of accumulated evidence: no
    // second check has to confirm it.
    let is_sequential = finding.is_some_and(|finding| finding.about == ComparedQuantity::Stream);
    let rules = if is_sequential { DriftAlarmRules { findings: 1, ..*rules } } else { *rules };
    let step = record.alarm.apply_check(finding.map(alert_severity), now, &rules);
    if let Some(finding) = finding {
        record.alarm.record_finding(finding, alert_severity(finding), now);
    }
    CheckedAlarm { record, finding, step, membership: None, left: None }
}

/// Gives every alarm that begins to fire its alert. A change of the model's answers moves to an
/// alert about features if no feature of its own alert fires.
pub fn assign_alerts(
    alarms: &mut [CheckedAlarm<'_>],
    source: ScoreSource,
    inputs: &FeatureInputs,
    firing: &mut FiringAlerts,
    now: Timestamp,
) {
    for alarm in alarms.iter().filter(|alarm| alarm.is_reopened()) {
        if let Some(key) = alarm.alert_key() {
            firing.reopen(key);
        }
    }
    let mut beginning: Vec<(&DriftFinding, &mut CheckedAlarm<'_>)> = Vec::new();
    for alarm in alarms.iter_mut() {
        if let (AlarmTransition::Fire(_), Some(finding)) = (alarm.step, alarm.finding) {
            beginning.push((finding, alarm));
        }
    }
    beginning.sort_by(|(one, _), (other, _)| order_of_findings(one, other));
    for (finding, alarm) in beginning {
        let since = alarm.record.alarm.since().unwrap_or(now);
        let (key, membership) =
            firing.join(&DriftAlertKey::of(finding, source, inputs), finding, since);
        alarm.record.alert_key = Some(key.to_string());
        alarm.membership = Some(membership);
    }
    let with_features: BTreeSet<DriftAlertKey> = alarms
        .iter()
        .filter(|alarm| alarm.record.alarm.is_firing() && !alarm.record.is_about_model())
        .filter_map(CheckedAlarm::alert_key)
        .collect();
    for alarm in alarms.iter_mut().filter(|alarm| alarm.record.alarm.is_firing()) {
        let is_unexplained = alarm.record.is_about_model()
            && alarm.alert_key().is_some_and(|key| {
                key.topic != DriftAlertTopic::OneKey && !with_features.contains(&key)
            });
        if is_unexplained
            && let Some(key) = firing.explanation(source, |key| with_features.contains(key))
        {
            alarm.left = alarm.record.alert_key.replace(key.to_string());
        }
    }
}

/// How an alert with these firing parts is announced; `None`: no part was found now, so the
/// alert remains as it is. `is_known`: it fired before this check.
pub fn announcement_of(parts: &[&CheckedAlarm<'_>], is_known: bool) -> Option<AlertAnnouncement> {
    if parts.iter().all(|part| part.finding.is_none()) {
        return None;
    }
    let has_step = |is_step: fn(AlarmTransition) -> bool| parts.iter().any(|p| is_step(p.step));
    let fires = has_step(|step| matches!(step, AlarmTransition::Fire(_)));
    let reopens = parts.iter().any(|part| part.is_reopened());
    let is_louder = has_step(|step| {
        matches!(step, AlarmTransition::Notify(_) | AlarmTransition::ReopenAndNotify(_))
    });
    let joins_later = AlertMembership::JoinsLater;
    Some(if parts.iter().any(|part| part.membership == Some(joins_later)) {
        AlertAnnouncement::Again
    } else if is_louder || (fires && (reopens || is_known)) {
        AlertAnnouncement::Louder
    } else if reopens && !is_known {
        AlertAnnouncement::ReopenSilently
    } else {
        AlertAnnouncement::Normal
    })
}

impl AlarmRecord {
    /// Whether the alarm is about the model as a whole: no feature is named like [`NO_FEATURE`].
    fn is_about_model(&self) -> bool {
        self.key.split(':').any(|part| part == NO_FEATURE)
    }
}

impl CheckedAlarm<'_> {
    pub fn alert_key(&self) -> Option<DriftAlertKey> {
        self.record.alert_key.as_deref().and_then(DriftAlertKey::parse)
    }

    fn is_reopened(&self) -> bool {
        matches!(
            self.step,
            AlarmTransition::ReopenSilently(_) | AlarmTransition::ReopenAndNotify(_)
        )
    }
}

/// Alarm key: one alarm per kind of finding, feature, source and, where it applies, segment.
/// Findings that rest on one API key have a separate alarm.
fn alarm_key(finding: &DriftFinding, source: ScoreSource) -> String {
    let (mut about, source) = (finding.about.name().to_owned(), source.name());
    if is_contradicted(finding) {
        about.push_str(":one_key");
    }
    let feature = finding.feature.as_deref().unwrap_or(NO_FEATURE);
    match &finding.segment {
        None => format!("drift:{about}:{feature}:{source}"),
        Some(segment) => format!("drift:{about}:{feature}:{}:{source}", segment.id),
    }
}

/// Whether the finding depends on one API key and the rows of the other keys, though sufficient,
/// contradict it.
fn is_contradicted(finding: &DriftFinding) -> bool {
    finding.decisive_key.as_ref().is_some_and(|decisive_key| decisive_key.is_contradicted)
}

/// Severity of the alert. A finding of one caller among several is no fault of the feature, so
/// only operators are notified, at the lowest severity.
pub fn alert_severity(finding: &DriftFinding) -> Severity {
    if is_contradicted(finding) { Severity::Notice } else { finding.severity }
}
