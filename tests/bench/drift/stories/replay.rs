//! Replay of a story: a check each day, alarms and alerts as in the service, and each message
//! that an owner receives.

use std::collections::{BTreeMap, BTreeSet};

use segmentd::domain::drift::{
    AlarmRecord, AlertAnnouncement, AlertMembership, CheckedAlarm, DriftAlarmRules, DriftAlertKey,
    DriftAlertText, DriftCheck, DriftFinding, FeatureInputs, FiringAlert, FiringAlerts,
    ScoreSource, Severity, announcement_of, assign_alerts, order_of_findings, step_alarms,
};
use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};

use crate::drift::watch::Rules;

/// A period in which something is known to have happened.
pub(super) struct Incident {
    pub(super) name: &'static str,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
}

pub(super) struct Replay {
    pub(super) name: &'static str,
    pub(super) source: ScoreSource,
    pub(super) window_days: i64,
    pub(super) inputs: FeatureInputs,
    pub(super) incidents: Vec<Incident>,
}

/// Alerts and messages that began within an incident, or within none.
#[derive(Default)]
struct Tally {
    /// Alarms that fired: one alert for each finding.
    alarms: usize,
    alerts: usize,
    /// Messages about new alerts, higher severities and later parts.
    messages: usize,
}

/// The state between checks.
struct State<'r> {
    replay: &'r Replay,
    rules: DriftAlarmRules,
    records: Vec<AlarmRecord>,
    firing: BTreeMap<DriftAlertKey, FiringAlert>,
    tallies: BTreeMap<&'static str, Tally>,
}

impl Replay {
    /// Replays the checks and prints each message.
    pub(super) fn run(&self, checks: impl Iterator<Item = (Timestamp, DriftCheck)>) {
        println!("\n## {}\n", self.name);
        // With one check a day, few of them have to agree.
        let rules = DriftAlarmRules { findings: 2, checks: 3, ..Rules::default().alarm };
        let mut state = State {
            replay: self,
            rules,
            records: Vec::new(),
            firing: BTreeMap::new(),
            tallies: BTreeMap::new(),
        };
        let mut days = 0;
        for (now, check) in checks {
            days += 1;
            if check.is_enough {
                state.check(&check, now);
            }
        }
        println!("\n| incident | one alert per finding | alerts | messages |\n|---|---|---|---|");
        for (name, Tally { alarms, alerts, messages }) in &state.tallies {
            println!("| {name} | {alarms} | {alerts} | {messages} |");
        }
        println!("{days} checks");
    }

    fn incident_at(&self, now: Timestamp) -> &'static str {
        let in_window = |incident: &&Incident| {
            let last = incident.last.plus_millis((1 + self.window_days) * MILLIS_PER_DAY);
            (incident.first..=last).contains(&now)
        };
        self.incidents.iter().find(in_window).map_or("none", |incident| incident.name)
    }
}

impl State<'_> {
    fn check(&mut self, check: &DriftCheck, now: Timestamp) {
        let source = self.replay.source;
        let records = std::mem::take(&mut self.records);
        let mut alarms = step_alarms(&check.findings, source, records, &self.rules, now);
        let window_millis = self.replay.window_days * MILLIS_PER_DAY;
        let mut firing = FiringAlerts::new(window_millis, now);
        for (key, known) in &self.firing {
            firing.insert(key.clone(), known.clone());
        }
        assign_alerts(&mut alarms, source, &self.replay.inputs, &mut firing, now);
        let tally = self.tallies.entry(self.replay.incident_at(now)).or_default();
        tally.alarms += alarms.iter().filter(|alarm| alarm.membership.is_some()).count();
        let mut groups: BTreeMap<DriftAlertKey, Vec<&CheckedAlarm<'_>>> =
            self.firing.keys().map(|key| (key.clone(), Vec::new())).collect();
        for alarm in alarms.iter().filter(|alarm| alarm.record.alarm.is_firing()) {
            groups.entry(alarm.alert_key().unwrap()).or_default().push(alarm);
        }
        for (key, parts) in groups {
            let known = self.firing.get(&key);
            if parts.is_empty() {
                println!("- {}: {key} is resolved", day(now));
                self.firing.remove(&key);
                continue;
            }
            let Some(announcement) = announcement_of(&parts, known.is_some()) else { continue };
            let severity = parts.iter().filter_map(|part| part.record.alarm.severity()).max();
            let severity =
                severity.unwrap().max(known.map_or(Severity::Notice, |known| known.severity));
            let is_new = known.is_none();
            let is_message = is_new && announcement != AlertAnnouncement::ReopenSilently
                || known.is_some_and(|known| severity > known.severity)
                || announcement == AlertAnnouncement::Again;
            tally.alerts += usize::from(is_new);
            if is_message {
                tally.messages += 1;
                tell(&key, &parts, severity, window_millis, now);
            }
            let mut alert = match known {
                Some(known) => known.clone(),
                None => FiringAlert { severity, announced_at: now, subjects: BTreeSet::new() },
            };
            alert.severity = severity;
            if announcement == AlertAnnouncement::Again {
                alert.announced_at = now;
            }
            for finding in parts.iter().filter_map(|part| part.finding) {
                let subject = finding.feature.as_deref().unwrap_or_else(|| finding.about.name());
                alert.subjects.insert(subject.into());
            }
            self.firing.insert(key, alert);
        }
        self.records = alarms.into_iter().map(|alarm| alarm.record).collect();
        self.records.retain(|record| !record.alarm.is_idle(now, &self.rules));
    }
}

/// Prints the message of an alert as its owner reads it.
fn tell(
    key: &DriftAlertKey,
    parts: &[&CheckedAlarm<'_>],
    severity: Severity,
    window_millis: i64,
    now: Timestamp,
) {
    let mut found: Vec<(&DriftFinding, &CheckedAlarm<'_>)> =
        parts.iter().filter_map(|part| Some((part.finding?, *part))).collect();
    found.sort_by(|(one, _), (other, _)| order_of_findings(one, other));
    let (lead, _) = found[0];
    let features: BTreeSet<&str> =
        found.iter().filter_map(|(finding, _)| finding.feature.as_deref()).collect();
    let joined: Vec<&DriftFinding> = found
        .iter()
        .filter(|(_, part)| part.membership == Some(AlertMembership::JoinsLater))
        .map(|(finding, _)| *finding)
        .collect();
    let begins = parts.iter().map(|part| part.record.alarm.since().unwrap_or(now));
    let text = DriftAlertText {
        key,
        lead,
        worst: None,
        joined: &joined,
        features: features.len(),
        parts: parts.len(),
        first_since: begins.clone().min().unwrap_or(now),
        last_since: begins.max().unwrap_or(now),
        window_millis,
    };
    println!(
        "- {}: {key}, {}, {} parts: **{}**",
        day(now),
        severity.as_str(),
        parts.len(),
        text.title()
    );
    for line in text.description().lines().filter(|line| !line.is_empty()) {
        println!("  {line}");
    }
    if parts.len() > 1 {
        for (finding, _) in &found {
            println!("    - {}: {}", finding.severity.as_str(), finding.description());
        }
    }
}

fn day(at: Timestamp) -> String {
    at.to_string()[..10].into()
}
