//! The tails of distributions that p-values are read from.

use std::f64::consts::{FRAC_1_SQRT_2, PI, TAU};

use statrs::function::beta::{beta_reg, ln_beta};
use statrs::function::erf::erfc;
use statrs::function::gamma;
pub use statrs::function::gamma::ln_gamma;

/// No sum of a tail needs more terms, short of counts that no service has.
const MAX_TERMS: usize = 10_000_000;

/// The upper regularised incomplete gamma function Q(a, x), for `a` above 0.
pub fn gamma_above(a: f64, x: f64) -> f64 {
    if x <= 0.0 { 1.0 } else { gamma::gamma_ur(a, x) }
}

/// P(X ≥ `x`) where X is chi-square distributed.
pub fn chi_square_above(x: f64, degrees: f64) -> f64 {
    gamma_above(degrees / 2.0, x / 2.0)
}

/// P(X ≤ `x`) where X is standard normal.
pub fn normal_below(x: f64) -> f64 {
    erfc(-x * FRAC_1_SQRT_2) / 2.0
}

/// ln P(|X| ≥ |`x`|) of the same, however far out.
pub fn ln_normal_beyond(x: f64) -> f64 {
    let x = x.abs() * FRAC_1_SQRT_2;
    if x < 20.0 {
        return erfc(x).ln();
    }
    // The asymptotic series, beyond where the tail itself is too small for a float.
    let by_square = 1.0 / (2.0 * x * x);
    let series = by_square * (-1.0 + 3.0 * by_square * (1.0 - 5.0 * by_square));
    -x * x - (x * PI.sqrt()).ln() + series.ln_1p()
}

/// P(|T| ≥ |`t`|) where T has Student's distribution.
pub fn student_beyond(t: f64, degrees: f64) -> f64 {
    beta_reg(degrees / 2.0, 0.5, degrees / (degrees + t * t)).clamp(0.0, 1.0)
}

/// P(√n D ≥ `x`) for many rows, D being the greatest distance between a
/// distribution function and its sample's (Kolmogorov 1933).
pub fn kolmogorov_above(x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    // Two series of one function; each converges at once on its side.
    let above = if x < 1.0 {
        let odd = |k: f64| (-(k * PI / x).powi(2) / 8.0).exp();
        1.0 - TAU.sqrt() / x * [1.0, 3.0, 5.0, 7.0].map(odd).iter().sum::<f64>()
    } else {
        let term = |k: f64| (-2.0 * (k * x).powi(2)).exp();
        2.0 * (term(1.0) - term(2.0) + term(3.0) - term(4.0))
    };
    above.clamp(0.0, 1.0)
}

/// P(X ≥ `drawn`): `draws` rows are taken out of `rows`, of which `marked` are
/// marked, and X are those marked among them (hypergeometric).
pub fn hypergeometric_above(drawn: f64, rows: f64, marked: f64, draws: f64) -> f64 {
    let (least, most) = ((marked + draws - rows).max(0.0), marked.min(draws));
    let probability = |x: f64| {
        (ln_choose(marked, x) + ln_choose(rows - marked, draws - x) - ln_choose(rows, draws)).exp()
    };
    // From x to x + 1.
    let ratio =
        |x: f64| (marked - x) * (draws - x) / ((x + 1.0) * (rows - marked - draws + x + 1.0));
    above(drawn, (least, most), draws * marked / rows, probability, ratio)
}

/// P(X ≥ `found`): X of `draws` come true, each with one probability that is
/// itself drawn, from Beta(`a`, `b`) (beta-binomial).
pub fn beta_binomial_above(found: f64, draws: f64, a: f64, b: f64) -> f64 {
    let probability =
        |x: f64| (ln_choose(draws, x) + ln_beta(a + x, b + draws - x) - ln_beta(a, b)).exp();
    let ratio = |x: f64| (draws - x) * (a + x) / ((x + 1.0) * (b + draws - x - 1.0));
    above(found, (0.0, draws), draws * a / (a + b), probability, ratio)
}

/// P(X ≤ `x`) of a negative binomial count with this mean and a variance of
/// mean + mean² / `size`; both above 0.
pub fn negative_binomial_below(x: f64, mean: f64, size: f64) -> f64 {
    if x < 0.0 { 0.0 } else { beta_reg(size, x.floor() + 1.0, size / (size + mean)) }
}

/// P(X ≥ `x`) of the same.
pub fn negative_binomial_above(x: f64, mean: f64, size: f64) -> f64 {
    if x <= 0.0 { 1.0 } else { beta_reg(x.ceil(), size, mean / (size + mean)) }
}

/// The sum of probabilities from `x` on, of a distribution with one peak near
/// `mean`: summed on the side of `x` that is away from it.
fn above(
    x: f64,
    (least, most): (f64, f64),
    mean: f64,
    probability: impl Fn(f64) -> f64,
    ratio: impl Fn(f64) -> f64,
) -> f64 {
    if x <= least {
        return 1.0;
    }
    if x > most {
        return 0.0;
    }
    let sum = if x > mean {
        tail(x, most, 1.0, probability(x), ratio)
    } else {
        1.0 - tail(x - 1.0, least, -1.0, probability(x - 1.0), |x| 1.0 / ratio(x - 1.0))
    };
    sum.clamp(0.0, 1.0)
}

fn tail(from: f64, to: f64, step: f64, first: f64, ratio: impl Fn(f64) -> f64) -> f64 {
    let (mut x, mut term, mut sum) = (from, first, first);
    for _ in 0..MAX_TERMS {
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
