//! Metric of the clock difference between this process and the database.

use crate::telemetry::registry::MetricRegistry;
use prometheus::Gauge;

/// Clock metrics.
#[derive(Debug)]
pub struct ClockMetrics {
    skew: Gauge,
}

impl ClockMetrics {
    pub(crate) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        Ok(Self {
            skew: crate::telemetry::float_gauge(
                registry,
                "segmentd_clock_skew_seconds",
                "This process's clock minus the database's clock. Events are refused while its \
                 absolute value exceeds clock.tolerance_seconds.",
            )?,
        })
    }

    /// Shows the difference between the clocks.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 milliseconds")]
    pub(crate) fn set_skew_millis(&self, millis: i64) {
        self.skew.set(millis as f64 / 1000.0);
    }
}
