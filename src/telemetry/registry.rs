//! The registry of metrics, with a catalogue of all of them: also of those that have no value yet.

use std::sync::{Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};

/// What a metric measures.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricDescription {
    pub name: String,
    /// counter, gauge or histogram
    pub kind: &'static str,
    pub labels: Vec<String>,
    pub help: String,
}

/// Not the global registry: tests run several instances side by side.
#[derive(Debug, Default)]
pub(crate) struct MetricRegistry {
    metrics: Registry,
    catalogue: Mutex<Vec<MetricDescription>>,
}

impl MetricRegistry {
    /// Registers a metric, or a family of them. Fails if the name is taken.
    pub(super) fn register<C: Collector + Clone + 'static>(
        &self,
        metric: C,
    ) -> prometheus::Result<C> {
        self.metrics.register(Box::new(metric.clone()))?;
        let mut catalogue = self.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
        for (described, family) in metric.desc().into_iter().zip(metric.collect()) {
            catalogue.push(MetricDescription {
                name: described.fq_name.clone(),
                kind: kind_name(&family),
                labels: described.variable_labels.clone(),
                help: described.help.clone(),
            });
        }
        Ok(metric)
    }

    /// Every registered metric, by name.
    pub(super) fn catalogue(&self) -> Vec<MetricDescription> {
        let mut all = self.catalogue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.sort();
        all
    }

    /// Renders the metrics in Prometheus' text format, version 0.0.4.
    pub(super) fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.metrics.gather())
    }
}

fn kind_name(family: &MetricFamily) -> &'static str {
    match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::HISTOGRAM => "histogram",
        MetricType::GAUGE | MetricType::SUMMARY | MetricType::UNTYPED => "gauge",
    }
}
