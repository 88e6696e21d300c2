//! Pareto/NBD: orders as a Poisson process until a customer leaves at a random time.
//!
//! Schmittlein, Morrison and Colombo (1987), *Counting your customers: who are they and what will they
//! do next?* While active, a customer orders at random with a rate from a gamma distribution (shape
//! `r`, rate `alpha`), and leaves at a rate from another one (shape `s`, rate `beta`). Likelihood and
//! expectations as in Fader and Hardie (2005), *A note on deriving the Pareto/NBD model*.

use std::array;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use statrs::function::gamma::ln_gamma;

use crate::domain::feature::PurchaseHistory;
use crate::domain::stats::quadrature::{gauss_legendre_3, gauss_legendre_10};
use crate::domain::stats::special::ln_1p_exp;
use crate::domain::value::future_orders::expm1_ratio;
use crate::domain::value::order_counts::OrderCounts;
use crate::domain::value::purchase_table::{PurchaseTable, RowTerms};

/// Panels of the integral over the time of the next order.
const PANEL_ENDS: [f64; 9] = [0.0, 0.2, 0.4, 0.6, 0.75, 0.87, 0.95, 0.99, 0.999];
/// Ends and middles of the panels, alternating.
static PANEL_NODES: LazyLock<[WaitLevel; 17]> = LazyLock::new(|| {
    array::from_fn(|i| {
        let [left, right] = [PANEL_ENDS[i / 2], PANEL_ENDS[i.div_ceil(2)]];
        WaitLevel::new(f64::midpoint(left, right))
    })
});
/// Most pairs of partial fractions.
const MAX_FRACTION_PAIRS: usize = 5_000;
/// Relative change at which a continued fraction has converged.
const CONVERGED: f64 = 1e-13;
/// Numerators and denominators of the convergents shrink with each fraction; below this, they are divided by
/// it, which leaves their ratio as it is.
const SMALL_CONVERGENT: f64 = 1e-100;

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
        // An order today: the odds are 0.
        if history.last_day == history.age_days {
            return 1.0;
        }
        1.0 / (1.0 + self.ln_odds_left(history).exp())
    }

    /// Gradient of the log odds that the customer has left, by the logarithms of r, alpha, s and beta.
    ///
    /// The odds are s ∫ ((alpha + T) / (alpha + u))^(r + x) ((beta + T) / (beta + u))^s / (beta + u) du
    /// over the days since the last order. So the gradient is a mean over these days, here by
    /// quadrature in ln(alpha + u); days with negligible weight are left out.
    pub(super) fn odds_gradient(&self, history: &PurchaseHistory) -> [f64; 4] {
        const NEGLIGIBLE_LN_WEIGHT: f64 = 40.0;
        let Self { r, alpha, s, beta } = *self;
        let orders = r + f64::from(history.repeat_days);
        let (last, age) = (f64::from(history.last_day), f64::from(history.age_days));
        let (begin, end, end_beta) = (alpha + last, alpha + age, beta + age);
        let ln_growth = (end / begin).ln();
        let length = ln_growth.min(NEGLIGIBLE_LN_WEIGHT / orders);
        let (mut sum, mut slopes) = (0.0, [0.0; 4]);
        for (v, weight) in gauss_legendre_10(length) {
            let at_alpha = begin * v.exp();
            let at_beta = at_alpha - alpha + beta;
            let (ln_alpha, ln_beta) = (ln_growth - v, (end_beta / at_beta).ln());
            // Relative to the beginning, so that nothing overflows.
            let ln_density = -orders * v + s * ln_beta;
            let weight = weight * ln_density.exp() * at_alpha / at_beta;
            sum += weight;
            slopes[0] += weight * r * ln_alpha;
            slopes[1] += weight * orders * alpha * (1.0 / end - 1.0 / at_alpha);
            slopes[2] += weight * (1.0 + s * ln_beta);
            slopes[3] += weight * beta * (s / end_beta - (s + 1.0) / at_beta);
        }
        // Without a day since the last order, the odds are 0.
        slopes.map(|slope| if sum > 0.0 { slope / sum } else { 0.0 })
    }

    /// The customer if still active.
    pub(super) fn posterior(&self, history: &PurchaseHistory) -> ParetoPosterior {
        let age = f64::from(history.age_days);
        ParetoPosterior {
            shape: self.r + f64::from(history.repeat_days),
            rate: self.alpha + age,
            leaving_shape: self.s,
            leaving_rate: self.beta + age,
        }
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
            alive + ln_alive + ln_1p_exp(ln_share + ln_left - ln_alive)
        })
    }
}

/// A probability that an order has come.
#[derive(Debug, Clone, Copy)]
struct WaitLevel {
    probability: f64,
    /// ln of the probability that none has.
    ln_none: f64,
}

impl WaitLevel {
    fn new(probability: f64) -> Self {
        Self { probability, ln_none: (-probability).ln_1p() }
    }
}

/// Rates of ordering and leaving of an active customer, as gamma distributions; times in days.
#[derive(Debug, Clone, Copy)]
pub(super) struct ParetoPosterior {
    shape: f64,
    rate: f64,
    leaving_shape: f64,
    leaving_rate: f64,
}

impl ParetoPosterior {
    /// Expected orders within each number of days.
    pub(super) fn expected<const N: usize>(&self, days: [f64; N]) -> [f64; N] {
        let Self { shape, rate, leaving_shape, leaving_rate } = *self;
        // (leaving_rate / (leaving_rate + t))^(s − 1) with its limit at s = 1.
        days.map(|days| {
            let ln_ratio = (days / leaving_rate).ln_1p();
            let active = ln_ratio * expm1_ratio((1.0 - leaving_shape) * ln_ratio);
            shape * leaving_rate / rate * active
        })
    }

