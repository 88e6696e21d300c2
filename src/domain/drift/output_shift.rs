//! What the model says of those it scores: rates and mixes that should hold.

use serde::Serialize;

use crate::domain::drift::statistics::contingency_table::share;
use crate::domain::stats::special;

/// A share of rows, before and now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    pub before: f64,
    pub now: f64,
    /// How often chance alone gives as large a difference, in either direction.
    pub p_value: f64,
}

impl Rate {
    /// `(those that count, all rows)` of each side, by the exact test of Fisher,
    /// its smaller side doubled. `None` where a side has no rows.
    pub fn of(reference: (u64, u64), current: (u64, u64)) -> Option<Self> {
        let (a, n) = (reference.0 as f64, reference.1 as f64);
        let (b, m) = (current.0 as f64, current.1 as f64);
        if n <= 0.0 || m <= 0.0 {
            return None;
        }
        // At most b marked ones are drawn when at least m − b others are.
        let at_least = special::hypergeometric_above(b, n + m, a + b, m);
        let at_most = special::hypergeometric_above(m - b, n + m, n + m - a - b, m);
        let p_value = (2.0 * at_least.min(at_most)).clamp(0.0, 1.0);
        Some(Self { before: share(a, n), now: share(b, m), p_value })
    }

    pub fn change(&self) -> f64 {
        self.now - self.before
    }
}

/// Outliers against the share alpha that is promised.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outliers {
    pub promised: f64,
    pub now: f64,
    /// How often chance alone gives as many or more.
    pub p_value: f64,
}

impl Outliers {
    /// The limit itself comes from a sample: of the `held_out` rows k =
    /// ⌊alpha (held out + 1)⌋ lie on it or beyond. So the rate is not exactly alpha
    /// but drawn from Beta(k, held out + 1 − k), and the number of outliers is
    /// beta-binomial: the binomial of alpha where rows held out are many.
    /// `None` where nothing was scored, and where too few rows were held out for
    /// anything to be an outlier.
    pub fn of(outliers: u64, scored: u64, alpha: f64, held_out: u64) -> Option<Self> {
        let (found, scored, held_out) = (outliers as f64, scored as f64, held_out as f64);
        // In floating point 0.29 × 100 is below 29.
        let beyond = (alpha * (held_out + 1.0) * (1.0 + f64::EPSILON)).floor();
        if scored <= 0.0 || beyond < 1.0 || beyond > held_out {
            return None;
        }
        let p_value = special::beta_binomial_above(found, scored, beyond, held_out + 1.0 - beyond);
        Some(Self { promised: alpha, now: share(found, scored), p_value })
    }
}

/// The share that has changed most, before and now.
pub(super) fn most_changed(before: &[f64], now: &[f64]) -> Option<(usize, f64, f64)> {
    let changes = before.iter().zip(now).map(|(before, now)| (*before, *now)).enumerate();
    changes
        .max_by(|(_, a), (_, b)| (a.1 - a.0).abs().total_cmp(&(b.1 - b.0).abs()))
        .map(|(place, (before, now))| (place, before, now))
}
