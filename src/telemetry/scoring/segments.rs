//! Metrics of the segments of the active model.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use prometheus::{IntGaugeVec, Opts};

use crate::domain::model::NamedSegment;
use crate::telemetry::registry::MetricRegistry;

/// The customers of a segment.
#[derive(Debug)]
pub(crate) struct SegmentSize {
    pub segment: NamedSegment,
    pub customers: i64,
}

impl SegmentSize {
    pub(crate) fn empty(segment: NamedSegment) -> Self {
        Self { segment, customers: 0 }
    }
}

/// Sizes of the segments, as of the last count.
#[derive(Debug)]
pub struct SegmentMetrics {
    customers: IntGaugeVec,
    /// The label values of the exported series.
    shown: Mutex<BTreeSet<[String; 2]>>,
}

impl SegmentMetrics {
    pub(crate) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        let options = Opts::new(
            "segmentd_segment_customers",
            "Customers assigned to a segment of the active model, or of the rule-based fallback. \
             Lower than expected while customers are rescored after a deployment change.",
        );
        let customers = IntGaugeVec::new(options, &["segment_id", "segment_name"])?;
        let customers = registry.register(customers)?;
        Ok(Self { customers, shown: Mutex::default() })
    }

    /// Shows these sizes and no others.
    pub(crate) fn set_sizes(&self, sizes: &[SegmentSize]) {
        // A panic within leaves a series too many, which the next call removes or updates.
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut present = BTreeSet::new();
        for SegmentSize { segment, customers } in sizes {
            let labels = [segment.id.to_string(), segment.name.to_string()];
            self.customers.with_label_values(&labels).set(*customers);
            present.insert(labels);
        }
        for labels in shown.difference(&present) {
            // The removal fails only if the series is absent.
            let _ = self.customers.remove_label_values(labels);
        }
        *shown = present;
    }
}
