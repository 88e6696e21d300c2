//! Which rows a run learns from, chooses by and calibrates on.
//!
//! Rows are first put in an order in which neighbours are alike: halved at the
//! median of one feature after another, as a k-d tree is (Bentley 1975). Then
//! one row is drawn from each of as many equal runs of that order as rows are
//! wanted. So each part holds its exact number of rows, and the features are
//! distributed in it nearly as in all; how nearly is measured and reported.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use crate::domain::feature::{FeatureDef, FeatureRow, Value};
use crate::domain::stats::{self, Rng};

/// Row indices, ascending. Every row is either fitted or held out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// What the final model is fitted to: the next two together.
    pub fitted: Vec<usize>,
    /// Candidates are fitted to these.
    pub train: Vec<usize>,
    /// Candidates are compared on these.
    pub validation: Vec<usize>,
    /// Only the calibration and the report see these.
    pub held_out: Vec<usize>,
}

impl Split {
    /// Draws `held_out` of all rows and `validation` of the others, shares of 1,
    /// rounded.
    pub fn draw(rows: &[FeatureRow], held_out: f64, validation: f64, rng: &mut Rng) -> Self {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        let wanted = |rows: usize, share: f64| (rows as f64 * share).round() as usize;
        let count = wanted(rows.len(), held_out);
        let run = rows.len() / count.max(1);
        arrange(rows, &mut order, 0, run.max(1));
        let (held_out, order) = one_of_each_run(&order, count, rng);
        let count = wanted(order.len(), validation);
        let (validation, train) = one_of_each_run(&order, count, rng);
        let ascending = |mut rows: Vec<usize>| {
            rows.sort_unstable();
            rows
        };
        Self {
            fitted: ascending([&train[..], &validation].concat()),
            train: ascending(train),
            validation: ascending(validation),
            held_out: ascending(held_out),
        }
    }

    /// How far the held-out rows are from all others, and the validation rows
    /// from those trained on, feature by feature.
    pub fn check(&self, defs: &[FeatureDef], rows: &[FeatureRow]) -> SplitCheck {
        let features: Vec<FeatureCheck> = defs
            .par_iter()
            .enumerate()
            .flat_map_iter(|(index, def)| {
                let beside = |name, part: &[usize], rest: &[usize]| {
                    let values = |rows_of: &[usize]| -> Vec<&Value> {
                        rows_of.iter().filter_map(|row| rows[*row].0.get(index)).collect()
                    };
                    FeatureCheck::compare(&def.name, name, &values(part), &values(rest))
                };
                let held_out = beside("held_out", &self.held_out, &self.fitted);
                let validation = beside("validation", &self.validation, &self.train);
                [held_out, validation].into_iter().flatten()
            })
            .collect();
        let largest = |values: &mut dyn Iterator<Item = f64>| values.reduce(f64::max);
        SplitCheck {
            train: self.train.len() as u64,
            validation: self.validation.len() as u64,
            held_out: self.held_out.len() as u64,
            largest_mean_difference: largest(
                &mut features.iter().filter_map(|f| f.mean_difference),
            ),
            largest_ks: largest(&mut features.iter().map(|f| f.ks)),
            features,
        }
    }
}

/// Sorts `order` so that rows near each other in it are alike.
fn arrange(rows: &[FeatureRow], order: &mut [usize], depth: usize, enough: usize) {
    let width = rows.first().map_or(0, |row| row.0.len());
    if order.len() <= enough || width == 0 {
        order.sort_unstable();
        return;
    }
    let feature = depth % width;
    let middle = order.len() / 2;
    let value = |row: &usize| rows[*row].0.get(feature).unwrap_or(&Value::Missing);
    order.select_nth_unstable_by(middle, |a, b| by_value(value(a), value(b)).then(a.cmp(b)));
    let (low, high) = order.split_at_mut(middle);
    arrange(rows, low, depth + 1, enough);
    arrange(rows, high, depth + 1, enough);
}

