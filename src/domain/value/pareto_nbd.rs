//! Pareto/NBD: orders as a Poisson process until a customer leaves at a random time.
//!
//! Schmittlein, Morrison and Colombo (1987), *Counting your customers: who are they and what will they
//! do next?* While active, a customer orders at random with a rate from a gamma distribution (shape
//! `r`, rate `alpha`), and leaves at a rate from another one (shape `s`, rate `beta`). Likelihood and
//! expectations as in Fader and Hardie (2005), *A note on deriving the Pareto/NBD model*.

use serde::{Deserialize, Serialize};
use statrs::function::gamma::ln_gamma;

use crate::domain::feature::PurchaseHistory;
use crate::domain::stats::quadrature::{self, gauss_legendre};
use crate::domain::value::future_orders::expm1_ratio;
use crate::domain::value::order_counts::OrderCounts;
use crate::domain::value::purchase_table::{PurchaseTable, RowTerms};

/// Active times that stand for their distribution: the whole period, and the nodes of a quadrature.
pub(super) const ACTIVE_TIMES: usize = 1 + quadrature::NODES;
const MAX_FRACTIONS: usize = 10_000;
/// Relative change at which a continued fraction has converged.
const CONVERGED: f64 = 1e-15;

/// Parameters of a Pareto/NBD model; all above 0. Times are in days.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParetoNbd {
    pub r: f64,
    pub alpha: f64,
    pub s: f64,
    pub beta: f64,
}

impl ParetoNbd {
    pub(super) const fn from_array([r, alpha, s, beta]: [f64; 4]) -> Self {
        Self { r, alpha, s, beta }
    }

    /// ln of ∫ (alpha + u)^−(r + x) (beta + u)^−(s + 1) du from `day` on, times r + s + x: the
    /// weight of having left after that day.
    fn ln_left_after(&self, repeat_days: f64, day: f64) -> f64 {
        let Self { r, alpha, s, beta } = *self;
        let (at_alpha, at_beta, sum) = (alpha + day, beta + day, r + s + repeat_days);
        // Euler's transformation of the two hypergeometric functions of the source.
        let (ln_power, parameter, z) = if alpha >= beta {
            (
                (r + repeat_days) * at_alpha.ln() + s * at_beta.ln(),
                r + repeat_days,
                (alpha - beta) / at_alpha,
            )
        } else {
            (
                (s + 1.0) * at_beta.ln() + (r + repeat_days - 1.0) * at_alpha.ln(),
                s + 1.0,
                (beta - alpha) / at_beta,
            )
        };
        hypergeometric_one(parameter, sum + 1.0, z).ln() - ln_power
    }

    /// ln of the odds that a customer has left.
    fn ln_odds_left(&self, history: &PurchaseHistory) -> f64 {
        let Self { r, alpha, s, beta } = *self;
        let x = f64::from(history.repeat_days);
        let (last, age) = (f64::from(history.last_day), f64::from(history.age_days));
        let (since_last, since_now) = (self.ln_left_after(x, last), self.ln_left_after(x, age));
        let ln_left = since_last + (-(since_now - since_last).exp()).ln_1p();
        s.ln() - (r + s + x).ln() + (r + x) * (alpha + age).ln() + s * (beta + age).ln() + ln_left
    }

    /// Probability that the customer has not left.
    pub fn probability_alive(&self, history: &PurchaseHistory) -> f64 {
        1.0 / (1.0 + self.ln_odds_left(history).exp())
    }

    /// Gradient of the log odds that the customer has left, by the logarithms of r, alpha, s and beta;
    /// by central differences.
    pub(super) fn odds_gradient(&self, history: &PurchaseHistory) -> [f64; 4] {
        const STEP: f64 = 1e-4;
        let at = [self.r, self.alpha, self.s, self.beta];
        let mut gradient = [0.0; 4];
        for (i, slope) in gradient.iter_mut().enumerate() {
            let (mut above, mut below) = (at, at);
            above[i] *= STEP.exp();
            below[i] *= (-STEP).exp();
            *slope = (Self::from_array(above).ln_odds_left(history)
                - Self::from_array(below).ln_odds_left(history))
                / (2.0 * STEP);
        }
        gradient
    }

