//! Drift of values, categories and ranges that training never had.
//!
//! A histogram can hide them: they share a bin with known values, and bins with few expected
//! rows are pooled. So unseen rows are counted on their own, and rows in sparse bins are tested
//! by an exact test.

use serde::Serialize;

use crate::domain::drift::dependence::DesignEffects;
use crate::domain::drift::output_shift::{RateComparison, RowCount};
use crate::domain::drift::statistics::contingency_table::{SparseCells, share};
use crate::domain::model::{FeatureBins, SeenValues};
use crate::domain::stats::special;

/// Share of known values that no training row had.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct UnseenShare {
    /// The share that is expected although nothing has changed: training saw a sample.
    pub expected: f64,
    pub now: f64,
    /// One-sided p-value: probability of at least this number of unseen rows by chance.
    pub p_value: f64,
}

/// Distribution of the share of new rows that have an unseen value: Beta(`a`, `b`).
struct UnseenPrior {
    a: f64,
    b: f64,
}

impl UnseenShare {
    /// Beta-binomial test of the number of unseen rows. `None` if a side has no rows.
    pub fn of(
        seen: &SeenValues,
        known_before: u64,
        now: RowCount,
        effects: DesignEffects,
    ) -> Option<Self> {
        if known_before == 0 || now.all == 0 {
            return None;
        }
        let UnseenPrior { a, b } =
            UnseenPrior::of(seen, known_before as f64, effects.weight_before());
        let effective = now.weighted(effects.weight_now());
        Some(Self {
            expected: a / (a + b),
            now: share(now.counted as f64, now.all as f64),
            p_value: special::beta_binomial_upper_tail(effective.counted, effective.all, a, b),
        })
    }

    /// The excess over the expected share.
    pub(crate) fn excess(&self) -> f64 {
        self.now - self.expected
    }
}

impl UnseenPrior {
    /// The prior from `rows` known values at training, each with this `weight`.
    ///
    /// *Range.* The probability beyond the lowest and the highest of n independent values is
    /// Beta(2, n − 1), whatever their distribution (Wilks 1942), so the test is exact; with ties
    /// at the ends the true probability is smaller.
    ///
    /// *Values and categories.* The probability of all values that n rows missed is close to
    /// s₁/n, where s₁ values occurred once (Good 1953), with a variance of (s₁ + 2 s₂)/n², where
    /// s₂ occurred twice (Robbins 1968, `McAllester` and Schapire 2000). A beta distribution with
    /// this mean and variance has n s₁/(s₁ + 2 s₂) rows. One more unseen row is added, so that a
    /// closed set of values has a test too: by chance at most one of n + 1 rows is the first of
    /// its value.
    fn of(seen: &SeenValues, rows: f64, weight: f64) -> Self {
        let rows = rows * weight;
        let repeats = match seen {
            SeenValues::Range { .. } => return Self { a: 2.0, b: (rows - 1.0).max(1.0) },
            SeenValues::Numbers { repeats, .. } | SeenValues::Categories { repeats, .. } => repeats,
        };
        let (once, twice) = (repeats.once as f64 * weight, repeats.twice as f64 * weight);
        if once == 0.0 {
            return Self { a: 1.0, b: rows };
        }
        let dispersion = (once + 2.0 * twice) / once;
        let missed = once / dispersion;
        Self { a: 1.0 + missed, b: (rows / dispersion - missed).max(1.0) }
    }
}

/// Compares the shares of rows in bins that pooling hides from the test of values. `has_table`:
/// there is such a test. `None` without rows in a hidden bin.
pub(super) fn compare_sparse(
    bins: &FeatureBins,
    before: &[u64],
    now: &[u64],
    has_table: bool,
    effects: DesignEffects,
) -> Option<RateComparison> {
    let hidden = match bins {
        FeatureBins::Numbers(_) => SparseCells::of_ordered(before, now, effects, has_table),
        FeatureBins::Categories(_) => SparseCells::of_categories(before, now, effects, has_table),
    };
    let SparseCells { reference, current, all_reference, all_current } = hidden?;
    RateComparison::of(
        RowCount { counted: reference, all: all_reference },
        RowCount { counted: current, all: all_current },
        effects,
    )
}
