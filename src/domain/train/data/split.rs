//! Stratified split of the rows into training, validation and held-out parts.
//!
//! Rows are first sorted so that neighbours are similar: divided at the median of one feature
//! after another, as in a k-d tree (Bentley 1975). This order is cut into equal runs, one per
//! row to draw, and one row of each run is drawn at random (stratified sampling). Each part
//! has its exact size, and its feature distributions are close to those of all rows; the
//! remaining difference is measured and reported.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use crate::domain::feature::{FeatureDefinition, FeatureRow, FeatureValue};
use crate::domain::stats::{self, RandomStream};

/// Row indices in ascending order. Every row is either fitted or held out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSplit {
    /// Rows for the final fit: `train` and `validation` together.
    pub fitted: Vec<usize>,
    /// Rows that candidates are fitted to.
    pub train: Vec<usize>,
    /// Rows that candidates are compared on.
    pub validation: Vec<usize>,
    /// Rows for the calibration and the report only.
    pub held_out: Vec<usize>,
}

impl RowSplit {
    /// Draws the share `held_out` of all rows, then the share `validation` of the rest; both
    /// counts are rounded.
    pub fn draw(
        rows: &[FeatureRow],
        held_out: f64,
        validation: f64,
        rng: &mut RandomStream,
    ) -> Self {
        // One order serves both draws: what remains after the first is still sorted.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        let count = rounded_share(rows.len(), held_out);
        let run = rows.len() / count.max(1);
        sort_by_similarity(rows, &mut order, 0, run.max(1));
        let (mut held_out, order) = draw_one_of_each_run(&order, count, rng);
        let count = rounded_share(order.len(), validation);
        let (mut validation, mut train) = draw_one_of_each_run(&order, count, rng);
        let mut fitted = [&train[..], &validation].concat();
        for part in [&mut fitted, &mut train, &mut validation, &mut held_out] {
            part.sort_unstable();
        }
        Self { fitted, train, validation, held_out }
    }

    /// Compares, feature by feature, the held-out rows with all others, and the validation
    /// rows with the rows for training.
    pub fn check(&self, defs: &[FeatureDefinition], rows: &[FeatureRow]) -> SplitBalance {
        let features: Vec<FeatureBalance> = defs
            .par_iter()
            .enumerate()
            .flat_map_iter(|(index, def)| {
                let held_out = FeatureBalance::compare(
                    &def.name,
                    "held_out",
                    &values_at(rows, &self.held_out, index),
                    &values_at(rows, &self.fitted, index),
                );
                let validation = FeatureBalance::compare(
                    &def.name,
                    "validation",
                    &values_at(rows, &self.validation, index),
                    &values_at(rows, &self.train, index),
                );
                [held_out, validation].into_iter().flatten()
            })
            .collect();
        SplitBalance {
            train: self.train.len() as u64,
            validation: self.validation.len() as u64,
            held_out: self.held_out.len() as u64,
            largest_mean_difference: features
                .iter()
                .filter_map(|feature| feature.mean_difference)
                .reduce(f64::max),
            largest_ks: features.iter().map(|feature| feature.ks).reduce(f64::max),
            features,
        }
    }
}

fn rounded_share(rows: usize, share: f64) -> usize {
    (rows as f64 * share).round() as usize
}

/// Values of one feature in the selected rows.
fn values_at<'a>(
    rows: &'a [FeatureRow],
    selected: &[usize],
    feature: usize,
) -> Vec<&'a FeatureValue> {
    selected.iter().filter_map(|row| rows[*row].0.get(feature)).collect()
}

/// Sorts `order` as the leaves of a k-d tree, so that neighbouring rows are similar.
fn sort_by_similarity(rows: &[FeatureRow], order: &mut [usize], depth: usize, enough: usize) {
    let width = rows.first().map_or(0, |row| row.0.len());
    if order.len() <= enough || width == 0 {
        // Within a run only the random draw matters; ascending order makes it reproducible.
        order.sort_unstable();
        return;
    }
    let feature = depth % width;
    let middle = order.len() / 2;
    order.select_nth_unstable_by(middle, |a, b| {
        let (x, y) = (rows[*a].0.get(feature), rows[*b].0.get(feature));
        compare_values(x.unwrap_or(&FeatureValue::Missing), y.unwrap_or(&FeatureValue::Missing))
            .then(a.cmp(b))
    });
    let (low, high) = order.split_at_mut(middle);
    sort_by_similarity(rows, low, depth + 1, enough);
    sort_by_similarity(rows, high, depth + 1, enough);
}

/// Total order of values: missing, then numbers, then categories by name.
fn compare_values(a: &FeatureValue, b: &FeatureValue) -> Ordering {
    match (a, b) {
        (FeatureValue::Number(a), FeatureValue::Number(b)) => a.total_cmp(b),
        (FeatureValue::Category(a), FeatureValue::Category(b)) => a.cmp(b),
        _ => kind_order(a).cmp(&kind_order(b)),
    }
}

