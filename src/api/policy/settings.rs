//! The automation policy in responses and in changes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::deployment::policy::{
    AutomationPolicy, DriftAction, DriftActions, ProbationLimits, RefreshConditions,
};
use crate::domain::drift::{DriftLimits, SeverityThresholds};

/// The settings of the automation policy.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PolicySettingsBody {
    drift: DriftThresholdsBody,
    actions: DriftActionsBody,
    probation: ProbationRulesBody,
    refresh: RefreshRulesBody,
}

/// A change of the automation policy; settings left out or null are unchanged.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicySettingsPatch {
    #[serde(skip_serializing_if = "Option::is_none")]
    drift: Option<DriftThresholdsPatch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actions: Option<DriftActionsPatch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probation: Option<ProbationRulesPatch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh: Option<RefreshRulesPatch>,
}

/// Defines settings as a response, where each has a value, and as a change, where each is
/// optional. A setting of its own type has another type in a change.
macro_rules! policy_settings {
    ($($(#[$struct_attribute:meta])* $body:ident, $patch:ident {
        $($(#[$attribute:meta])* $setting:ident: $type:ty, $patch_type:ty;)+
    })+) => {$(
        $(#[$struct_attribute])*
        #[derive(Debug, Serialize, ToSchema)]
        struct $body {
            $($(#[$attribute])* $setting: $type,)+
        }

        $(#[$struct_attribute])*
        #[derive(Debug, Serialize, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        struct $patch {
            $(
                $(#[$attribute])*
                #[serde(skip_serializing_if = "Option::is_none")]
                $setting: Option<$patch_type>,
            )+
        }
    )+};
}

policy_settings! {
    /// Sizes and certainty from which a difference is a drift finding.
    DriftThresholdsBody, DriftThresholdsPatch {
        /// Rows needed for findings.
        #[schema(minimum = 1, example = 200)]
        minimum_rows: u64, u64;
        /// Significance level of the tests, after correction for their number.
        #[schema(minimum = 1e-9, maximum = 0.5, example = 0.01)]
        significance_level: f64, f64;
        /// Population stability index in excess of chance; at most 100.
        psi: ThresholdsBody, ThresholdsPatch;
        /// Change of a share of the rows; at most 1.
        share: ThresholdsBody, ThresholdsPatch;
        /// Share of values that training never had, beyond the expected share; at most 1.
        unseen: ThresholdsBody, ThresholdsPatch;
        /// Outlier rate as a multiple of the promised rate; at most 1,000,000.
        outliers: ThresholdsBody, ThresholdsPatch;
        /// Shift of a feature within a segment, in standard deviations within the segment; at
        /// most 100.
        movement: ThresholdsBody, ThresholdsPatch;
    }
    /// A threshold for each severity; they must ascend.
    ThresholdsBody, ThresholdsPatch {
        /// Smallest difference of a notice.
        #[schema(minimum = 0, example = 0.02)]
        notice: f64, f64;
        /// Smallest difference of a warning.
        #[schema(minimum = 0, example = 0.1)]
        warning: f64, f64;
        /// Smallest difference of a critical finding.
        #[schema(minimum = 0, example = 0.25)]
        critical: f64, f64;
    }
    /// Actions while a drift alert fires, in addition to the notification.
    DriftActionsBody, DriftActionsPatch {
        /// On a notice.
        #[schema(example = json!([]))]
        notice: Vec<PolicyAction>, Vec<PolicyAction>;
        /// On a warning.
        #[schema(example = json!(["retrain"]))]
        warning: Vec<PolicyAction>, Vec<PolicyAction>;
        /// On a critical finding.
        #[schema(example = json!(["retrain", "freeze"]))]
        critical: Vec<PolicyAction>, Vec<PolicyAction>;
    }
    /// Limits that a newly promoted model must keep.
    ProbationRulesBody, ProbationRulesPatch {
        /// Roll back a model that fails; false: only an alert is sent.
        #[schema(example = true)]
        rollback: bool, bool;
        /// Length of the probation in seconds; 0: none.
        #[schema(minimum = 0, maximum = 2_678_400, example = 3600)]
        watch_seconds: u32, u32;
        /// Scores needed for a verdict.
        #[schema(minimum = 1, example = 500)]
        minimum_rows: u64, u64;
        /// Largest outlier rate, as a multiple of the promised rate and of that of the previous
        /// model.
        #[schema(minimum = 1, maximum = 1_000_000, example = 3.0)]
        outliers: f64, f64;
        /// Largest share of rows in no segment, beyond that at training and of the previous
        /// model.
        #[schema(minimum = 0, maximum = 1, example = 0.2)]
        unassigned: f64, f64;
        /// Largest share of customers that the previous model would assign differently. Below 1,
        /// that model runs in shadow.
        #[schema(minimum = 0, maximum = 1, example = 1.0)]
        disagreement: f64, f64;
    }
    /// Conditions for training again because the model has aged.
    RefreshRulesBody, RefreshRulesPatch {
        /// Train below this mean confidence; 0: never.
        #[schema(minimum = 0, maximum = 1, example = 0.25)]
        confidence: f64, f64;
        /// Least time between two such runs, in seconds.
        #[schema(minimum = 0, maximum = 31_536_000, example = 86_400)]
        cool_down_seconds: u32, u32;
    }
}

/// An action on a drift alert. `retrain`: train once; `freeze`: suspend automatic promotion while
/// the alert fires; `fallback`: answer by the rules, once, until a model is promoted.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum PolicyAction {
    Retrain,
    Freeze,
    Fallback,
}

impl From<&AutomationPolicy> for PolicySettingsBody {
    fn from(policy: &AutomationPolicy) -> Self {
        Self {
            drift: policy.drift.into(),
            actions: (&policy.actions).into(),
            probation: policy.probation.into(),
            refresh: policy.refresh.into(),
        }
    }
}

impl From<DriftLimits> for DriftThresholdsBody {
    fn from(limits: DriftLimits) -> Self {
        Self {
            minimum_rows: limits.minimum_rows,
            significance_level: limits.significance_level,
            psi: limits.psi.into(),
            share: limits.share.into(),
            unseen: limits.unseen.into(),
            outliers: limits.outliers.into(),
            movement: limits.movement.into(),
        }
    }
}

impl From<SeverityThresholds> for ThresholdsBody {
    fn from(thresholds: SeverityThresholds) -> Self {
        let SeverityThresholds { notice, warning, critical } = thresholds;
        Self { notice, warning, critical }
    }
}

impl From<&DriftActions> for DriftActionsBody {
    fn from(actions: &DriftActions) -> Self {
        Self {
            notice: action_bodies(&actions.notice),
            warning: action_bodies(&actions.warning),
            critical: action_bodies(&actions.critical),
        }
    }
}

fn action_bodies(actions: &[DriftAction]) -> Vec<PolicyAction> {
    actions.iter().copied().map(Into::into).collect()
}

impl From<DriftAction> for PolicyAction {
    fn from(action: DriftAction) -> Self {
        match action {
            DriftAction::Retrain => Self::Retrain,
            DriftAction::Freeze => Self::Freeze,
            DriftAction::Fallback => Self::Fallback,
        }
    }
}

impl From<ProbationLimits> for ProbationRulesBody {
    fn from(limits: ProbationLimits) -> Self {
        Self {
            rollback: limits.rollback,
            watch_seconds: limits.watch_seconds,
            minimum_rows: limits.minimum_rows,
            outliers: limits.outliers,
            unassigned: limits.unassigned,
            disagreement: limits.disagreement,
        }
    }
}

impl From<RefreshConditions> for RefreshRulesBody {
    fn from(conditions: RefreshConditions) -> Self {
        let RefreshConditions { confidence, cool_down_seconds } = conditions;
        Self { confidence, cool_down_seconds }
    }
}
