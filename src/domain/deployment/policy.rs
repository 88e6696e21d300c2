//! Automation policy: reactions to drift, to a bad new model and to a worn-out one.
//!
//! The policy is data, so that operators can change it at run time and see which version
//! was in force at any instant.

use serde::{Deserialize, Serialize};

use crate::domain::drift::{DriftCheck, DriftLimits, Severity, SeverityThresholds};
use crate::domain::fault::{ValidationFault, ValidationFaults};

/// All settings that can be changed at run time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutomationPolicy {
    /// Sizes and certainty from which a difference is a finding.
    pub drift: DriftLimits,
    pub actions: DriftActions,
    pub probation: ProbationLimits,
    pub refresh: RefreshConditions,
}

/// Automatic actions while a drift alert fires, by its severity. Notifications are sent in
/// any case.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftActions {
    pub notice: Vec<DriftAction>,
    pub warning: Vec<DriftAction>,
    pub critical: Vec<DriftAction>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftAction {
    /// Start a training run, once per alert.
    Retrain,
    /// Suspend automatic promotion while the alert fires.
    Freeze,
    /// Answer with the rule-based fallback, once per alert, until an operator promotes a
    /// model.
    Fallback,
}

/// Probation: limits that a newly promoted model must keep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbationLimits {
    /// Whether a model that fails is rolled back. If not, only an alert is sent.
    pub rollback: bool,
    /// Length of the probation; 0: none.
    pub watch_seconds: u32,
    /// Scores needed for a verdict.
    pub minimum_rows: u64,
    /// Largest outlier rate, as a multiple of the promised rate and of the previous
    /// model's rate.
    pub outliers: f64,
    /// Largest increase of the unassigned share, above the share at training and above the
    /// previous model's share.
    pub unassigned: f64,
    /// Largest share of customers that the previous model, deployed as shadow, puts into
    /// another segment. Below 1 the previous model is deployed as shadow.
    pub disagreement: f64,
}

/// 31 days.
pub const MAX_PROBATION_SECONDS: u32 = 31 * 86_400;
/// A year.
pub const MAX_COOL_DOWN_SECONDS: u32 = 365 * 86_400;

/// Conditions for retraining a worn-out model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshConditions {
    /// Retrain when the mean confidence is below this value; 0: never.
    pub confidence: f64,
    /// Least time between two such training runs.
    pub cool_down_seconds: u32,
}

impl Default for ProbationLimits {
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

impl Default for RefreshConditions {
    fn default() -> Self {
        Self { confidence: 0.0, cool_down_seconds: 86_400 }
    }
}

impl DriftActions {
    pub fn for_severity(&self, severity: Severity) -> &[DriftAction] {
        match severity {
            Severity::Notice => &self.notice,
            Severity::Warning => &self.warning,
            Severity::Critical => &self.critical,
        }
    }
}

impl AutomationPolicy {
    /// Validates the policy; the error lists every value that is out of range.
    pub fn check(self) -> Result<Self, ValidationFaults> {
        let mut faults = ValidationFaults::default();
        let Self { drift, probation, refresh, .. } = &self;
        if drift.minimum_rows == 0 {
            faults.push(ValidationFault::new("drift.minimum_rows", "must be at least 1"));
        }
        within(&mut faults, "drift.significance_level", drift.significance_level, 1e-9..=0.5);
        for (path, steps, most) in [
            ("drift.psi", drift.psi, 100.0),
            ("drift.share", drift.share, 1.0),
            ("drift.unseen", drift.unseen, 1.0),
            ("drift.outliers", drift.outliers, 1e6),
            ("drift.movement", drift.movement, 100.0),
        ] {
            ascending(&mut faults, path, steps, most);
        }
        if probation.minimum_rows == 0 {
            faults.push(ValidationFault::new("probation.minimum_rows", "must be at least 1"));
        }
        within(&mut faults, "probation.outliers", probation.outliers, 1.0..=1e6);
        within(&mut faults, "probation.unassigned", probation.unassigned, 0.0..=1.0);
        within(&mut faults, "probation.disagreement", probation.disagreement, 0.0..=1.0);
        within(&mut faults, "refresh.confidence", refresh.confidence, 0.0..=1.0);
        for (path, seconds, most) in [
            ("probation.watch_seconds", probation.watch_seconds, MAX_PROBATION_SECONDS),
            ("refresh.cool_down_seconds", refresh.cool_down_seconds, MAX_COOL_DOWN_SECONDS),
        ] {
            within(&mut faults, path, f64::from(seconds), 0.0..=f64::from(most));
        }
        faults.into_result(self)
    }

    /// Whether the mean confidence has fallen below the policy's limit.
    pub fn is_worn_out(&self, check: &DriftCheck) -> bool {
        check.is_enough && check.confidence.is_some_and(|mean| mean < self.refresh.confidence)
    }
}

fn within(
    faults: &mut ValidationFaults,
    path: &str,
    value: f64,
    range: std::ops::RangeInclusive<f64>,
) {
    if !range.contains(&value) {
        let (low, high) = range.into_inner();
        faults
            .push(ValidationFault::new(path, format!("must be from {low} to {high}: is {value}")));
    }
}

fn ascending(faults: &mut ValidationFaults, path: &str, steps: SeverityThresholds, most: f64) {
    let SeverityThresholds { notice, warning, critical } = steps;
    for (name, value) in [("notice", notice), ("warning", warning), ("critical", critical)] {
        within(faults, &format!("{path}.{name}"), value, 0.0..=most);
    }
    if !(notice <= warning && warning <= critical) {
        let problem = "notice, warning and critical must ascend: a larger difference must not be \
                       less severe";
        faults.push(ValidationFault::new(path, problem));
    }
}
