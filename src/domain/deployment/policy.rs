//! What the service does by itself when the world, or its own model, goes wrong: as
//! data, so that people may change it while it runs, and see what was in force when.

use serde::{Deserialize, Serialize};

use crate::domain::drift::{Check, Limits, Severity, Steps};
use crate::domain::fault::{Fault, Faults};

/// Everything that may be changed at run time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// From when on a difference is told.
    pub drift: Limits,
    pub actions: Actions,
    pub probation: Probation,
    pub refresh: Refresh,
}

/// What is done while an alert about drift fires, beside telling of it, by how severe
/// it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actions {
    pub notice: Vec<Action>,
    pub warning: Vec<Action>,
    pub critical: Vec<Action>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Train now, once an alert.
    Retrain,
    /// No model goes live by itself while the alert fires.
    Freeze,
    /// Answer by rules instead of the model, once an alert, until somebody promotes one.
    FallBack,
}

/// How a model that has just gone live is watched.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probation {
    /// Whether a model that fails it is taken back, or only told of.
    pub rollback: bool,
    /// For how long; 0: not at all.
    pub watch_seconds: u32,
    /// Scores needed to judge.
    pub minimum_rows: u64,
    /// Outliers at most, in times those promised, and in times those of the model before.
    pub outliers: f64,
    /// Share in no segment at most, above that at training and above that of the model
    /// before.
    pub unassigned: f64,
    /// Share of customers at most whom the model before, watching from the shadow, would
    /// have put in another segment. Below 1 the model before is put there.
    pub disagreement: f64,
}

/// When the model has worn out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// Train anew when the mean confidence is below; 0: never.
    pub confidence: f64,
    /// Not again before so long.
    pub cool_down_seconds: u32,
}

impl Default for Probation {
    fn default() -> Self {
        Self {
            rollback: true,
            watch_seconds: 3600,
            minimum_rows: 500,
            outliers: 3.0,
            unassigned: 0.2,
            disagreement: 1.0,
        }
    }
}

impl Default for Refresh {
    fn default() -> Self {
        Self { confidence: 0.0, cool_down_seconds: 86_400 }
    }
}

impl Actions {
    pub fn at(&self, severity: Severity) -> &[Action] {
        match severity {
            Severity::Notice => &self.notice,
            Severity::Warning => &self.warning,
            Severity::Critical => &self.critical,
        }
    }
}

impl Policy {
    /// The policy, or everything that is out of its range.
    pub fn check(self) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let Self { drift, probation, refresh, .. } = &self;
        if drift.minimum_rows == 0 {
            faults.push(Fault::new("drift.minimum_rows", "must be at least 1"));
        }
        within(&mut faults, "drift.level", drift.level, 1e-9..=0.5);
        for (path, steps, most) in [
            ("drift.psi", drift.psi, 100.0),
            ("drift.share", drift.share, 1.0),
            ("drift.outliers", drift.outliers, 1e6),
            ("drift.movement", drift.movement, 100.0),
        ] {
            ascending(&mut faults, path, steps, most);
        }
        if probation.minimum_rows == 0 {
            faults.push(Fault::new("probation.minimum_rows", "must be at least 1"));
        }
        within(&mut faults, "probation.outliers", probation.outliers, 1.0..=1e6);
        within(&mut faults, "probation.unassigned", probation.unassigned, 0.0..=1.0);
        within(&mut faults, "probation.disagreement", probation.disagreement, 0.0..=1.0);
        within(&mut faults, "refresh.confidence", refresh.confidence, 0.0..=1.0);
        faults.or(self)
    }

    /// Whether the model is no longer sure enough of what it says.
    pub fn is_worn_out(&self, check: &Check) -> bool {
        check.is_enough && check.confidence.is_some_and(|mean| mean < self.refresh.confidence)
    }
}

fn within(faults: &mut Faults, path: &str, value: f64, range: std::ops::RangeInclusive<f64>) {
    if !range.contains(&value) {
        let (low, high) = range.into_inner();
        faults.push(Fault::new(path, format!("must be from {low} to {high}: is {value}")));
    }
}

fn ascending(faults: &mut Faults, path: &str, steps: Steps, most: f64) {
    let Steps { notice, warning, critical } = steps;
    for (name, value) in [("notice", notice), ("warning", warning), ("critical", critical)] {
        within(faults, &format!("{path}.{name}"), value, 0.0..=most);
    }
    if !(notice <= warning && warning <= critical) {
        let problem = "must not be less severe for a larger difference: notice, warning and \
                       critical must ascend";
        faults.push(Fault::new(path, problem));
    }
}
