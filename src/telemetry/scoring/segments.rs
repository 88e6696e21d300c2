//! Metrics of the segments of the active model.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use prometheus::{GaugeVec, IntGaugeVec, Opts};

use crate::domain::model::NamedSegment;
use crate::telemetry::registry::MetricRegistry;

const LABELS: [&str; 2] = ["segment_id", "segment_name"];

/// Values of the gauges of one segment.
#[derive(Debug)]
pub(crate) struct SegmentGauges {
    pub segment: NamedSegment,
    pub customers: i64,
    pub at_training: TrainingFigures,
}

/// Figures of a segment at training, each if known.
#[derive(Debug, Default)]
pub(crate) struct TrainingFigures {
    pub revenue_share: Option<f64>,
    pub churn_probability: Option<f64>,
    /// Mean of a customer.
    pub predicted_spend: Option<f64>,
    /// Mean of a customer.
    pub value_at_risk: Option<f64>,
}

impl SegmentGauges {
    pub(crate) fn empty(segment: NamedSegment) -> Self {
        Self { segment, customers: 0, at_training: TrainingFigures::default() }
    }
}

/// Sizes of the segments as of the last count, and their figures at training.
#[derive(Debug)]
pub struct SegmentMetrics {
    customers: IntGaugeVec,
    revenue_share: GaugeVec,
    churn_probability: GaugeVec,
    predicted_spend: GaugeVec,
    value_at_risk: GaugeVec,
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
        let customers = registry.register(IntGaugeVec::new(options, &LABELS)?)?;
        let gauge = |name, help| registry.register(GaugeVec::new(Opts::new(name, help), &LABELS)?);
        Ok(Self {
            customers,
            revenue_share: gauge(
                "segmentd_segment_revenue_share",
                "Share of each segment of the active model in the revenue of all customers at training.",
            )?,
            churn_probability: gauge(
                "segmentd_segment_churn_probability",
                "Mean probability that a customer of a segment has left for good, at training.",
            )?,
            predicted_spend: gauge(
                "segmentd_segment_predicted_spend",
                "Mean predicted spend of a customer in the 365 days after training, in the unit of order \
                 values, times the present customers of the segment.",
            )?,
            value_at_risk: gauge(
                "segmentd_segment_value_at_risk",
                "Mean of predicted spend times churn probability at training, times the present customers \
                 of the segment.",
            )?,
            shown: Mutex::default(),
        })
    }

    /// Exports the gauges of these segments and of no others.
    pub(crate) fn set(&self, segments: &[SegmentGauges]) {
        // A panic within leaves a series too many, which the next call removes or updates.
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut present = BTreeSet::new();
        for SegmentGauges { segment, customers, at_training } in segments {
            let labels = [segment.id.to_string(), segment.name.to_string()];
            self.customers.with_label_values(&labels).set(*customers);
            for (gauge, value) in self.figures(at_training, *customers) {
                match value {
                    Some(value) => gauge.with_label_values(&labels).set(value),
                    // The removal fails only if the series is absent.
                    None => drop(gauge.remove_label_values(&labels)),
                }
            }
            present.insert(labels);
        }
        for labels in shown.difference(&present) {
            // The removal fails only if the series is absent.
            let _ = self.customers.remove_label_values(labels);
            for (gauge, _) in self.figures(&TrainingFigures::default(), 0) {
                let _ = gauge.remove_label_values(labels);
            }
        }
        *shown = present;
    }

    /// The gauges of figures at training with their values. Means are multiplied by `customers`.
    #[expect(clippy::cast_precision_loss, reason = "a number of customers")]
    fn figures(&self, figures: &TrainingFigures, customers: i64) -> [(&GaugeVec, Option<f64>); 4] {
        let customers = customers as f64;
        [
            (&self.revenue_share, figures.revenue_share),
            (&self.churn_probability, figures.churn_probability),
            (&self.predicted_spend, figures.predicted_spend.map(|mean| mean * customers)),
            (&self.value_at_risk, figures.value_at_risk.map(|mean| mean * customers)),
        ]
    }
}