    /// Expected orders of an active customer within each number of days.
    pub(super) fn expected_while_alive<const N: usize>(
        &self,
        history: &PurchaseHistory,
        days: [f64; N],
    ) -> [f64; N] {
        let Self { r, alpha, s, beta } = *self;
        let (x, age) = (f64::from(history.repeat_days), f64::from(history.age_days));
        // ((beta + T) / (beta + T + t))^(s − 1) with its limit at s = 1.
        days.map(|days| {
            let ln_ratio = (days / (beta + age)).ln_1p();
            (r + x) * (beta + age) / (alpha + age) * ln_ratio * expm1_ratio((1.0 - s) * ln_ratio)
        })
    }

    /// Distribution of the orders of an active customer within some days.
    pub(super) fn order_counts(&self, history: &PurchaseHistory, days: f64) -> OrderCounts {
        let Self { r, alpha, s, beta } = *self;
        let (x, age) = (f64::from(history.repeat_days), f64::from(history.age_days));
        let begin = beta + age;
        let mut active = [(0.0, 0.0); ACTIVE_TIMES];
        let length = (days / begin).ln_1p();
        active[0] = (days, (-s * length).exp());
        // In u = ln(1 + time / (beta + T)), the active time has the density s e^(−s u).
        for (place, (u, weight)) in active[1..].iter_mut().zip(gauss_legendre(length)) {
            *place = (begin * u.exp_m1(), weight * s * (-s * u).exp());
        }
        OrderCounts { shape: r + x, rate: alpha + age, active, times: ACTIVE_TIMES, a: 0.0, b: 1.0 }
    }

    /// Density of the time until the next order of an active customer, at `day`.
    pub(super) fn next_order_density(&self, history: &PurchaseHistory, day: f64) -> f64 {
        let Self { r, alpha, s, beta } = *self;
        let (x, age) = (f64::from(history.repeat_days), f64::from(history.age_days));
        let waits =
            (r + x + 1.0) * (day / (alpha + age)).ln_1p() + s * (day / (beta + age)).ln_1p();
        (r + x) / (alpha + age) * (-waits).exp()
    }

    /// Mean log-likelihood of a customer in the table.
    pub(super) fn mean_log_likelihood(&self, table: &PurchaseTable) -> f64 {
        let Self { r, alpha, s, beta } = *self;
        let times = table.by_day(|day| ((alpha + day).ln(), s * (beta + day).ln()));
        let left_after = table.by_frequency_and_day(|repeat_days, day| {
            self.ln_left_after(f64::from(repeat_days), day)
        });
        let constant = r * alpha.ln() + s * beta.ln() - ln_gamma(r);
        let orders = table.by_repeat_days(|repeat_days| {
            let x = f64::from(repeat_days);
            (r + x, constant + ln_gamma(r + x), s.ln() - (r + s + x).ln())
        });
        table.mean(|RowTerms { frequency, age_days, at_last, at_age, .. }| {
            let (placed, alive, ln_share) = orders[frequency];
            let (ln_alpha, ln_beta) = times[age_days];
            let (since_last, since_now) = (left_after[at_last], left_after[at_age]);
            let ln_left = since_last + (-(since_now - since_last).exp()).ln_1p();
            let ln_alive = -placed * ln_alpha - ln_beta;
            alive + ln_alive + (ln_share + ln_left - ln_alive).exp().ln_1p()
        })
    }
}

/// The hypergeometric function 2F1(1, b; c; z) for c > b > 0 and 0 ≤ z < 1, by the continued fraction
/// of Gauss (*NIST Handbook of Mathematical Functions*, section 15.7), evaluated from the front (modified
/// Lentz method).
fn hypergeometric_one(b: f64, c: f64, z: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let (mut value, mut numerator, mut denominator) = (1.0, 1.0, 0.0_f64);
    for n in 1..MAX_FRACTIONS {
        let k = (n / 2) as f64;
        let coefficient = if n % 2 == 1 {
            (b + k) * (c + k - 1.0) / ((c + 2.0 * k - 1.0) * (c + 2.0 * k))
        } else {
            k * (c + k - 1.0 - b) / ((c + 2.0 * k - 2.0) * (c + 2.0 * k - 1.0))
        };
        denominator = 1.0 - coefficient * z * denominator;
        numerator = 1.0 - coefficient * z / numerator;
        if denominator.abs() < TINY {
            denominator = TINY;
        }
        if numerator.abs() < TINY {
            numerator = TINY;
        }
        denominator = 1.0 / denominator;
        let change = numerator * denominator;
        value *= change;
        if (change - 1.0).abs() < CONVERGED {
            break;
        }
    }
    1.0 / value
}
