//! Shift of the model's output: rates of unassigned customers, missing values and outliers.

use serde::Serialize;

use crate::domain::drift::statistics::contingency_table::share;
use crate::domain::stats::special;

/// A number of rows, and the number of all rows of which they are a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowCount {
    pub counted: u64,
    pub all: u64,
}

/// A share of rows, at training and now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RateComparison {
    pub before: f64,
    pub now: f64,
    /// Two-sided p-value of Fisher's exact test.
    pub p_value: f64,
}

impl RateComparison {
    /// Compares two shares by Fisher's exact test; the two-sided p-value is twice the
    /// smaller tail. `None` if a side has no rows.
    pub fn of(reference: RowCount, current: RowCount) -> Option<Self> {
        let (a, n) = (reference.counted as f64, reference.all as f64);
        let (b, m) = (current.counted as f64, current.all as f64);
        if n <= 0.0 || m <= 0.0 {
            return None;
        }
        // The lower tail by symmetry: at most b counted rows are drawn exactly if at least
        // m − b of the others are.
        let at_least = special::hypergeometric_upper_tail(b, n + m, a + b, m);
        let at_most = special::hypergeometric_upper_tail(m - b, n + m, n + m - a - b, m);
        let p_value = (2.0 * at_least.min(at_most)).clamp(0.0, 1.0);
        Some(Self { before: share(a, n), now: share(b, m), p_value })
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
    pub fn of(outliers: u64, scored: u64, alpha: f64, held_out: u64) -> Option<Self> {
        let (found, scored, held_out) = (outliers as f64, scored as f64, held_out as f64);
        // Without the factor 0.29 × 100 is below 29 in floating point.
        let beyond = (alpha * (held_out + 1.0) * (1.0 + f64::EPSILON)).floor();
        if scored <= 0.0 || beyond < 1.0 || beyond > held_out {
            return None;
        }
        let p_value =
            special::beta_binomial_upper_tail(found, scored, beyond, held_out + 1.0 - beyond);
        Some(Self { promised: alpha, now: share(found, scored), p_value })
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
