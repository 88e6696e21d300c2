//! Drift baseline: histograms and moments of the training rows, on bins fixed at training.

mod seen_values;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::encode::MAX_ENCODED;
use crate::domain::feature::{FeatureDefinition, FeatureRow, FeatureValue, Sensitivity};
use crate::domain::model::P_VALUE_BINS;
use crate::domain::stats;
pub use seen_values::{SeenValues, ValueRepeats};

/// Most categories counted by name; all others are counted together.
const MAX_CATEGORIES: usize = 64;

/// Counts over all training rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftBaseline {
    pub rows: u64,
    /// One entry per feature that is not sensitive, in the order of the features.
    pub features: Vec<FeatureBaseline>,
    /// Rows in each segment.
    pub segments: Vec<u64>,
    /// Rows in no segment.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unassigned: u64,
    /// Held-out rows by distance to their nearest prototype, in encoded units.
    pub distances: NumberBins,
    /// Calibrating rows in each of [`P_VALUE_BINS`] equal bins of the outlier p-value that they are
    /// scored with.
    pub p_values: Vec<u64>,
    /// Moments by segment. Empty in models of earlier versions: then drift within segments
    /// is not checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<SegmentMoments>,
}

/// Moments of the training rows of one segment, over the encoded columns before any
/// projection. Sensitive features are never encoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentMoments {
    /// Mean of each column.
    pub means: Vec<f64>,
    /// Standard deviation of each column (denominator n - 1); 0 if all rows are equal.
    pub deviations: Vec<f64>,
    /// Mean distance to the segment, in encoded units.
    pub distance_mean: f64,
    pub distance_deviation: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureBaseline {
    /// Index into `Model::features`.
    pub feature: usize,
    /// Rows in which the value was missing.
    pub missing: u64,
    pub bins: FeatureBins,
    /// Values that occurred; `None` if there was none, if there are too many categories, and in
    /// models of earlier versions. Then new values are not recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<SeenValues>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureBins {
    Numbers(NumberBins),
    Categories(CategoryCounts),
}

/// Counts between cut points: bin i holds the values x with
/// `cuts[i - 1]` < x ≤ `cuts[i]`; the first and last bin are open-ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumberBins {
    /// Strictly ascending.
    pub cuts: Vec<f64>,
    /// Counts of the bins, one more than `cuts`.
    pub counts: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CategoryCounts {
    /// The most frequent categories, ascending by name.
    pub counts: Vec<(Box<str>, u64)>,
    /// Rows in all other categories.
    pub other: u64,
}

impl NumberBins {
    /// Bins at the deciles of `values`; fewer if deciles coincide. A value shared by (almost)
    /// all rows gets a bin of its own, so that any other value is visible as a change.
    pub(in crate::domain) fn deciles(values: &[f64]) -> Self {
        Self::from_sorted(&stats::sorted(values))
    }

    fn from_sorted(ascending: &[f64]) -> Self {
        let mut cuts: Vec<f64> =
            (1..10).map(|tenth| stats::quantile(ascending, f64::from(tenth) / 10.0)).collect();
        // A cut at the largest value would leave the bin above it empty.
        cuts.retain(|cut| ascending.last().is_some_and(|last| cut < last));
        cuts.dedup();
        if let (true, Some(only)) = (cuts.is_empty(), ascending.last()) {
            cuts = vec![only.next_down(), *only];
        }
        let mut bins = Self { counts: vec![0; cuts.len() + 1], cuts };
        for value in ascending {
            let bin = bins.bin(*value);
            bins.counts[bin] += 1;
        }
        bins
    }

    /// Index of the bin of a value, below `counts.len()`.
    pub(crate) fn bin(&self, value: f64) -> usize {
        // At most a few cuts: counting them all is faster than a search.
        self.cuts.iter().filter(|cut| **cut < value).count()
    }

    fn is_sound(&self) -> bool {
        self.counts.len() == self.cuts.len() + 1
            && self.cuts.iter().all(|cut| cut.is_finite())
            && self.cuts.is_sorted_by(|a, b| a < b)
    }
}

