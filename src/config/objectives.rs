//! Settings of the service-level objectives.

use crate::config::load::reader::SettingsReader;
use crate::domain::objective::ObjectiveTargets;

/// The largest target that leaves an error budget.
const MOST: f64 = 0.999_999;

pub(super) fn read(reader: &mut SettingsReader) -> ObjectiveTargets {
    ObjectiveTargets {
        availability: reader.float("objectives.availability", 0.0..=MOST),
        latency: reader.float("objectives.latency", 0.0..=MOST),
        latency_seconds: reader.float("objectives.latency_seconds", 0.0001..=30.0),
        freshness: reader.float("objectives.freshness", 0.0..=MOST),
        freshness_seconds: reader.float("objectives.freshness_seconds", 1.0..=86_400.0),
        calibration: reader.float("objectives.calibration", 0.0..=MOST),
        stability: reader.float("objectives.stability", 0.0..=MOST),
    }
}
