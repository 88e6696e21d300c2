//! Distribution of the number of orders of an active customer within a period.
//!
//! With the rate of orders from a gamma distribution, the number N of orders within an active time is
//! negative binomial. Under BG/NBD and MBG/NBD the active time is the period, and a customer also
//! leaves after order G (beta-geometric), so the number of orders is the smaller of N and G. Under
//! Pareto/NBD the active time is random, and the distribution is a mixture over it.

use crate::domain::value::pareto_nbd::ACTIVE_TIMES;

/// Most orders that are counted one by one.
const MOST_ORDERS: u32 = 10_000;
/// The sum of the remaining probabilities at which moments are complete.
const NEGLIGIBLE_TAIL: f64 = 1e-9;

/// Possible active times, and the probability to stay after an order.
#[derive(Debug, Clone, Copy)]
pub(super) struct OrderCounts {
    /// Shape and rate (in days) of the gamma distribution of the rate of orders.
    pub(super) shape: f64,
    pub(super) rate: f64,
    /// Active times in days with their probabilities; unused ones have probability 0.
    pub(super) active: [(f64, f64); ACTIVE_TIMES],
    pub(super) times: usize,
    /// Beta distribution of the probability to leave after an order; never if `a` is 0.
    pub(super) a: f64,
    pub(super) b: f64,
}

/// What forecasts read of a distribution of counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct CountFigures {
    /// P(Y = 0).
    pub(super) none: f64,
    /// E[Y (Y − 1)].
    pub(super) pairs: f64,
    /// Least k with P(Y ≤ k) at or above each of two given probabilities.
    pub(super) quantiles: [f64; 2],
}

/// P(Y = 0), P(Y = 1), … of an [`OrderCounts`].
struct CountProbabilities<'c> {
    counts: &'c OrderCounts,
    /// For each active time: z, P(N = k) and P(N ≤ k).
    nodes: [(f64, f64, f64); ACTIVE_TIMES],
    k: f64,
    /// P(G ≥ k).
    stays: f64,
}

impl OrderCounts {
    fn probabilities(&self) -> CountProbabilities<'_> {
        let mut nodes = [(0.0, 0.0, 0.0); ACTIVE_TIMES];
        for (node, (days, _)) in nodes.iter_mut().zip(self.active).take(self.times) {
            let z = days / (self.rate + days);
            let none = (self.shape * (-z).ln_1p()).exp();
            *node = (z, none, none);
        }
        CountProbabilities { counts: self, nodes, k: 0.0, stays: 1.0 }
    }

    /// P(Y = `orders`).
    pub(super) fn probability(&self, orders: u32) -> f64 {
        self.probabilities().nth(orders as usize).unwrap_or(0.0)
    }

    /// Figures of a customer who is active with probability `alive`, and else orders nothing.
    pub(super) fn figures(&self, alive: f64, levels: [f64; 2]) -> CountFigures {
        let (mut at_most, mut pairs, mut none) = (1.0 - alive, 0.0, 1.0);
        let mut quantiles = [f64::NAN; 2];
        for (k, probability) in self.probabilities().take(MOST_ORDERS as usize).enumerate() {
            let k = k as f64;
            let probability = alive * probability;
            at_most += probability;
            pairs += k * (k - 1.0) * probability;
            if k == 0.0 {
                none = at_most;
            }
            for (quantile, level) in quantiles.iter_mut().zip(levels) {
                if quantile.is_nan() && at_most >= level {
                    *quantile = k;
                }
            }
            let is_complete = quantiles.iter().all(|quantile| !quantile.is_nan());
            if is_complete && 1.0 - at_most < NEGLIGIBLE_TAIL {
                break;
            }
        }
        CountFigures { none, pairs, quantiles }
    }
}

impl Iterator for CountProbabilities<'_> {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        let OrderCounts { shape, active, times, a, b, .. } = *self.counts;
        // P(G ≥ k + 1): the first order is always placed.
        let next_stays = if self.k < 1.0 {
            1.0
        } else {
            self.stays * (b + self.k - 1.0) / (a + b + self.k - 1.0)
        };
        let mut probability = 0.0;
        for ((z, exactly, at_most), (_, weight)) in self.nodes.iter_mut().zip(active).take(times) {
            // Y = k: N is k and the customer stayed before order k, or N is larger and the customer
            // leaves after order k.
            let more = (1.0 - *at_most).max(0.0);
            probability += weight * (*exactly * self.stays + more * (self.stays - next_stays));
            *exactly *= (shape + self.k) / (self.k + 1.0) * *z;
            *at_most += *exactly;
        }
        self.k += 1.0;
        self.stays = next_stays;
        Some(probability)
    }
}
