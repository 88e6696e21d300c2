//! The hourly job of the service: a window of the last day is checked, and findings make
//! alarms fire.

use std::collections::{BTreeMap, VecDeque};

use segmentd::config::{AppConfig, Environment};
use segmentd::domain::drift::{
    AlarmTransition, CountedRow, DEPENDENCE_HOURS, DriftAlarm, DriftAlarmRules, DriftCheck,
    DriftFinding, DriftLimits, DriftWindow, HourCounts, ObservedWindow, OverTime, TimeDependence,
    WindowLayout, check_window,
};
use segmentd::domain::feature::FeatureRow;
use segmentd::domain::model::Model;
use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};

pub(super) const HOURS: usize = 24;
const MILLIS_PER_HOUR: i64 = MILLIS_PER_DAY / 24;

/// The default limits and rules.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) limits: DriftLimits,
    pub(super) alarm: DriftAlarmRules,
}

/// The subject of a finding, and the feature.
pub(super) type Key = (&'static str, Option<Box<str>>);

/// The state of alarms between checks.
#[derive(Default)]
pub(super) struct Alarms(BTreeMap<Key, DriftAlarm>);

pub(super) struct Watch<'m> {
    model: &'m Model,
    layout: WindowLayout,
    rules: Rules,
    hours: VecDeque<DriftWindow>,
    dependence: TimeDependence,
    alarms: Alarms,
    now: Timestamp,
}

/// The result of one hourly check.
pub(super) struct Seen {
    pub(super) check: DriftCheck,
    /// Alarms that begin to fire.
    pub(super) fired: Vec<Key>,
}

impl Rules {
    pub(super) fn default() -> Self {
        let config = AppConfig::load_from(None, &Environment::default(), &[]).unwrap();
        Self { limits: config.policy.drift, alarm: config.alerts.alarm_rules }
    }
}

impl<'m> Watch<'m> {
    pub(super) fn new(model: &'m Model, rules: Rules) -> Self {
        let layout = WindowLayout::of(model);
        let now = Timestamp::from_millis(0);
        let (hours, dependence) = (VecDeque::new(), TimeDependence::default());
        Self { model, layout, rules, hours, dependence, alarms: Alarms::default(), now }
    }

    /// Adds the scores of one hour, without a check.
    pub(super) fn add(&mut self, rows: &[FeatureRow]) {
        self.hours.push_back(count(self.model, &self.layout, &self.rules.limits, rows));
        if self.hours.len() > DEPENDENCE_HOURS as usize {
            self.hours.pop_front();
        }
    }

    /// Adds the scores of one hour, and checks the last day.
    pub(super) fn hour(&mut self, rows: &[FeatureRow]) -> Seen {
        self.add(rows);
        // The service estimates it once an hour; here once a day, at midnight.
        if self.now.millis() % MILLIS_PER_DAY == 0 {
            self.dependence = estimate_dependence(&self.layout, self.hours.iter());
        }
        let last_day = self.hours.iter().rev().take(HOURS);
        let (limits, dependence) = (&self.rules.limits, &self.dependence);
        let check = check_day(self.model, &self.layout, last_day, dependence, limits);
        self.now = self.now.plus_millis(MILLIS_PER_HOUR);
        let fired = self.alarms.check(&check, self.now, &self.rules.alarm);
        Seen { check, fired }
    }
}

/// The dependence over time of consecutive hours.
pub(super) fn estimate_dependence<'h>(
    layout: &WindowLayout,
    hours: impl Iterator<Item = &'h DriftWindow>,
) -> TimeDependence {
    let hours: Vec<HourCounts<'_>> =
        (0..).zip(hours).map(|(hour, window)| HourCounts { hour, window }).collect();
    TimeDependence::of(layout, &hours).unwrap()
}

/// Checks the hours of a day together, as the service does.
pub(super) fn check_day<'h>(
    model: &Model,
    layout: &WindowLayout,
    hours: impl Iterator<Item = &'h DriftWindow>,
    dependence: &TimeDependence,
    limits: &DriftLimits,
) -> DriftCheck {
    let mut counts = layout.empty();
    hours.for_each(|hour| counts.merge(hour).unwrap());
    let over_time = Some(OverTime { dependence, window_hours: HOURS as u32 });
    check_window(model, ObservedWindow { counts: &counts, over_time }, limits).unwrap()
}

impl Alarms {
    /// Adds one check; returns the alarms that begin to fire. Too few rows give no verdict.
    pub(super) fn check(
        &mut self,
        check: &DriftCheck,
        now: Timestamp,
        rules: &DriftAlarmRules,
    ) -> Vec<Key> {
        if !check.is_enough {
            return vec![];
        }
        let found: BTreeMap<Key, &DriftFinding> =
            check.findings.iter().map(|f| (key(f), f)).collect();
        for key in found.keys() {
            self.0.entry(key.clone()).or_default();
        }
        let mut fired = Vec::new();
        for (key, alarm) in &mut self.0 {
            let severity = found.get(key).map(|finding| finding.severity);
            let step = alarm.apply_check(severity, now, rules);
            if matches!(
                step,
                AlarmTransition::Fire(_)
                    | AlarmTransition::ReopenSilently(_)
                    | AlarmTransition::ReopenAndNotify(_)
            ) {
                fired.push(key.clone());
            }
        }
        fired
    }
}

pub(super) fn key(finding: &DriftFinding) -> Key {
    (finding.about.name(), finding.feature.clone())
}

/// The rows, each scored and counted once.
pub(super) fn count(
    model: &Model,
    layout: &WindowLayout,
    limits: &DriftLimits,
    rows: &[FeatureRow],
) -> DriftWindow {
    let (mut window, mut scratch) = (layout.empty(), model.scratch());
    for row in rows {
        let score = model.score(row, &mut scratch);
        layout
            .count_row(&mut window, &CountedRow::new(row, &score, score.is_outlier(limits.alpha)));
    }
    window
}
