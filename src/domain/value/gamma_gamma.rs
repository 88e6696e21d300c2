//! Gamma-Gamma: the value of orders, independent of their number.
//!
//! Fader, Hardie and Lee (2005), *RFM and CLV: using iso-value curves for customer base analysis*;
//! Fader and Hardie (2013), *The Gamma-Gamma model of monetary value*. The values of a customer's order
//! days are gamma distributed with shape `p` and a rate of the customer's own; the rates are gamma
//! distributed with shape `q` and rate `v`.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use statrs::function::gamma::ln_gamma;

use crate::domain::feature::PurchaseHistory;

const CHUNK_ROWS: usize = 8_192;

/// Parameters of a Gamma-Gamma model; all above 0. `v` is in the unit of order values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GammaGamma {
    pub p: f64,
    pub q: f64,
    pub v: f64,
}

/// Valued order days of one customer.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpendRow {
    days: usize,
    mean: f64,
    ln_mean: f64,
}

impl SpendRow {
    /// `None` without a repeat day of a value above 0.
    pub(super) fn of(history: &PurchaseHistory) -> Option<Self> {
        let mean = history.mean_repeat_value()?;
        Some(Self { days: history.valued_repeat_days as usize, mean, ln_mean: mean.ln() })
    }

    /// The row with its values in units of `scale`.
    pub(super) fn scaled(self, scale: f64) -> Self {
        let mean = self.mean / scale;
        Self { mean, ln_mean: mean.ln(), ..self }
    }

    pub(super) const fn mean(&self) -> f64 {
        self.mean
    }
}

impl GammaGamma {
    pub(super) const fn from_array([p, q, v]: [f64; 3]) -> Self {
        Self { p, q, v }
    }

    /// Expected value of a future order day: the mean of the customer's own and of all customers',
    /// weighted by the evidence. `None` if the mean of all is infinite (q at most 1) and the customer
    /// has no valued repeat day.
    pub fn expected_order_value(&self, history: &PurchaseHistory) -> Option<f64> {
        let (shape, rate) = self.posterior(history);
        (shape > 1.0).then(|| self.p * rate / (shape - 1.0))
    }

    /// Expected square of the value of an order day, and expected product of the values of two order
    /// days; `None` if they are infinite.
    pub(super) fn second_moments(&self, history: &PurchaseHistory) -> Option<[f64; 2]> {
        let (shape, rate) = self.posterior(history);
        let square = rate * rate / ((shape - 1.0) * (shape - 2.0));
        (shape > 2.0).then_some([self.p * (self.p + 1.0) * square, self.p * self.p * square])
    }

    /// Shape and rate of the distribution of the customer's own rate.
    fn posterior(&self, history: &PurchaseHistory) -> (f64, f64) {
        let days = f64::from(history.valued_repeat_days);
        (self.p * days + self.q, self.v + history.repeat_value)
    }

    /// Mean log-likelihood of the rows; threads call `pause` between pieces of work.
    pub(super) fn mean_log_likelihood(&self, rows: &[SpendRow], pause: fn()) -> f64 {
        let Self { p, q, v } = *self;
        let most = rows.iter().map(|row| row.days).max().unwrap_or_default();
        let constant = q * v.ln() - ln_gamma(q);
        let by_days: Vec<f64> = (0..=most)
            .map(|days| {
                let x = (days as f64).max(1.0);
                constant + ln_gamma(p * x + q) - ln_gamma(p * x) + p * x * x.ln()
            })
            .collect();
        let term = |row: &SpendRow| {
            let x = row.days as f64;
            by_days[row.days] + (p * x - 1.0) * row.ln_mean - (p * x + q) * (x * row.mean + v).ln()
        };
        let chunks: Vec<f64> = rows
            .par_chunks(CHUNK_ROWS)
            .map(|rows| {
                pause();
                rows.iter().map(term).sum()
            })
            .collect();
        chunks.iter().sum::<f64>() / rows.len() as f64
    }
}
