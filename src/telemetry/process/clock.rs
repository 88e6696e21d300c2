//! This process's clock beside the database's.

use prometheus::{Gauge, Registry};

#[derive(Debug)]
pub struct Clock {
    skew: Gauge,
}

impl Clock {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            skew: crate::telemetry::float_gauge(
                registry,
                "segmentd_clock_skew_seconds",
                "This process's clock minus the database's. Beyond clock.tolerance_seconds, in \
                 either direction, events are refused.",
            )?,
        })
    }

    /// Shows how far the clocks are apart.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 milliseconds")]
    pub fn skew_millis(&self, millis: i64) {
        self.skew.set(millis as f64 / 1000.0);
    }
}
