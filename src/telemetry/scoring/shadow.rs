//! Metrics of shadow models against the deployed model.

use crate::telemetry::LabelledCounters;
use crate::telemetry::labels::ShadowOutcome;
use crate::telemetry::registry::MetricRegistry;

/// Agreement of shadow models with the responses.
#[derive(Debug)]
pub struct ShadowMetrics {
    pub customers: LabelledCounters<ShadowOutcome>,
}

impl ShadowMetrics {
    pub(crate) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        Ok(Self {
            customers: LabelledCounters::new(
                registry,
                "segmentd_shadow_customers_total",
                "Customers scored by shadow models after their response.",
            )?,
        })
    }
}
