//! Alarm state machine: debounces the findings of repeated checks, with hysteresis and a
//! cool-down.
//!
//! A single check says little: some checks find something by chance, and a difference at a
//! limit comes and goes. So an alarm fires after a number of findings in the last checks,
//! or sooner after a few critical ones in a row, which chance does not produce. It is
//! resolved after a number of checks in a row without a finding. An alarm that fires again
//! within the cool-down reopens the same alert. Then no notification is sent until the
//! cool-down has passed, unless the alarm is worse than before.

use serde::{Deserialize, Serialize};

use crate::domain::drift::finding::DriftFinding;
use crate::domain::drift::limits::Severity;
use crate::domain::time::Timestamp;

/// Longest history of checks: one bit each in a `u32`.
pub const MAX_ALARM_CHECKS: u32 = 32;

/// Conditions for firing and resolving an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriftAlarmRules {
    /// Findings among the last `checks` that make an alarm fire.
    pub findings: u32,
    /// Number of last checks considered, at most [`MAX_ALARM_CHECKS`].
    pub checks: u32,
    /// Critical findings in a row that make an alarm fire at once.
    pub critical_checks: u32,
    /// Checks in a row without a finding that resolve an alarm.
    pub recovery_checks: u32,
    /// Cool-down: an alarm that fires again within this time reopens silently.
    pub cool_down_millis: i64,
}

/// Persistent state of one alarm between its checks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DriftAlarm {
    /// Bit set of the last checks, the newest in the lowest bit: 1 is a finding.
    recent: u32,
    /// Number of critical findings in a row, up to the last check.
    #[serde(default)]
    critical: u32,
    state: AlarmState,
    /// First finding of the present series, which ends with the alarm or when the last checks
    /// had none.
    since: Option<Timestamp>,
    /// Since the alarm last began to fire.
    worst: Option<WorstFinding>,
}

