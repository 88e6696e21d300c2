//! Transforms that make the distribution of a skewed number more symmetric.

use serde::{Deserialize, Serialize};

use crate::domain::feature::NumberTransform;
use crate::domain::stats::{self, minimise};

/// A transform with its fitted parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FittedTransform {
    None,
    Log1p,
    YeoJohnson { lambda: f64 },
}

impl FittedTransform {
    /// Fits `transform` to a column. The first result are the bounds at which an automatic
    /// transform clips the column, in its own unit.
    pub(super) fn fit(transform: NumberTransform, column: &[f64]) -> (Option<(f64, f64)>, Self) {
        match transform {
            NumberTransform::Automatic => fit_automatic(column),
            NumberTransform::None => (None, Self::None),
            NumberTransform::Log1p => (None, Self::Log1p),
            NumberTransform::YeoJohnson => (None, Self::fit_yeo_johnson(column)),
        }
    }

    fn fit_yeo_johnson(column: &[f64]) -> Self {
        Self::YeoJohnson { lambda: most_likely_lambda(column) }
    }

    pub(super) fn apply(self, x: f64) -> f64 {
        match self {
            Self::None => x,
            Self::Log1p => x.max(0.0).ln_1p(),
            Self::YeoJohnson { lambda } => yeo_johnson(x, lambda),
        }
    }

    /// Name in declarations, and the parameter of a power transform.
    pub(super) fn name_and_lambda(self) -> (&'static str, Option<f64>) {
        match self {
            Self::None => ("none", None),
            Self::Log1p => ("log1p", None),
            Self::YeoJohnson { lambda } => ("yeo-johnson", Some(lambda)),
        }
    }

    pub(super) fn is_sound(self) -> bool {
        match self {
            Self::None | Self::Log1p => true,
            Self::YeoJohnson { lambda } => lambda.is_finite(),
        }
    }
}

/// A value farther from the median than this, in robust standard deviations, is extreme. Of a
/// normal distribution, fewer than one in 10²² values is.
pub(super) const EXTREME: f64 = 10.0;
/// Halvings of the interval in which a bound is searched: to the last bit of a double.
const HALVINGS: usize = 128;

/// Neither bounds nor a transform, unless the column has extreme values. Then Yeo-Johnson, with
/// bounds if the transformed column still has extreme values: a few customers would otherwise set
/// the scale of the column for all.
fn fit_automatic(column: &[f64]) -> (Option<(f64, f64)>, FittedTransform) {
    if extreme_bounds(column).is_none() {
        return (None, FittedTransform::None);
    }
    let power = FittedTransform::fit_yeo_johnson(column);
    let transformed: Vec<f64> = column.iter().map(|x| power.apply(*x)).collect();
    let bounds = extreme_bounds(&transformed).map(|(low, high)| {
        let (least, most) = range(column);
        (inverse(power, low, least, most), inverse(power, high, least, most))
    });
    (bounds, power)
}

/// Bounds beyond which values are extreme; `None`: no value is extreme.
fn extreme_bounds(column: &[f64]) -> Option<(f64, f64)> {
    let ascending = stats::sorted(column);
    let quartile = |share| stats::quantile(&ascending, share);
    // The standard deviation of a normal distribution with these quartiles; of a column that is
    // mostly one value, the standard deviation itself.
    let robust = (quartile(0.75) - quartile(0.25)) / 1.349;
    let spread =
        if robust > 0.0 { robust } else { stats::variance(column, stats::mean(column)).sqrt() };
    let (centre, reach) = (quartile(0.5), EXTREME * spread);
    let (least, most) = range(column);
    let is_extreme = most - centre > reach || centre - least > reach;
    is_extreme.then_some((centre - reach, centre + reach))
}

/// Largest absolute deviation of a value from `centre`.
pub(super) fn largest_deviation(column: &[f64], centre: f64) -> f64 {
    column.iter().fold(0.0, |most, x| most.max((x - centre).abs()))
}

fn range(column: &[f64]) -> (f64, f64) {
    column.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(*x), b.max(*x)))
}

/// Inverse of an increasing transform at `target`, by bisection; an end of `least..=most` if it lies
/// outside.
fn inverse(transform: FittedTransform, target: f64, least: f64, most: f64) -> f64 {
    let (mut low, mut high) = (least, most);
    for _ in 0..HALVINGS {
        let middle = low + (high - low) / 2.0;
        if transform.apply(middle) < target {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Power transform of Yeo and Johnson (2000), *A new family of power transformations to improve
/// normality or symmetry*, equation 2.1.
fn yeo_johnson(x: f64, lambda: f64) -> f64 {
    if x >= 0.0 { shifted_box_cox(x, lambda) } else { -shifted_box_cox(-x, 2.0 - lambda) }
}

/// ((1 + x)^p - 1) / p for x ≥ 0, with its limit ln(1 + x) at p = 0.
fn shifted_box_cox(x: f64, p: f64) -> f64 {
    if p.abs() < f64::EPSILON { x.ln_1p() } else { (p * x.ln_1p()).exp_m1() / p }
}

/// Maximum-likelihood estimate of lambda (Yeo and Johnson 2000, section 3); 1, the identity,
/// for a constant column.
fn most_likely_lambda(column: &[f64]) -> f64 {
    let largest = column.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    let first = column.first().copied().unwrap_or_default();
    if largest == 0.0 || column.iter().all(|x| (x - first).abs() <= 10.0 * f64::EPSILON * largest) {
        return 1.0;
    }
    let signed_logs: f64 = column.iter().map(|x| x.abs().ln_1p().copysign(*x)).sum();
    // Beyond this bound the variance of the transformed values overflows f64. It leaves
    // a margin for values 20 times the largest seen.
    let reach = 0.5 * (f64::MAX.ln() + f64::EPSILON.ln()) / (20.0 * largest).ln_1p();
    let (low, high) = match (column.iter().any(|x| *x < 0.0), column.iter().any(|x| *x >= 0.0)) {
        (false, _) => (-reach, reach),
        (true, false) => (2.0 - reach, 2.0 + reach),
        (true, true) => ((2.0 - reach).min(0.0), reach.max(2.0)),
    };
    minimise::minimise_bounded(
        |lambda| minus_log_likelihood(column, signed_logs, lambda),
        low,
        high,
        1e-9,
    )
}

/// Negative profile log-likelihood of `lambda`; `signed_logs` is the sum of sign(x) ln(1 + |x|).
fn minus_log_likelihood(column: &[f64], signed_logs: f64, lambda: f64) -> f64 {
    let transformed: Vec<f64> = column.iter().map(|x| yeo_johnson(*x, lambda)).collect();
    let variance = stats::variance(&transformed, stats::mean(&transformed));
    let log_likelihood = -0.5 * column.len() as f64 * variance.ln() + (lambda - 1.0) * signed_logs;
    // The variance is zero or overflows: the least likely lambda.
    if log_likelihood.is_finite() { -log_likelihood } else { f64::INFINITY }
}
