//! Tail probabilities of distributions, from which p-values are computed.

use std::f64::consts::{FRAC_1_SQRT_2, PI, SQRT_2, TAU};

use statrs::function::beta::{beta_reg, ln_beta};
use statrs::function::erf::{erf_inv, erfc};
use statrs::function::gamma;
pub use statrs::function::gamma::ln_gamma;

/// Upper limit of the terms summed for one tail; realistic counts stay far below it.
const MAX_TERMS: usize = 10_000_000;

/// Upper regularised incomplete gamma function Q(a, x), for `a` above 0.
pub fn upper_regularised_gamma(a: f64, x: f64) -> f64 {
    if x <= 0.0 { 1.0 } else { gamma::gamma_ur(a, x) }
}

/// P(X ≥ `x`) for a chi-square distribution.
pub(crate) fn chi_square_upper_tail(x: f64, degrees: f64) -> f64 {
    upper_regularised_gamma(degrees / 2.0, x / 2.0)
}

/// P(X ≥ `x`) for an F distribution.
pub fn f_upper_tail(x: f64, degrees: f64, other_degrees: f64) -> f64 {
    let rest = other_degrees / (other_degrees + degrees * x.max(0.0));
    beta_reg(other_degrees / 2.0, degrees / 2.0, rest).clamp(0.0, 1.0)
}

/// P(X ≤ `x`) for the standard normal distribution.
pub fn normal_cdf(x: f64) -> f64 {
    erfc(-x * FRAC_1_SQRT_2) / 2.0
}

