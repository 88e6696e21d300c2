//! Shift of the model's output: rates of unassigned customers, missing values and outliers.

use serde::Serialize;

use crate::domain::drift::dependence::DesignEffects;
use crate::domain::drift::statistics::contingency_table::share;
use crate::domain::stats::special;

/// A number of rows, and the number of all rows of which they are a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowCount {
    pub counted: u64,
    pub all: u64,
}

/// A [`RowCount`] with weighted rows, rounded to whole rows for the exact tests.
#[derive(Debug, Clone, Copy)]
pub(super) struct WeightedCount {
    pub(super) counted: f64,
    pub(super) all: f64,
}

impl RowCount {
    /// Each row with this weight, at most 1.
    pub(super) fn weighted(self, weight: f64) -> WeightedCount {
        let all = (self.all as f64 * weight).round().max(1.0);
        WeightedCount { counted: (self.counted as f64 * weight).round().min(all), all }
    }
}

/// A share of rows, at training and now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RateComparison {
    pub before: f64,
    pub now: f64,
    /// Two-sided p-value of Fisher's exact test at the effective sample size. If that is an
    /// estimate over time, at least the p-value of a t-test.
    pub p_value: f64,
}

impl RateComparison {
    /// Compares two shares by Fisher's exact test; the two-sided p-value is twice the
    /// smaller tail. `None` if a side has no rows.
    pub fn of(reference: RowCount, current: RowCount, effects: DesignEffects) -> Option<Self> {
        if reference.all == 0 || current.all == 0 {
            return None;
        }
        let before = share(reference.counted as f64, reference.all as f64);
        let now = share(current.counted as f64, current.all as f64);
        let was = reference.weighted(effects.weight_before());
        let is = current.weighted(effects.weight_now());
        let (rows, counted) = (was.all + is.all, was.counted + is.counted);
        // The lower tail by symmetry: at most this number of counted rows is drawn exactly if at
        // least the rest of the draws are others.
        let at_least = special::hypergeometric_upper_tail(is.counted, rows, counted, is.all);
        let others = is.all - is.counted;
        let at_most = special::hypergeometric_upper_tail(others, rows, rows - counted, is.all);
        let exact = (2.0 * at_least.min(at_most)).clamp(0.0, 1.0);
        let p_value = effects.over_time.map_or(exact, |degrees| {
            let together = counted / rows;
            let variance = together * (1.0 - together) * (1.0 / was.all + 1.0 / is.all);
            if variance <= 0.0 {
                return 1.0;
            }
            let t = (now - before) / variance.sqrt();
            exact.max(special::student_two_sided_tail(t, degrees.of_estimate))
        });
        Some(Self { before, now, p_value })
    }

    pub(crate) fn change(&self) -> f64 {
        self.now - self.before
    }
}

/// Outlier rate, compared with the promised rate alpha.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OutlierRateTest {
    pub promised: f64,
    pub now: f64,
    /// One-sided p-value: probability of at least this number of outliers by chance.
    pub p_value: f64,
}

impl OutlierRateTest {
    /// Beta-binomial test of the outlier rate.
    ///
    /// The limit itself comes from a sample: of the `held_out` rows k =
    /// ⌊alpha (held out + 1)⌋ lie on it or beyond. So the true rate is not exactly alpha
    /// but drawn from Beta(k, held out + 1 − k) (Vovk 2012, *Conditional validity of
    /// inductive conformal predictors*), and the number of outliers is beta-binomial. With
    /// many held-out rows this approaches the binomial distribution of alpha.
    ///
    /// `None` if nothing was scored, or if too few rows were held out for any outlier.
    pub fn of(scored: RowCount, alpha: f64, held_out: u64, effects: DesignEffects) -> Option<Self> {
        let held_out = held_out as f64;
        // Without the factor 0.29 × 100 is below 29 in floating point.
        let beyond = (alpha * (held_out + 1.0) * (1.0 + f64::EPSILON)).floor();
        if scored.all == 0 || beyond < 1.0 || beyond > held_out {
            return None;
        }
        let (a, b) = (beyond, held_out + 1.0 - beyond);
        let (weight, rows) = (effects.weight_before(), scored.weighted(effects.weight_now()));
        Some(Self {
            promised: alpha,
            now: share(scored.counted as f64, scored.all as f64),
            p_value: special::beta_binomial_upper_tail(
                rows.counted,
                rows.all,
                a * weight,
                b * weight,
            ),
        })
    }
}

/// One of several shares, before and now.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShareChange {
    pub(super) index: usize,
    pub(super) before: f64,
    pub(super) now: f64,
}

/// The share with the largest change.
pub(super) fn most_changed(before: &[f64], now: &[f64]) -> Option<ShareChange> {
    let shares = before.iter().zip(now).enumerate();
    let changes =
        shares.map(|(index, (before, now))| ShareChange { index, before: *before, now: *now });
    changes.max_by(|a, b| a.size().total_cmp(&b.size()))
}

impl ShareChange {
    pub(super) fn size(self) -> f64 {
        (self.now - self.before).abs()
    }
}