fn kind_order(value: &FeatureValue) -> u8 {
    match value {
        FeatureValue::Missing => 0,
        FeatureValue::Number(_) => 1,
        FeatureValue::Category(_) => 2,
    }
}

/// Divides `order` into `count` runs and draws one row of each; returns the drawn rows and
/// the others.
fn draw_one_of_each_run(
    order: &[usize],
    count: usize,
    rng: &mut RandomStream,
) -> (Vec<usize>, Vec<usize>) {
    let (mut drawn, mut others) = (Vec::with_capacity(count), Vec::with_capacity(order.len()));
    for run in 0..count {
        // Rounded borders: run lengths differ by at most one.
        let rows = &order[run * order.len() / count..(run + 1) * order.len() / count];
        let chosen = rng.uniform_below(rows.len());
        for (index, row) in rows.iter().enumerate() {
            if index == chosen { drawn.push(*row) } else { others.push(*row) }
        }
    }
    if count == 0 {
        others.extend_from_slice(order);
    }
    (drawn, others)
}

/// Similarity of the parts of a split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitBalance {
    pub train: u64,
    pub validation: u64,
    pub held_out: u64,
    /// Largest value over all features; `None` without a numeric feature.
    pub largest_mean_difference: Option<f64>,
    pub largest_ks: Option<f64>,
    pub features: Vec<FeatureBalance>,
}

/// Comparison of one feature in one part with the rows that the part was drawn from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeatureBalance {
    pub feature: Box<str>,
    /// `held_out`, compared with all other rows, or `validation`, compared with `train`.
    pub part: &'static str,
    /// Standardised mean difference: difference of the means over the root of the mean
    /// variance. Below 0.1 counts as balanced by convention. `None` for categories.
    pub mean_difference: Option<f64>,
    /// Largest difference of the distributions: the two-sample Kolmogorov-Smirnov statistic
    /// for numbers, the largest difference of a category share for categories.
    pub ks: f64,
}

impl FeatureBalance {
    /// `None` if one side has no value.
    fn compare(
        feature: &str,
        part: &'static str,
        these: &[&FeatureValue],
        others: &[&FeatureValue],
    ) -> Option<Self> {
        let (a, b) = (sorted_numbers(these), sorted_numbers(others));
        if !a.is_empty() && !b.is_empty() {
            return Some(Self {
                feature: feature.into(),
                part,
                mean_difference: Some(mean_difference(&a, &b)),
                ks: kolmogorov_smirnov(&a, &b),
            });
        }
        let (a, b) = (category_shares(these), category_shares(others));
        if a.is_empty() || b.is_empty() {
            return None;
        }
        let mut largest = 0.0_f64;
        for name in a.keys().chain(b.keys()) {
            let share_a = a.get(name).copied().unwrap_or(0.0);
            let share_b = b.get(name).copied().unwrap_or(0.0);
            largest = largest.max((share_a - share_b).abs());
        }
        Some(Self { feature: feature.into(), part, mean_difference: None, ks: largest })
    }
}

fn sorted_numbers(values: &[&FeatureValue]) -> Vec<f64> {
    let mut numbers = Vec::new();
    for value in values {
        if let FeatureValue::Number(number) = value {
            numbers.push(*number);
        }
    }
    stats::sorted(&numbers)
}

/// Standardised mean difference of two ascending samples; 0 when the means are equal, also
/// without variance.
fn mean_difference(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (stats::mean(a), stats::mean(b));
    let apart = (mean_a - mean_b).abs();
    let spread = f64::midpoint(stats::variance(a, mean_a), stats::variance(b, mean_b)).sqrt();
    if apart == 0.0 { 0.0 } else { (apart / spread).min(f64::MAX) }
}

/// Two-sample Kolmogorov-Smirnov statistic of ascending samples.
fn kolmogorov_smirnov(a: &[f64], b: &[f64]) -> f64 {
    let (mut i, mut j, mut largest) = (0, 0, 0.0_f64);
    while i < a.len() && j < b.len() {
        let value = a[i].min(b[j]);
        while i < a.len() && a[i] <= value {
            i += 1;
        }
        while j < b.len() && b[j] <= value {
            j += 1;
        }
        largest = largest.max((i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
    }
    largest
}

/// Share of each category among the known categories.
fn category_shares<'a>(values: &[&'a FeatureValue]) -> BTreeMap<&'a str, f64> {
    let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
    for value in values {
        if let FeatureValue::Category(category) = value {
            *counts.entry(category).or_default() += 1.0;
        }
    }
    let all: f64 = counts.values().sum();
    for count in counts.values_mut() {
        *count /= all;
    }
    counts
}
