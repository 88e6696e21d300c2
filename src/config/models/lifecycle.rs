//! Settings of the model life cycle between training and retirement, and of the gates.

use std::time::Duration;

use crate::config::load::reader::SettingsReader;
use crate::domain::deployment::lifecycle::GateThresholds;

/// Shadow and canary phases.
#[derive(Debug, Clone)]
pub struct LifecycleSettings {
    /// Share of committed customers that shadow models score, 0 to 1.
    pub shadow_share: f64,
    /// Share of customers that a canary model scores unless the request overrides it.
    pub canary_share: f64,
    /// Automatic promotion includes the shadow phase.
    pub has_shadow_phase: bool,
    /// Automatic promotion includes the canary phase.
    pub has_canary_phase: bool,
    /// Minimum duration of each phase.
    pub minimum_phase_duration: Duration,
}

impl LifecycleSettings {
    pub(crate) fn read(reader: &mut SettingsReader) -> Self {
        Self {
            shadow_share: reader.float("lifecycle.shadow_share", 0.0..=1.0),
            canary_share: reader.float("lifecycle.canary_share", 0.0..=1.0),
            has_shadow_phase: reader.boolean("lifecycle.shadow_phase"),
            has_canary_phase: reader.boolean("lifecycle.canary_phase"),
            minimum_phase_duration: reader
                .seconds("lifecycle.minimum_phase_seconds", 0..=31_536_000),
        }
    }
}

pub(crate) fn read_gates(reader: &mut SettingsReader) -> GateThresholds {
    GateThresholds {
        reproducibility: reader.float("gates.reproducibility", -1.0..=1.0),
        score_loss: reader.float("gates.score_loss", 0.0..=2.0),
        jaccard: reader.float("gates.jaccard", 0.0..=1.0),
        smallest_share: reader.float("gates.smallest_share", 0.0..=1.0),
        outlier_deviations: reader.float("gates.outlier_deviations", 0.0..=1e9),
        relabelled: reader.float("gates.relabelled", 0.0..=1.0),
        backtest_lift: reader.float("gates.backtest_lift", 0.0..=100.0),
        shadow_customers: reader.integer("gates.shadow_customers", 0..=1_000_000_000),
        shadow_agreement: reader.float("gates.shadow_agreement", 0.0..=1.0),
        require_figures: reader.boolean("gates.require_figures"),
    }
}
