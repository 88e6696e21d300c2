//! Settings of drift detection: counting and comparing scored rows.

use std::time::Duration;

use crate::config::load::reader::SettingsReader;
use crate::domain::drift::{DriftLimits, SeverityThresholds};

/// Collection and comparison of counts.
#[derive(Debug, Clone)]
pub struct DriftSettings {
    /// Whether scored rows are counted.
    pub is_enabled: bool,
    /// Interval at which counts are written to the database.
    pub flush_interval: Duration,
    /// Default number of hours in a comparison window.
    pub window_hours: u32,
    /// Maximum number of stored customers sampled per hour; 0 samples none.
    pub customers_per_hour: u32,
    /// Retention of counts in days; 0 retains all.
    pub retention_days: u32,
    /// Minimum rows of an hour for the sequential detectors; `None` disables them.
    pub min_detector_rows: Option<u64>,
}

impl DriftSettings {
    pub(super) fn read(reader: &mut SettingsReader) -> Self {
        let has_detectors = reader.boolean("drift.detectors");
        let detector_rows = reader.integer("drift.detector_rows", 1..=1_000_000_000);
        Self {
            is_enabled: reader.boolean("drift.enabled"),
            flush_interval: reader.seconds("drift.flush_seconds", 1..=86_400),
            window_hours: reader.integer("drift.window_hours", 1..=2208),
            customers_per_hour: reader.integer("drift.customers_per_hour", 0..=100_000),
            retention_days: reader.integer("drift.retention_days", 0..=36_500),
            min_detector_rows: has_detectors.then_some(detector_rows),
        }
    }
}

/// Reads the thresholds above which a difference is reported. `alpha` is the calibrated share
/// of outliers.
pub(super) fn read_limits(reader: &mut SettingsReader, alpha: f64) -> DriftLimits {
    DriftLimits {
        minimum_rows: reader.integer("drift.minimum_rows", 1..=1_000_000_000),
        significance_level: reader.float("drift.significance_level", 1e-9..=0.5),
        psi: steps(reader, ["drift.psi_notice", "drift.psi_warning", "drift.psi_critical"], 100.0),
        share: steps(
            reader,
            ["drift.share_notice", "drift.share_warning", "drift.share_critical"],
            1.0,
        ),
        unseen: steps(
            reader,
            ["drift.unseen_notice", "drift.unseen_warning", "drift.unseen_critical"],
            1.0,
        ),
        outliers: steps(
            reader,
            ["drift.outliers_notice", "drift.outliers_warning", "drift.outliers_critical"],
            1e6,
        ),
        movement: steps(
            reader,
            ["drift.movement_notice", "drift.movement_warning", "drift.movement_critical"],
            100.0,
        ),
        alpha,
    }
}

/// Three thresholds from 0 to `most`, in ascending order.
fn steps(reader: &mut SettingsReader, paths: [&'static str; 3], most: f64) -> SeverityThresholds {
    let [notice, warning, critical] = paths.map(|path| reader.float(path, 0.0..=most));
    for (less, more, low, high) in
        [(paths[0], paths[1], notice, warning), (paths[1], paths[2], warning, critical)]
    {
        if low > high {
            reader.refuse(more, &format!("is {high}, less than {less}, which is {low}"));
        }
    }
    SeverityThresholds { notice, warning, critical }
}
