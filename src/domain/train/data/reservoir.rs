//! Rows as they come, and no more of them held than are trained on: a run over
//! any number of customers fits into the memory of its sample.
//!
//! A reservoir (Vitter's algorithm R) draws each admitted row with the same
//! chance without knowing how many will come; which ones depends on the seed
//! and the order of the rows alone.

use serde::Serialize;

use crate::domain::feature::{FeatureDef, FeatureRow};
use crate::domain::stats::Rng;
use crate::domain::train::data::feature_selection::Filter;
use crate::domain::train::{SAMPLE_STREAM, TrainSpec};

/// The rows of one run, offered in canonical order.
#[derive(Debug)]
pub struct Gather {
    /// With the feature that each reads.
    filters: Vec<(usize, Filter)>,
    most: usize,
    seed: u64,
    rng: Rng,
    seen: u64,
    admitted: usize,
    /// With the place that each had among those admitted.
    kept: Vec<(usize, FeatureRow)>,
}

/// What became of the rows that there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DataReport {
    pub seen: u64,
    /// Met every filter.
    pub admitted: u64,
    /// Trained on.
    pub kept: u64,
    /// Whether fewer were kept than admitted: drawn by the seed.
    pub sampled: bool,
    pub seed: u64,
}

impl Gather {
    /// A filter whose feature is not among `defs` admits everything: such a spec
    /// does not pass its check.
    pub fn new(spec: &TrainSpec, defs: &[FeatureDef]) -> Self {
        let index = |name: &str| defs.iter().position(|def| &*def.name == name);
        let with_index = |filter: &Filter| Some((index(&filter.feature)?, filter.clone()));
        Self {
            filters: spec.filters.iter().filter_map(with_index).collect(),
            most: spec.sample.unwrap_or(usize::MAX),
            seed: spec.seed,
            rng: Rng::new(spec.seed, SAMPLE_STREAM),
            seen: 0,
            admitted: 0,
            kept: Vec::new(),
        }
    }

    pub fn add(&mut self, row: FeatureRow) {
        if let Some(place) = self.place_of(&row) {
            self.put(place, row);
        }
    }

    /// The rows in their order.
    pub fn finish(mut self) -> (Vec<FeatureRow>, DataReport) {
        self.kept.sort_unstable_by_key(|(position, _)| *position);
        let report = DataReport {
            seen: self.seen,
            admitted: self.admitted as u64,
            kept: self.kept.len() as u64,
            sampled: self.kept.len() < self.admitted,
            seed: self.seed,
        };
        (self.kept.into_iter().map(|(_, row)| row).collect(), report)
    }

    /// Where a row is put among those kept, if it is.
    fn place_of(&mut self, row: &FeatureRow) -> Option<usize> {
        self.seen += 1;
        let meets = |(index, filter): &(usize, Filter)| {
            row.0.get(*index).is_some_and(|value| filter.admits(value))
        };
        if !self.filters.iter().all(meets) {
            return None;
        }
        self.admitted += 1;
        if self.admitted <= self.most {
            return Some(self.kept.len());
        }
        let place = self.rng.below(self.admitted);
        (place < self.most).then_some(place)
    }

    fn put(&mut self, place: usize, row: FeatureRow) {
        let kept = (self.admitted - 1, row);
        match self.kept.get_mut(place) {
            Some(former) => *former = kept,
            None => self.kept.push(kept),
        }
    }
}

/// The rows that meet every filter, and of these a sample of the size asked for;
/// in their order. Those of a [`Gather`] of the same spec stay as they are.
pub(crate) fn rows(spec: &TrainSpec, defs: &[FeatureDef], rows: &[FeatureRow]) -> Vec<FeatureRow> {
    let mut gather = Gather::new(spec, defs);
    for row in rows {
        if let Some(place) = gather.place_of(row) {
            gather.put(place, row.clone());
        }
    }
    gather.finish().0
}
