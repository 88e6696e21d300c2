//! Metrics of audiences.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use prometheus::{IntGauge, IntGaugeVec, Opts};

use crate::telemetry::registry::MetricRegistry;

/// Sizes of the audiences as of the last count, and rules that cannot be evaluated.
#[derive(Debug)]
pub struct AudienceMetrics {
    customers: IntGaugeVec,
    /// Audiences whose rule cannot be evaluated.
    pub faulty: IntGauge,
    /// The names of the exported series.
    shown: Mutex<BTreeSet<String>>,
}

impl AudienceMetrics {
    pub(crate) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        let options = Opts::new("segmentd_audience_customers", "Customers in an audience.");
        Ok(Self {
            customers: registry.register(IntGaugeVec::new(options, &["audience"])?)?,
            faulty: crate::telemetry::gauge(
                registry,
                "segmentd_audience_faults",
                "Audiences whose rule cannot be evaluated, so that their customers do not change.",
            )?,
            shown: Mutex::default(),
        })
    }

    /// Exports the sizes of these audiences and of no others.
    pub(crate) fn set_sizes(&self, sizes: &[(String, i64)]) {
        // A panic within leaves a series too many, which the next call removes or updates.
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut present = BTreeSet::new();
        for (name, customers) in sizes {
            self.customers.with_label_values(&[name]).set(*customers);
            present.insert(name.clone());
        }
        for name in shown.difference(&present) {
            // The removal fails only if the series is absent.
            let _ = self.customers.remove_label_values(&[name]);
        }
        *shown = present;
    }
}