/// The worst finding of an alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorstFinding {
    pub severity: Severity,
    /// Size of the difference, in the unit of its limits.
    size: f64,
    pub description: String,
    pub found_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AlarmState {
    #[default]
    Quiet,
    Firing(FiringAlarm),
    Over {
        severity: Severity,
        /// Start of the cool-down. A resolution without a notification does not restart
        /// it, or an alarm that flaps would never be notified.
        since: Timestamp,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct FiringAlarm {
    /// Worst severity since the alarm fires; it never decreases.
    severity: Severity,
    /// Checks in a row without a finding.
    clean: u32,
    /// `Some`: reopened, without notifications until this instant.
    suppressed_until: Option<Timestamp>,
}

/// Transition of an alarm after a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmTransition {
    /// It does not fire.
    StayQuiet,
    /// It begins to fire: a new alert with a notification.
    Fire(Severity),
    /// The last alert fires again, without a notification.
    ReopenSilently(Severity),
    /// The last alert fires again, worse than before, with a notification.
    ReopenAndNotify(Severity),
    /// It keeps firing.
    KeepFiring,
    /// It keeps firing, with a notification: it got worse, or its cool-down has passed.
    Notify(Severity),
    /// It is resolved.
    Resolve,
}

impl DriftAlarm {
    pub const fn is_firing(&self) -> bool {
        matches!(self.state, AlarmState::Firing(_))
    }

    /// The highest severity since the alarm fires; `None` if it does not fire.
    pub const fn severity(&self) -> Option<Severity> {
        match self.state {
            AlarmState::Firing(firing) => Some(firing.severity),
            AlarmState::Quiet | AlarmState::Over { .. } => None,
        }
    }

    /// The check with the first finding of the present series.
    pub const fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// The worst finding since the alarm last began to fire.
    pub fn worst(&self) -> Option<&WorstFinding> {
        self.worst.as_ref()
    }

    /// Records the finding of the check just applied, for an alarm that fires.
    pub fn record_finding(&mut self, finding: &DriftFinding, severity: Severity, now: Timestamp) {
        let is_worst = self
            .worst
            .as_ref()
            .is_none_or(|worst| (severity, finding.size) >= (worst.severity, worst.size));
        if self.is_firing() && is_worst {
            self.worst = Some(WorstFinding {
                severity,
                size: finding.size,
                description: finding.description(),
                found_at: now,
            });
        }
    }

    /// Whether the state equals that of a new alarm, and need not be stored.
    pub fn is_idle(&self, now: Timestamp, rules: &DriftAlarmRules) -> bool {
        let is_past = match self.state {
            AlarmState::Quiet => true,
            AlarmState::Firing(_) => false,
            AlarmState::Over { since, .. } => !is_between(since, now, rules.cool_down_millis),
        };
        is_past && self.recent & window(rules.checks) == 0
    }

    /// Applies the result of one check: the severity of its finding, if any.
    pub fn apply_check(
        &mut self,
        found: Option<Severity>,
        now: Timestamp,
        rules: &DriftAlarmRules,
    ) -> AlarmTransition {
        let is_first = !self.is_firing() && self.recent & window(rules.checks) == 0;
        if found.is_some() && is_first {
            self.since = Some(now);
        }
        self.recent = (self.recent << 1) | u32::from(found.is_some());
        let is_critical = found == Some(Severity::Critical);
        self.critical = if is_critical { self.critical.saturating_add(1) } else { 0 };
        match self.state {
            AlarmState::Firing(firing) => self.go_on(firing, found, now, rules),
            AlarmState::Quiet | AlarmState::Over { .. } => match found {
                Some(found) if self.is_enough(rules) => self.fire(found, now, rules),
                _ => AlarmTransition::StayQuiet,
            },
        }
    }

    fn is_enough(&self, rules: &DriftAlarmRules) -> bool {
        let findings = (self.recent & window(rules.checks)).count_ones();
        findings >= rules.findings || self.critical >= rules.critical_checks
    }

    fn fire(
        &mut self,
        found: Severity,
        now: Timestamp,
        rules: &DriftAlarmRules,
    ) -> AlarmTransition {
        let (severity, suppressed_until, step) = match self.state {
            AlarmState::Over { severity, since } => {
                let until = since.plus_millis(rules.cool_down_millis);
                match is_between(since, now, rules.cool_down_millis) {
                    true if found > severity => {
                        (found, None, AlarmTransition::ReopenAndNotify(found))
                    }
                    true => (severity, Some(until), AlarmTransition::ReopenSilently(severity)),
                    false => (found, None, AlarmTransition::Fire(found)),
                }
            }
            AlarmState::Quiet | AlarmState::Firing(_) => {
                (found, None, AlarmTransition::Fire(found))
            }
        };
        // A new alert; a reopened one goes on.
        if matches!(step, AlarmTransition::Fire(_)) {
            self.worst = None;
        }
        self.state = AlarmState::Firing(FiringAlarm { severity, clean: 0, suppressed_until });
        step
    }

    fn go_on(
        &mut self,
        firing: FiringAlarm,
        found: Option<Severity>,
        now: Timestamp,
        rules: &DriftAlarmRules,
    ) -> AlarmTransition {
        let FiringAlarm { severity, clean, suppressed_until } = firing;
        let cool_down = rules.cool_down_millis;
        let clean = if found.is_some() { 0 } else { clean + 1 };
        if clean >= rules.recovery_checks {
            // Findings from before the resolution do not count towards firing again.
            self.recent = 0;
            let since = suppressed_until.map_or(now, |until| until.plus_millis(-cool_down));
            self.state = AlarmState::Over { severity, since };
            return AlarmTransition::Resolve;
        }
        let is_worse = found.is_some_and(|found| found > severity);
        let severity = found.map_or(severity, |found| found.max(severity));
        // The comparison with the start of the cool-down also ends one that lies in the
        // future because of a wrong clock.
        let is_cool_down_over = suppressed_until
            .is_some_and(|until| !is_between(until.plus_millis(-cool_down), now, cool_down));
        let is_notified = is_worse || (found.is_some() && is_cool_down_over);
        let suppressed_until = suppressed_until.filter(|_| !is_notified);
        self.state = AlarmState::Firing(FiringAlarm { severity, clean, suppressed_until });
        if is_notified { AlarmTransition::Notify(severity) } else { AlarmTransition::KeepFiring }
    }
}

/// Whether `now` is less than `millis` after `since`. A `since` in the future comes from a
/// wrong clock, and must not suppress notifications.
fn is_between(since: Timestamp, now: Timestamp, millis: i64) -> bool {
    since <= now && now < since.plus_millis(millis)
}

/// Bit mask of the last `checks` checks.
fn window(checks: u32) -> u32 {
    u32::MAX.checked_shr(MAX_ALARM_CHECKS.saturating_sub(checks)).unwrap_or(0)
}
