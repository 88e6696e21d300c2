//! Metrics of the segments of the active model.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::telemetry::registry::MetricRegistry;
use prometheus::{IntGaugeVec, Opts};

/// Sizes of the segments, as of the last count.
#[derive(Debug)]
pub struct SegmentMetrics {
    customers: IntGaugeVec,
    /// The label values of the exported series.
    shown: Mutex<BTreeSet<String>>,
}

impl SegmentMetrics {
    pub(crate) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        let options = Opts::new(
            "segmentd_segment_customers",
            "Customers assigned to a segment of the active model, or of the rule-based fallback. \
             Lower than expected while customers are rescored after a deployment change.",
        );
        let customers = IntGaugeVec::new(options, &["segment"])?;
        let customers = registry.register(customers)?;
        Ok(Self { customers, shown: Mutex::default() })
    }

    /// Shows these sizes, by the key of the segment, and no others.
    pub(crate) fn set_sizes(&self, sizes: &[(String, i64)]) {
        // A panic within leaves a series too many, which the next call removes or updates.
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let present: BTreeSet<String> = sizes.iter().map(|(segment, _)| segment.clone()).collect();
        for segment in shown.difference(&present) {
            // The removal fails only if the series is absent.
            let _ = self.customers.remove_label_values(&[segment]);
        }
        for (segment, customers) in sizes {
            self.customers.with_label_values(&[segment]).set(*customers);
        }
        *shown = present;
    }
}