/// ln(1 + eˣ) without overflow.
pub fn ln_1p_exp(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Quantile of the standard normal distribution: the inverse of [`normal_cdf`].
pub fn normal_quantile(level: f64) -> f64 {
    SQRT_2 * erf_inv(2.0 * level - 1.0)
}

/// ln P(|X| ≥ |`x`|) for the standard normal distribution, also where the tail itself
/// underflows.
pub fn ln_normal_two_sided_tail(x: f64) -> f64 {
    let x = x.abs() * FRAC_1_SQRT_2;
    if x < 20.0 {
        return erfc(x).ln();
    }
    // Asymptotic series (Abramowitz and Stegun 7.1.23): the tail itself underflows here.
    let by_square = 1.0 / (2.0 * x * x);
    let series = by_square * (-1.0 + 3.0 * by_square * (1.0 - 5.0 * by_square));
    -x * x - (x * PI.sqrt()).ln() + series.ln_1p()
}

/// P(|T| ≥ |`t`|) for Student's t distribution.
pub fn student_two_sided_tail(t: f64, degrees: f64) -> f64 {
    beta_reg(degrees / 2.0, 0.5, degrees / (degrees + t * t)).clamp(0.0, 1.0)
}

/// P(√n D ≥ `x`) for large n: the limit distribution of Kolmogorov (1933). D is the largest
/// distance between a distribution function and the empirical one of n rows.
pub fn kolmogorov_upper_tail(x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    // Two series for the same function; each converges within a few terms on its side of 1.
    let above = if x < 1.0 {
        let terms = [1.0, 3.0, 5.0, 7.0].map(|odd| small_x_term(odd, x));
        1.0 - TAU.sqrt() / x * terms.iter().sum::<f64>()
    } else {
        2.0 * (large_x_term(1.0, x) - large_x_term(2.0, x) + large_x_term(3.0, x)
            - large_x_term(4.0, x))
    };
    above.clamp(0.0, 1.0)
}

fn small_x_term(k: f64, x: f64) -> f64 {
    (-(k * PI / x).powi(2) / 8.0).exp()
}

fn large_x_term(k: f64, x: f64) -> f64 {
    (-2.0 * (k * x).powi(2)).exp()
}

/// P(X ≥ `drawn`) for a hypergeometric distribution: `draws` rows are taken out of `rows`,
/// `marked` of all rows are marked, and X counts the marked rows among the draws.
pub fn hypergeometric_upper_tail(drawn: f64, rows: f64, marked: f64, draws: f64) -> f64 {
    upper_tail(drawn, &Hypergeometric { rows, marked, draws })
}

/// P(X ≥ `found`) for a beta-binomial distribution: X counts successes among `draws`, with a
/// success probability from Beta(`a`, `b`).
pub(crate) fn beta_binomial_upper_tail(found: f64, draws: f64, a: f64, b: f64) -> f64 {
    upper_tail(found, &BetaBinomial { draws, a, b })
}

/// P(X ≤ `x`) for a negative binomial distribution with mean `mean` and variance
/// mean + mean² / `size`; both parameters are above 0.
pub fn negative_binomial_cdf(x: f64, mean: f64, size: f64) -> f64 {
    if x < 0.0 { 0.0 } else { beta_reg(size, x.floor() + 1.0, size / (size + mean)) }
}

/// P(X ≥ `x`) for the same negative binomial distribution.
pub fn negative_binomial_upper_tail(x: f64, mean: f64, size: f64) -> f64 {
    if x <= 0.0 { 1.0 } else { beta_reg(x.ceil(), size, mean / (size + mean)) }
}

/// A distribution of counts with one peak near its mean.
trait CountDistribution {
    /// Smallest possible count.
    fn least(&self) -> f64;
    /// Largest possible count.
    fn most(&self) -> f64;
    fn mean(&self) -> f64;
    fn probability(&self, x: f64) -> f64;
    /// Ratio of the probabilities of x + 1 and x.
    fn ratio(&self, x: f64) -> f64;
}

struct Hypergeometric {
    rows: f64,
    marked: f64,
    draws: f64,
}

impl CountDistribution for Hypergeometric {
    fn least(&self) -> f64 {
        (self.marked + self.draws - self.rows).max(0.0)
    }

    fn most(&self) -> f64 {
        self.marked.min(self.draws)
    }

    fn mean(&self) -> f64 {
        self.draws * self.marked / self.rows
    }

    fn probability(&self, x: f64) -> f64 {
        let Self { rows, marked, draws } = *self;
        (ln_choose(marked, x) + ln_choose(rows - marked, draws - x) - ln_choose(rows, draws)).exp()
    }

    fn ratio(&self, x: f64) -> f64 {
        let Self { rows, marked, draws } = *self;
        (marked - x) * (draws - x) / ((x + 1.0) * (rows - marked - draws + x + 1.0))
    }
}

struct BetaBinomial {
    draws: f64,
    a: f64,
    b: f64,
}

impl CountDistribution for BetaBinomial {
    fn least(&self) -> f64 {
        0.0
    }

    fn most(&self) -> f64 {
        self.draws
    }

    fn mean(&self) -> f64 {
        self.draws * self.a / (self.a + self.b)
    }

    fn probability(&self, x: f64) -> f64 {
        let Self { draws, a, b } = *self;
        (ln_choose(draws, x) + ln_beta(a + x, b + draws - x) - ln_beta(a, b)).exp()
    }

    fn ratio(&self, x: f64) -> f64 {
        let Self { draws, a, b } = *self;
        (draws - x) * (a + x) / ((x + 1.0) * (b + draws - x - 1.0))
    }
}

/// P(X ≥ `x`).
///
/// Sums the tail on the side of `x` away from the peak: its terms fall fast, and a small p-value
/// keeps its relative precision.
fn upper_tail(x: f64, counts: &impl CountDistribution) -> f64 {
    let (least, most) = (counts.least(), counts.most());
    if x <= least {
        return 1.0;
    }
    if x > most {
        return 0.0;
    }
    let sum = if x > counts.mean() {
        sum_terms(x, most, 1.0, counts.probability(x), |x| counts.ratio(x))
    } else {
        let below = counts.probability(x - 1.0);
        1.0 - sum_terms(x - 1.0, least, -1.0, below, |x| 1.0 / counts.ratio(x - 1.0))
    };
    sum.clamp(0.0, 1.0)
}

/// Sum of the terms between `from` and `to`, each computed from the one before it by `ratio`.
fn sum_terms(from: f64, to: f64, step: f64, first: f64, ratio: impl Fn(f64) -> f64) -> f64 {
    let (mut x, mut term, mut sum) = (from, first, first);
    for _ in 0..MAX_TERMS {
        // Further terms would not change the sum in double precision.
        if (to - x) * step <= 0.0 || term <= sum * f64::EPSILON / 16.0 {
            break;
        }
        term *= ratio(x);
        sum += term;
        x += step;
    }
    sum
}

fn ln_choose(n: f64, k: f64) -> f64 {
    ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0)
}