impl CategoryCounts {
    fn of(counts: &BTreeMap<&str, u64>) -> Self {
        let mut by_count: Vec<(&str, u64)> =
            counts.iter().map(|(name, count)| (*name, *count)).collect();
        // A stable sort of a map's order: ties are broken by name, on every machine.
        by_count.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let other = by_count.iter().skip(MAX_CATEGORIES).map(|(_, count)| count).sum();
        by_count.truncate(MAX_CATEGORIES);
        by_count.sort_unstable();
        let counts = by_count.into_iter().map(|(name, count)| (name.into(), count)).collect();
        Self { counts, other }
    }

    /// Index of a category in `counts`; `None`: it is counted in `other`.
    pub fn index_of(&self, category: &str) -> Option<usize> {
        self.counts.binary_search_by(|(name, _)| (**name).cmp(category)).ok()
    }
}

impl FeatureBaseline {
    /// Histograms of every feature that is not sensitive.
    pub(in crate::domain) fn from_rows(
        features: &[FeatureDefinition],
        rows: &[FeatureRow],
    ) -> Vec<Self> {
        features
            .iter()
            .enumerate()
            .filter(|(_, def)| def.sensitivity != Sensitivity::Sensitive)
            .map(|(feature, _)| Self::of(feature, rows))
            .collect()
    }

    fn of(feature: usize, rows: &[FeatureRow]) -> Self {
        let mut numbers = Vec::new();
        let mut categories: BTreeMap<&str, u64> = BTreeMap::new();
        let mut missing = 0;
        for row in rows {
            match row.0.get(feature) {
                Some(FeatureValue::Number(number)) => numbers.push(*number),
                Some(FeatureValue::Category(category)) => {
                    *categories.entry(category).or_default() += 1;
                }
                Some(FeatureValue::Missing) | None => missing += 1,
            }
        }
        if categories.is_empty() {
            let ascending = stats::sorted(&numbers);
            let seen = SeenValues::of_numbers(&ascending);
            let bins = FeatureBins::Numbers(NumberBins::from_sorted(&ascending));
            return Self { feature, missing, bins, seen };
        }
        let named = CategoryCounts::of(&categories);
        let seen = SeenValues::of_categories(&categories, |name| named.index_of(name).is_some());
        Self { feature, missing, bins: FeatureBins::Categories(named), seen }
    }
}

impl SegmentMoments {
    /// Mean and standard deviation of each column, then of the distance.
    pub(in crate::domain) fn moments(&self) -> impl Iterator<Item = (f64, f64)> {
        let columns = self.means.iter().copied().zip(self.deviations.iter().copied());
        columns.chain([(self.distance_mean, self.distance_deviation)])
    }

    fn is_sound(&self, columns: usize) -> bool {
        // Distances between vectors in the encoded range can exceed that range: its square
        // bounds them.
        let most = f64::from(MAX_ENCODED) * f64::from(MAX_ENCODED);
        self.means.len() == columns
            && self.deviations.len() == columns
            && self
                .moments()
                .all(|(mean, deviation)| mean.abs() <= most && (0.0..=most).contains(&deviation))
    }
}

impl DriftBaseline {
    pub(super) fn is_sound(&self, features: usize, columns: usize, segments: usize) -> bool {
        self.segments.len() == segments
            && (self.within.is_empty() || self.within.len() == segments)
            && self.within.iter().all(|within| within.is_sound(columns))
            && self.distances.is_sound()
            && self.p_values.len() == P_VALUE_BINS
            && self.features.iter().all(|reference| reference.feature < features)
            && self
                .features
                .iter()
                .all(|reference| reference.seen.as_ref().is_none_or(SeenValues::is_sound))
            && self.features.iter().all(|reference| match &reference.bins {
                FeatureBins::Numbers(bins) => bins.is_sound(),
                FeatureBins::Categories(categories) => {
                    categories.counts.is_sorted_by(|(a, _), (b, _)| a < b)
                }
            })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
