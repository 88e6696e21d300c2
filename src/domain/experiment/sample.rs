//! Sample of an experiment: the exposed customers with their outcome of one metric.

use std::collections::HashMap;

use crate::domain::experiment::analysis::{
    AnalysisSettings, GatedResults, MomentTable, VariationResult, analyse_experiment,
};
use crate::domain::experiment::moments::CustomerOutcome;
use crate::domain::experiment::sample_ratio::{ExposureCounts, SampleRatioReport};
use crate::domain::experiment::segmentation_worth::{
    PriorityRule, SegmentationWorth, TrialFault, TrialRows, WorthSettings, compare_over_splits,
    evaluate_over_splits, mean_effect_priorities,
};
use crate::domain::stats::{self, Estimate};

/// An exposed customer.
#[derive(Debug, Clone, Copy)]
pub struct ExposedCustomer {
    /// Index of the variation that the customer was exposed to.
    pub variation: usize,
    /// Index of the segment at the exposure.
    pub segment: usize,
    /// Index of the day of the exposure.
    pub day: usize,
    pub outcome: CustomerOutcome,
}

/// The exposed customers of an experiment, with the names of the indices.
#[derive(Debug, Clone, Default)]
pub struct ExperimentSample {
    pub customers: Vec<ExposedCustomer>,
    /// The control first.
    pub variations: NameTable,
    pub segments: NameTable,
    pub days: NameTable,
}

/// Names with their indices, in order of appearance.
#[derive(Debug, Clone, Default)]
pub struct NameTable {
    names: Vec<String>,
    indices: HashMap<String, usize>,
}

impl NameTable {
    /// Index of a name, which is added if it is new.
    pub fn index_of(&mut self, name: &str) -> usize {
        if let Some(index) = self.indices.get(name) {
            return *index;
        }
        let index = self.names.len();
        self.names.push(name.to_owned());
        self.indices.insert(name.to_owned(), index);
        index
    }

    /// Index of a name; `None` for an unknown name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.indices.get(name).copied()
    }

    /// The names, by index.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

impl ExperimentSample {
    /// Replaces larger outcomes by this quantile of the outcomes above 0. Returns the quantile; `None`
    /// without any such outcome.
    pub(crate) fn cap_outcomes(&mut self, at_quantile: f64) -> Option<f64> {
        let outcomes = self.customers.iter().map(|customer| customer.outcome.metric);
        let positive: Vec<f64> = outcomes.filter(|outcome| *outcome > 0.0).collect();
        if positive.is_empty() {
            return None;
        }
        let cap = stats::quantile(&stats::sorted(&positive), at_quantile);
        for customer in &mut self.customers {
            customer.outcome.metric = customer.outcome.metric.min(cap);
        }
        Some(cap)
    }

    /// Tests the numbers of customers against planned shares of the variations, overall, by segment and
    /// by day.
    pub fn check_sample_ratio(&self, shares: &[f64]) -> SampleRatioReport {
        let mut overall = vec![0; self.variations.names().len()];
        let mut by_segment = vec![overall.clone(); self.segments.names().len()];
        let mut by_day = vec![overall.clone(); self.days.names().len()];
        for customer in &self.customers {
            overall[customer.variation] += 1;
            if let Some(counts) = by_segment.get_mut(customer.segment) {
                counts[customer.variation] += 1;
            }
            if let Some(counts) = by_day.get_mut(customer.day) {
                counts[customer.variation] += 1;
            }
        }
        let counts = ExposureCounts { overall: &overall, by_segment: &by_segment, by_day: &by_day };
        SampleRatioReport::check(&counts, shares)
    }

    /// Measures the effect of every variation against the control. `report`: of all exposed customers,
    /// of which the sample may leave out those whose outcomes are not complete.
    pub fn analyse(
        &self,
        settings: &AnalysisSettings,
        report: SampleRatioReport,
    ) -> GatedResults<Vec<VariationResult>> {
        let segments = self.segments.names().len().max(1);
        let mut table = MomentTable::new(self.variations.names().len(), segments);
        for customer in &self.customers {
            if let Some(cell) = table.cell_mut(customer.variation, customer.segment) {
                cell.observe(&customer.outcome);
            }
        }
        analyse_experiment(&table, settings, report)
    }

    /// Whether treating by segment is worth it, for one treatment against the control. `shares`:
    /// planned shares of the variations. `None` for too few customers. Not for ratio metrics.
    pub fn evaluate_segmentation(
        &self,
        treatment: usize,
        shares: &[f64],
        seed: u64,
    ) -> Result<Option<SegmentationWorth>, TrialFault> {
        let trial = TrialColumns::of(self, treatment, &[]);
        let trial = trial.rows(shares[treatment] / (shares[0] + shares[treatment]))?;
        let rule = PriorityRule::Learned(&mean_effect_priorities);
        Ok(evaluate_over_splits(&trial, &WorthSettings::default(), rule, seed))
    }

    /// The worth of treating by the segments of the sample, minus that by `other_segments`, which has one
    /// entry for each customer. Otherwise like [`Self::evaluate_segmentation`].
    pub fn compare_segmentation(
        &self,
        treatment: usize,
        other_segments: &[usize],
        shares: &[f64],
        seed: u64,
    ) -> Result<Option<Estimate>, TrialFault> {
        let columns = TrialColumns::of(self, treatment, other_segments);
        let trial = columns.rows(shares[treatment] / (shares[0] + shares[treatment]))?;
        Ok(compare_over_splits(&trial, &columns.others, &WorthSettings::default(), seed))
    }
}

/// The customers of the control and of one treatment, by column.
#[derive(Default)]
struct TrialColumns {
    outcomes: Vec<f64>,
    is_treated: Vec<bool>,
    segments: Vec<usize>,
    /// Of another segmentation.
    others: Vec<usize>,
}

impl TrialColumns {
    fn of(sample: &ExperimentSample, treatment: usize, other_segments: &[usize]) -> Self {
        let mut columns = Self::default();
        for (index, customer) in sample.customers.iter().enumerate() {
            if customer.variation == 0 || customer.variation == treatment {
                columns.outcomes.push(customer.outcome.metric);
                columns.is_treated.push(customer.variation == treatment);
                columns.segments.push(customer.segment);
                columns.others.extend(other_segments.get(index));
            }
        }
        columns
    }

    fn rows(&self, treatment_probability: f64) -> Result<TrialRows<'_>, TrialFault> {
        TrialRows::new(&self.outcomes, &self.is_treated, &self.segments, treatment_probability)
    }
}
