//! Models in shadow beside what answers.

use prometheus::Registry;

use crate::telemetry::Counters;
use crate::telemetry::labels::ShadowOutcome;

/// How often shadows said the same.
#[derive(Debug)]
pub struct Shadow {
    pub customers: Counters<ShadowOutcome>,
}

impl Shadow {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            customers: Counters::new(
                registry,
                "segmentd_shadow_customers_total",
                "Customers scored by models in shadow after they were answered.",
            )?,
        })
    }
}
