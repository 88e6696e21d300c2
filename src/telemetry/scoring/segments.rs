//! Metrics of the segments of the active model.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use prometheus::{GaugeVec, IntGaugeVec, Opts};

use crate::domain::model::NamedSegment;
use crate::telemetry::registry::MetricRegistry;

/// Values of the gauges of one segment.
#[derive(Debug)]
pub(crate) struct SegmentGauges {
    pub segment: NamedSegment,
    pub customers: i64,
    /// Share of the revenue at training, if known.
    pub revenue_share: Option<f64>,
}

impl SegmentGauges {
    pub(crate) fn empty(segment: NamedSegment) -> Self {
        Self { segment, customers: 0, revenue_share: None }
    }
}

/// Sizes of the segments as of the last count, and their shares of the revenue.
#[derive(Debug)]
pub struct SegmentMetrics {
    customers: IntGaugeVec,
    revenue_share: GaugeVec,
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
        let options = Opts::new(
            "segmentd_segment_revenue_share",
            "Share of each segment of the active model in the revenue of all customers at training.",
        );
        let revenue_share = GaugeVec::new(options, &["segment_id", "segment_name"])?;
        let revenue_share = registry.register(revenue_share)?;
        Ok(Self { customers, revenue_share, shown: Mutex::default() })
    }

    /// Exports the gauges of these segments and of no others.
    pub(crate) fn set(&self, segments: &[SegmentGauges]) {
        // A panic within leaves a series too many, which the next call removes or updates.
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut present = BTreeSet::new();
        for SegmentGauges { segment, customers, revenue_share } in segments {
            let labels = [segment.id.to_string(), segment.name.to_string()];
            self.customers.with_label_values(&labels).set(*customers);
            match revenue_share {
                Some(share) => self.revenue_share.with_label_values(&labels).set(*share),
                // The removal fails only if the series is absent.
                None => drop(self.revenue_share.remove_label_values(&labels)),
            }
            present.insert(labels);
        }
        for labels in shown.difference(&present) {
            // The removal fails only if the series is absent.
            let _ = self.customers.remove_label_values(labels);
            let _ = self.revenue_share.remove_label_values(labels);
        }
        *shown = present;
    }
}