    /// Distribution of the orders within some days, precisely enough for intervals.
    pub(super) fn order_counts(&self, days: f64) -> OrderCounts<4> {
        self.mixture(days, gauss_legendre_3(1.0))
    }

    /// Distribution of the orders within some days.
    pub(super) fn order_counts_exactly(&self, days: f64) -> OrderCounts<11> {
        self.mixture(days, gauss_legendre_10(1.0))
    }

    /// The mixture over the active time: the whole period, or less with probability P. `nodes`
    /// integrate over the distribution of the latter, so the probabilities sum up to 1.
    fn mixture<const NODES: usize, const TIMES: usize>(
        &self,
        days: f64,
        nodes: [(f64, f64); NODES],
    ) -> OrderCounts<TIMES> {
        let Self { shape, rate, leaving_shape, leaving_rate } = *self;
        let (mut times, mut weights) = ([days; TIMES], [0.0; TIMES]);
        let ln_whole = -leaving_shape * (days / leaving_rate).ln_1p();
        let shorter = -ln_whole.exp_m1();
        for (i, (node, weight)) in nodes.into_iter().enumerate() {
            // The time by which the customer has left with probability part · P. More nodes are at
            // its end, where a little probability is much time.
            let (part, weight) = (node * (2.0 - node), weight * 2.0 * (1.0 - node));
            // Where rounding matters, `shorter` and with it the weight are negligible.
            times[i] = leaving_rate * ((-(1.0 - part * shorter).ln() / leaving_shape).exp() - 1.0);
            weights[i] = weight * shorter;
        }
        weights[TIMES - 1] = ln_whole.exp();
        OrderCounts { shape, rate, times, weights, leaving: None }
    }

    /// The day by which an order of a customer who never leaves has come with this probability.
    fn wait(&self, level: WaitLevel) -> f64 {
        self.rate * (-level.ln_none / self.shape).exp_m1()
    }

    /// P(the customer is active on that day): by the Pareto distribution of the time of leaving. A
    /// rounding error of the logarithm near 0 does not matter to its exponential.
    fn still_active(&self, level: WaitLevel) -> f64 {
        let scale = self.rate / self.leaving_rate;
        let growth = 1.0 + scale * ((-level.ln_none / self.shape).exp() - 1.0);
        (-self.leaving_shape * growth.ln()).exp()
    }

    /// Days by which the next order has come with each probability; infinite where it never does.
    /// Levels ascend.
    ///
    /// For a customer who never leaves, an order has come by t = rate ((1 − w)^(−1/shape) − 1) with
    /// probability w. So the probability is ∫ (1 + t / (beta + T))^(−s) dw, by Simpson's rule.
    pub(super) fn next_order_days<const N: usize>(&self, levels: [f64; N]) -> [f64; N] {
        let mut days = [f64::INFINITY; N];
        let nodes = &*PANEL_NODES;
        let (mut reached, mut left) = (0.0, self.still_active(nodes[0]));
        for panel in nodes.windows(3).step_by(2) {
            let width = panel[2].probability - panel[0].probability;
            let [middle, right] = [panel[1], panel[2]].map(|node| self.still_active(node));
            let added = width / 6.0 * (left + 4.0 * middle + right);
            for (days, level) in days.iter_mut().zip(levels) {
                if reached < level && level <= reached + added {
                    // The integrand is linear within the panel, up to a factor.
                    let missing = (level - reached) / added * (left + right) / 2.0;
                    let root = (left * left + 2.0 * (right - left) * missing).max(0.0).sqrt();
                    let part = (2.0 * missing / (left + root)).min(1.0);
                    let level = panel[0].probability + part * width;
                    *days = self.wait(WaitLevel::new(level));
                }
            }
            (reached, left) = (reached + added, right);
            if levels.iter().all(|level| *level <= reached) {
                break;
            }
        }
        days
    }
}

/// The hypergeometric function 2F1(1, b; c; z) for c > b > 0 and 0 ≤ z < 1, by the continued fraction
/// of Gauss (*NIST Handbook of Mathematical Functions*, section 15.7), evaluated from the front by the
/// recurrence of the numerators and denominators of its convergents (section 1.12). These stay positive,
/// because the coefficients of the fraction are a chain sequence.
fn hypergeometric_one(b: f64, c: f64, z: f64) -> f64 {
    // Numerator and denominator of the last two convergents.
    let (mut before, mut last) = ([1.0, 0.0], [1.0, 1.0]);
    for k in 0..MAX_FRACTION_PAIRS {
        let k = k as f64;
        let first = (b + k) * (c + k - 1.0) / ((c + 2.0 * k - 1.0) * (c + 2.0 * k));
        let second = (k + 1.0) * (c + k - b) / ((c + 2.0 * k) * (c + 2.0 * k + 1.0));
        for coefficient in [first, second] {
            let next = [0, 1].map(|i| last[i] - coefficient * z * before[i]);
            (before, last) = (last, next);
        }
        let (product, change) = (last[0] * before[1], last[0] * before[1] - before[0] * last[1]);
        if change.abs() <= CONVERGED * product {
            break;
        }
        if last[1] < SMALL_CONVERGENT {
            [before, last] = [before, last].map(|parts| parts.map(|part| part / SMALL_CONVERGENT));
        }
    }
    last[1] / last[0]
}
