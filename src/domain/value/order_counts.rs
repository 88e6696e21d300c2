//! Distribution of the number of orders of an active customer within a period.
//!
//! With the rate of orders from a gamma distribution, the number N of orders within an active time is
//! negative binomial. Under BG/NBD and MBG/NBD the active time is the period, and a customer also
//! leaves after order G (beta-geometric), so the number of orders is the smaller of N and G. Under
//! Pareto/NBD the active time is random, and the distribution is a mixture over it.

/// Most orders that are counted one by one.
const MOST_ORDERS: usize = 10_000;
/// Logarithm of about the smallest normal number, and a number that may be multiplied by e to the
/// power of 200 more.
const LEAST_LN: f64 = -700.0;
const LARGE_ENOUGH: f64 = 1e-50;
/// The sum of the remaining probabilities at which moments are complete.
const NEGLIGIBLE_TAIL: f64 = 1e-6;

/// Possible active times, and the probability to stay after an order.
#[derive(Debug, Clone, Copy)]
pub(super) struct OrderCounts<const TIMES: usize> {
    /// Shape and rate (in days) of the gamma distribution of the rate of orders.
    pub(super) shape: f64,
    pub(super) rate: f64,
    /// Active times in days, and their probabilities.
    pub(super) times: [f64; TIMES],
    pub(super) weights: [f64; TIMES],
    /// Beta distribution of the probability to leave after an order; `None`: never.
    pub(super) leaving: Option<[f64; 2]>,
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
struct CountProbabilities<'c, const TIMES: usize> {
    counts: &'c OrderCounts<TIMES>,
    /// For each active time: success probability, P(N = k) and P(N ≤ k).
    success: [f64; TIMES],
    exactly: [f64; TIMES],
    at_most: [f64; TIMES],
    /// P(N = k) is `exactly` times e to this power, which is below 0 while P(N = k) is too small for a
    /// number, and then 0.
    ln_rest: [f64; TIMES],
    k: f64,
    /// P(G ≥ k).
    stays: f64,
}

impl<const TIMES: usize> OrderCounts<TIMES> {
    fn probabilities(&self) -> CountProbabilities<'_, TIMES> {
        let success = self.times.map(|days| days / (self.rate + days));
        let ln_none = success.map(|success| self.shape * (1.0 - success).ln());
        let ln_rest = ln_none.map(|ln_none| (ln_none - LEAST_LN).min(0.0));
        let exactly = ln_none.map(|ln_none| ln_none.max(LEAST_LN).exp());
        let (at_most, k, stays) = ([0.0; TIMES], 0.0, 1.0);
        CountProbabilities { counts: self, success, exactly, at_most, ln_rest, k, stays }
    }

    /// P(Y = `orders`).
    pub(super) fn probability(&self, orders: u32) -> f64 {
        self.probabilities().nth(orders as usize).unwrap_or(0.0)
    }

    /// P(Y = 0) and E[Y (Y − 1)] of a customer who never leaves after an order, in closed form.
    fn moments_without_leaving(&self) -> [f64; 2] {
        let (mut none, mut pairs) = (0.0, 0.0);
        for (days, weight) in self.times.into_iter().zip(self.weights) {
            let mean_rate = days / self.rate;
            none += weight * (-self.shape * (1.0 + mean_rate).ln()).exp();
            pairs += weight * self.shape * (self.shape + 1.0) * mean_rate * mean_rate;
        }
        [none, pairs]
    }

    /// Moments and quantiles of the number of orders. The customer is active with probability `alive`,
    /// and otherwise places no order.
    pub(super) fn figures(&self, alive: f64, levels: [f64; 2]) -> CountFigures {
        let (mut at_most, mut pairs, mut none) = (1.0 - alive, 0.0, 1.0);
        let mut quantiles = [f64::NAN; 2];
        for (k, probability) in self.probabilities().take(MOST_ORDERS).enumerate() {
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
            let has_quantiles = quantiles.iter().all(|quantile| !quantile.is_nan());
            let has_moments = self.leaving.is_none() || 1.0 - at_most < NEGLIGIBLE_TAIL;
            if has_quantiles && has_moments {
                break;
            }
        }
        if self.leaving.is_none() {
            pairs = alive * self.moments_without_leaving()[1];
        }
        let quantiles = quantiles.map(|k| if k.is_nan() { MOST_ORDERS as f64 } else { k });
        CountFigures { none, pairs, quantiles }
    }

    /// P(Y = 0) and E[Y (Y − 1)]. The customer is active with probability `alive`.
    pub(super) fn moments(&self, alive: f64) -> [f64; 2] {
        if self.leaving.is_none() {
            let [none, pairs] = self.moments_without_leaving();
            return [1.0 - alive + alive * none, alive * pairs];
        }
        let CountFigures { none, pairs, .. } = self.figures(alive, [0.0; 2]);
        [none, pairs]
    }
}

impl<const TIMES: usize> Iterator for CountProbabilities<'_, TIMES> {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        let OrderCounts { shape, weights, leaving, .. } = self.counts;
        // P(G ≥ k + 1): the first order is always placed.
        let next_stays = match leaving {
            Some([a, b]) if self.k >= 1.0 => {
                self.stays * (b + self.k - 1.0) / (a + b + self.k - 1.0)
            }
            _ => self.stays,
        };
        let growth = (shape + self.k) / (self.k + 1.0);
        let mut probability = 0.0;
        let nodes = self.exactly.iter_mut().zip(&mut self.at_most).zip(&mut self.ln_rest);
        let terms = self.success.iter().zip(weights);
        for (((exactly, at_most), ln_rest), (success, weight)) in nodes.zip(terms) {
            let now = if *ln_rest < 0.0 { 0.0 } else { *exactly };
            *at_most += now;
            // Y = k: N is k and the customer stayed before order k, or N is larger and the customer
            // leaves after order k.
            let more = (1.0 - *at_most).max(0.0);
            probability += weight * (now * self.stays + more * (self.stays - next_stays));
            *exactly *= growth * success;
            if *ln_rest < 0.0 && *exactly > LARGE_ENOUGH {
                let part = ln_rest.max(LEAST_LN + 200.0);
                *exactly *= part.exp();
                *ln_rest -= part;
            }
        }
        self.k += 1.0;
        self.stays = next_stays;
        Some(probability)
    }
}