/// Missing first, then numbers, then categories by name.
fn by_value(a: &Value, b: &Value) -> Ordering {
    let kind = |value: &Value| match value {
        Value::Missing => 0,
        Value::Number(_) => 1,
        Value::Category(_) => 2,
    };
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.total_cmp(b),
        (Value::Category(a), Value::Category(b)) => a.cmp(b),
        _ => kind(a).cmp(&kind(b)),
    }
}

/// Draws one of each of `count` runs of `order`; the drawn and the others.
fn one_of_each_run(order: &[usize], count: usize, rng: &mut Rng) -> (Vec<usize>, Vec<usize>) {
    let (mut drawn, mut others) = (Vec::with_capacity(count), Vec::with_capacity(order.len()));
    for run in 0..count {
        let place = |run: usize| run * order.len() / count;
        let rows = &order[place(run)..place(run + 1)];
        let chosen = rng.below(rows.len());
        for (index, row) in rows.iter().enumerate() {
            if index == chosen { drawn.push(*row) } else { others.push(*row) }
        }
    }
    if count == 0 {
        others.extend_from_slice(order);
    }
    (drawn, others)
}

/// How alike the parts of a split are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitCheck {
    pub train: u64,
    pub validation: u64,
    pub held_out: u64,
    /// The largest of all; `None` without a number in any feature.
    pub largest_mean_difference: Option<f64>,
    pub largest_ks: Option<f64>,
    pub features: Vec<FeatureCheck>,
}

/// One feature in one part, beside the rows the part was drawn from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeatureCheck {
    pub feature: Box<str>,
    /// `held_out` beside all others, or `validation` beside `train`.
    pub part: &'static str,
    /// Difference of the means over the root mean of both variances; below 0.1
    /// is the custom for "balanced". `None` for categories.
    pub mean_difference: Option<f64>,
    /// Largest difference of the two distributions: Kolmogorov and Smirnov's
    /// for numbers, of any category's share for categories.
    pub ks: f64,
}

impl FeatureCheck {
    /// `None` where one side has no value at all.
    fn compare(
        feature: &str,
        part: &'static str,
        these: &[&Value],
        others: &[&Value],
    ) -> Option<Self> {
        let numbers = |values: &[&Value]| -> Vec<f64> {
            let numbers = values.iter().filter_map(|value| match value {
                Value::Number(number) => Some(*number),
                _ => None,
            });
            stats::sorted(&numbers.collect::<Vec<_>>())
        };
        let (a, b) = (numbers(these), numbers(others));
        if !a.is_empty() && !b.is_empty() {
            return Some(Self {
                feature: feature.into(),
                part,
                mean_difference: Some(mean_difference(&a, &b)),
                ks: largest_gap(&a, &b),
            });
        }
        let (a, b) = (shares(these), shares(others));
        if a.is_empty() || b.is_empty() {
            return None;
        }
        let names = a.keys().chain(b.keys());
        let share = |shares: &BTreeMap<&str, f64>, name| shares.get(name).copied().unwrap_or(0.0);
        let gap = names.map(|name| (share(&a, *name) - share(&b, *name)).abs()).fold(0.0, f64::max);
        Some(Self { feature: feature.into(), part, mean_difference: None, ks: gap })
    }
}

/// Of ascending numbers; 0 where neither side varies and both means are equal.
fn mean_difference(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (stats::mean(a), stats::mean(b));
    let apart = (mean_a - mean_b).abs();
    let spread = f64::midpoint(stats::variance(a, mean_a), stats::variance(b, mean_b)).sqrt();
    if apart == 0.0 { 0.0 } else { (apart / spread).min(f64::MAX) }
}

/// The statistic of Kolmogorov and Smirnov for two ascending samples.
fn largest_gap(a: &[f64], b: &[f64]) -> f64 {
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

fn shares<'a>(values: &[&'a Value]) -> BTreeMap<&'a str, f64> {
    let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
    for value in values {
        if let Value::Category(category) = value {
            *counts.entry(category).or_default() += 1.0;
        }
    }
    let all: f64 = counts.values().sum();
    for count in counts.values_mut() {
        *count /= all;
    }
    counts
}
