//! Initial settings of the policy for automatic actions; the API can change it later.

use std::time::Duration;

use crate::config::load::reader::SettingsReader;
use crate::domain::deployment::policy::{
    AutomationPolicy, DriftAction, DriftActions, MAX_COOL_DOWN_SECONDS, MAX_PROBATION_SECONDS,
    ProbationLimits, RefreshConditions,
};
use crate::domain::drift::DriftLimits;

const ACTIONS: [(&str, DriftAction); 3] = [
    ("retrain", DriftAction::Retrain),
    ("freeze", DriftAction::Freeze),
    ("fallback", DriftAction::Fallback),
];

/// Reads the policy. `drift` are the drift thresholds, which come from another section.
pub(crate) fn read(reader: &mut SettingsReader, drift: DriftLimits) -> AutomationPolicy {
    AutomationPolicy {
        drift,
        actions: DriftActions {
            notice: actions(reader, "policy.on_notice"),
            warning: actions(reader, "policy.on_warning"),
            critical: actions(reader, "policy.on_critical"),
        },
        probation: ProbationLimits {
            rollback: reader.boolean("policy.rollback"),
            watch_seconds: reader
                .integer("policy.probation_seconds", 0..=MAX_PROBATION_SECONDS.into()),
            minimum_rows: reader.integer("policy.probation_min_rows", 1..=1_000_000_000),
            outliers: reader.float("policy.rollback_outliers", 1.0..=1e6),
            unassigned: reader.float("policy.rollback_unassigned", 0.0..=1.0),
            disagreement: reader.float("policy.rollback_disagreement", 0.0..=1.0),
        },
        refresh: RefreshConditions {
            confidence: reader.float("policy.retrain_below_confidence", 0.0..=1.0),
            cool_down_seconds: reader
                .integer("policy.retrain_cool_down_seconds", 0..=MAX_COOL_DOWN_SECONDS.into()),
        },
    }
}

/// Interval at which the policy is evaluated.
pub(crate) fn read_period(reader: &mut SettingsReader) -> Duration {
    reader.seconds("policy.check_seconds", 1..=3600)
}

fn actions(reader: &mut SettingsReader, path: &'static str) -> Vec<DriftAction> {
    let text = reader.text(path);
    let mut listed = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if let Some((_, action)) = ACTIONS.iter().find(|(known, _)| *known == name) {
            listed.push(*action);
        } else {
            let names = ACTIONS.map(|(known, _)| known).join(", ");
            reader.refuse(path, &format!("`{name}` is not one of {names}"));
        }
    }
    listed
}
