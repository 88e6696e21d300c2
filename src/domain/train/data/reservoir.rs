//! Reservoir sampling of feature rows: memory is bounded by the sample, for any number of
//! customers.
//!
//! Algorithm R (Vitter 1985, *Random sampling with a reservoir*) selects each admitted row with
//! equal probability, without knowing how many rows follow. The sample depends only on the
//! seed and on the order of the rows.

use serde::Serialize;

use crate::domain::feature::{FeatureDefinition, FeatureRow, PurchaseHistory};
use crate::domain::stats::RandomStream;
use crate::domain::train::data::feature_selection::RowFilter;
use crate::domain::train::{SAMPLE_STREAM, TrainingSpec};

/// Reservoir for the rows of one run, offered in canonical order.
#[derive(Debug)]
pub struct RowReservoir {
    /// Each filter with the index of its feature.
    filters: Vec<(usize, RowFilter)>,
    most: usize,
    seed: u64,
    rng: RandomStream,
    seen: u64,
    admitted: usize,
    /// The sample; each customer with its position among the admitted ones.
    kept: Vec<(usize, TrainingCustomer)>,
}

/// One customer as training sees it.
#[derive(Debug, Clone)]
pub struct TrainingCustomer {
    pub row: FeatureRow,
    /// `None` without an order, and for rows from a table.
    pub purchases: Option<PurchaseHistory>,
}

/// The sample, in the order in which customers were offered.
#[derive(Debug)]
pub struct SampledCustomers {
    pub rows: Vec<FeatureRow>,
    /// One for each row.
    pub purchases: Vec<Option<PurchaseHistory>>,
    pub report: SamplingReport,
}

/// Row counts of the filters and the sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SamplingReport {
    pub seen: u64,
    /// Rows that passed every filter.
    pub admitted: u64,
    /// Rows used for training.
    pub kept: u64,
    /// Whether fewer rows were sampled than admitted.
    pub sampled: bool,
    pub seed: u64,
}

impl From<FeatureRow> for TrainingCustomer {
    fn from(row: FeatureRow) -> Self {
        Self { row, purchases: None }
    }
}

impl RowReservoir {
    /// A filter on a feature that is not in `defs` admits every row; the check of the spec
    /// refuses such a filter.
    pub fn new(spec: &TrainingSpec, defs: &[FeatureDefinition]) -> Self {
        let mut filters = Vec::new();
        for filter in &spec.filters {
            if let Some(index) = defs.iter().position(|def| def.name == filter.feature) {
                filters.push((index, filter.clone()));
            }
        }
        Self {
            filters,
            most: spec.sample.unwrap_or(usize::MAX),
            seed: spec.seed,
            rng: RandomStream::new(spec.seed, SAMPLE_STREAM),
            seen: 0,
            admitted: 0,
            kept: Vec::new(),
        }
    }

    /// Offers the next row to the sample.
    pub fn offer(&mut self, customer: TrainingCustomer) {
        if let Some(place) = self.sample_index(&customer.row) {
            self.store(place, customer);
        }
    }

    /// The sampled rows in their original order, and the counts.
    pub fn finish(mut self) -> SampledCustomers {
        self.kept.sort_unstable_by_key(|(position, _)| *position);
        let report = SamplingReport {
            seen: self.seen,
            admitted: self.admitted as u64,
            kept: self.kept.len() as u64,
            sampled: self.kept.len() < self.admitted,
            seed: self.seed,
        };
        let (rows, purchases) = self
            .kept
            .into_iter()
            .map(|(_, TrainingCustomer { row, purchases })| (row, purchases))
            .unzip();
        SampledCustomers { rows, purchases, report }
    }

    /// Index in the sample for a row, or `None` if the row is not sampled.
    fn sample_index(&mut self, row: &FeatureRow) -> Option<usize> {
        self.seen += 1;
        let is_admitted = self
            .filters
            .iter()
            .all(|(index, filter)| row.0.get(*index).is_some_and(|value| filter.admits(value)));
        if !is_admitted {
            return None;
        }
        self.admitted += 1;
        if self.admitted <= self.most {
            return Some(self.kept.len());
        }
        // Row number n replaces a sampled row with probability `most` / n.
        let place = self.rng.uniform_below(self.admitted);
        (place < self.most).then_some(place)
    }

    fn store(&mut self, place: usize, customer: TrainingCustomer) {
        let kept = (self.admitted - 1, customer);
        match self.kept.get_mut(place) {
            Some(former) => *former = kept,
            None => self.kept.push(kept),
        }
    }
}

/// Applies the filters and the sample size of `spec` to `rows`, in their order. Rows that came
/// from a [`RowReservoir`] with the same spec pass unchanged.
pub(crate) fn filter_and_sample(
    spec: &TrainingSpec,
    defs: &[FeatureDefinition],
    rows: &[FeatureRow],
) -> Vec<FeatureRow> {
    let mut gather = RowReservoir::new(spec, defs);
    for row in rows {
        if let Some(place) = gather.sample_index(row) {
            gather.store(place, row.clone().into());
        }
    }
    gather.finish().rows
}
