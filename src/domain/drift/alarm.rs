//! When a finding that comes back is told, and when it is over.
//!
//! One check says little: of many, some find something by chance, and what is at a
//! limit is found one time and not the next. So an alarm fires after some findings
//! of the last few checks, or sooner after a few critical ones in a row, which chance
//! does not make; and it is over after some checks in a row without any. One that
//! fires again soon after it was over is the same one, and nobody is told before it
//! has been quiet for long enough, or is worse than it was.

use serde::{Deserialize, Serialize};

use crate::domain::drift::limits::Severity;
use crate::domain::time::Timestamp;

/// Checks that can be looked back on.
pub const MOST_CHECKS: u32 = 32;

/// From when on an alarm fires, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlarmRules {
    /// So many findings…
    pub findings: u32,
    /// …of so many checks, at most [`MOST_CHECKS`], make it fire…
    pub checks: u32,
    /// …and so do so many critical ones in a row.
    pub critical_checks: u32,
    /// So many checks in a row without one end it.
    pub recovery_checks: u32,
    /// Who fires again within so long is not told of anew.
    pub cool_down_millis: i64,
}

/// What is remembered of one alarm between its checks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Alarm {
    /// The last checks, the newest as the lowest bit: 1 is a finding.
    recent: u32,
    /// The last checks in a row that found something critical.
    #[serde(default)]
    critical: u32,
    standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Standing {
    #[default]
    Quiet,
    Firing {
        /// The worst since it fires; it does not fall.
        severity: Severity,
        /// Checks in a row without a finding.
        clean: u32,
        /// `Some`: it fires again, and nobody is told before then.
        untold_until: Option<Timestamp>,
    },
    Over {
        severity: Severity,
        /// Since when, as far as people know: an end that nobody is told of
        /// does not begin the time anew.
        since: Timestamp,
    },
}

/// What a check does to an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It does not fire.
    Quiet,
    /// It begins to fire: a new alert.
    Fire(Severity),
    /// The last alert again, which nobody is told of.
    Reopen(Severity),
    /// The last alert again, and worse than before.
    ReopenAloud(Severity),
    /// It goes on as it was.
    Stay,
    /// It goes on, and is told (again): it got worse, or was kept quiet so far.
    Tell(Severity),
    /// It is over.
    Resolve,
}

impl Alarm {
    pub const fn is_firing(&self) -> bool {
        matches!(self.standing, Standing::Firing { .. })
    }

    /// Whether nothing of it has to be remembered.
    pub fn is_idle(&self, now: Timestamp, rules: &AlarmRules) -> bool {
        let is_past = match self.standing {
            Standing::Quiet => true,
            Standing::Firing { .. } => false,
            Standing::Over { since, .. } => !is_between(since, now, rules.cool_down_millis),
        };
        is_past && self.recent & window(rules.checks) == 0
    }

    /// Takes in one check: what was found, if anything.
    pub fn check(&mut self, found: Option<Severity>, now: Timestamp, rules: &AlarmRules) -> Step {
        self.recent = (self.recent << 1) | u32::from(found.is_some());
        let is_critical = found == Some(Severity::Critical);
        self.critical = if is_critical { self.critical.saturating_add(1) } else { 0 };
        match self.standing {
            Standing::Firing { severity, clean, untold_until } => {
                self.goes_on((severity, clean, untold_until), found, now, rules)
            }
            Standing::Quiet | Standing::Over { .. } => match found {
                Some(found) if self.is_enough(rules) => self.fire(found, now, rules),
                _ => Step::Quiet,
            },
        }
    }

    fn is_enough(&self, rules: &AlarmRules) -> bool {
        let findings = (self.recent & window(rules.checks)).count_ones();
        findings >= rules.findings || self.critical >= rules.critical_checks
    }

    fn fire(&mut self, found: Severity, now: Timestamp, rules: &AlarmRules) -> Step {
        let (severity, untold_until, step) = match self.standing {
            Standing::Over { severity, since } => {
                let until = since.plus_millis(rules.cool_down_millis);
                match is_between(since, now, rules.cool_down_millis) {
                    true if found > severity => (found, None, Step::ReopenAloud(found)),
                    true => (severity, Some(until), Step::Reopen(severity)),
                    false => (found, None, Step::Fire(found)),
                }
            }
            Standing::Quiet | Standing::Firing { .. } => (found, None, Step::Fire(found)),
        };
        self.standing = Standing::Firing { severity, clean: 0, untold_until };
        step
    }

    fn goes_on(
        &mut self,
        (severity, clean, untold_until): (Severity, u32, Option<Timestamp>),
        found: Option<Severity>,
        now: Timestamp,
        rules: &AlarmRules,
    ) -> Step {
        let clean = if found.is_some() { 0 } else { clean + 1 };
        if clean >= rules.recovery_checks {
            // What came before the end does not count towards a new beginning.
            self.recent = 0;
            let since =
                untold_until.map_or(now, |until| until.plus_millis(-rules.cool_down_millis));
            self.standing = Standing::Over { severity, since };
            return Step::Resolve;
        }
        let is_worse = found.is_some_and(|found| found > severity);
        let severity = found.map_or(severity, |found| found.max(severity));
        let is_over = |until: Timestamp| {
            let since = until.plus_millis(-rules.cool_down_millis);
            !is_between(since, now, rules.cool_down_millis)
        };
        let is_late = found.is_some() && untold_until.is_some_and(is_over);
        let is_told = is_worse || is_late;
        let untold_until = untold_until.filter(|_| !is_told);
        self.standing = Standing::Firing { severity, clean, untold_until };
        if is_told { Step::Tell(severity) } else { Step::Stay }
    }
}

/// Whether `now` is less than `millis` after `since`. An instant of the future was noted by
/// a clock that was wrong, and holds nothing up.
fn is_between(since: Timestamp, now: Timestamp, millis: i64) -> bool {
    since <= now && now < since.plus_millis(millis)
}

/// The bits of the last so many checks.
fn window(checks: u32) -> u32 {
    u32::MAX.checked_shr(MOST_CHECKS.saturating_sub(checks)).unwrap_or(0)
}
