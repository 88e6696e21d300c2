//! Effect of a variation: difference and relative lift, with Welch's t interval and p-value.

use crate::domain::experiment::moments::{MetricMoments, MomentColumn};
use crate::domain::stats::Estimate;
use crate::domain::stats::student::{student_tail, student_tail_quantile};

/// Standard errors by which a control mean must exceed 0 for a relative lift: the delta method needs
/// a coefficient of variation of the denominator below about 0.2 (Franz 2007, *Ratios: a short guide
/// to confidence limits and proper use*).
const LEAST_CONTROL_ERRORS: f64 = 5.0;

/// Mean of a metric in one variation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VariationMean {
    pub customers: u64,
    pub mean: f64,
    /// Variance of `mean`, without `shared_variance`.
    pub variance: f64,
    /// Variance of a term that all variations share, and which cancels in differences: the overall
    /// mean of the covariate in an adjusted mean. 0 for an unadjusted mean.
    pub shared_variance: f64,
}

impl VariationMean {
    /// Mean or ratio of means, with its variance by the delta method. `None` for fewer than two
    /// customers, and for a ratio unless the mean of the denominators is above 0.
    pub fn from_moments(moments: &MetricMoments) -> Option<Self> {
        let is_measured = moments.customers() >= 2 && moments.mean(MomentColumn::Denominator) > 0.0;
        is_measured.then(|| Self {
            customers: moments.customers(),
            mean: moments.ratio(),
            variance: moments.linearised_variance() / moments.customers() as f64,
            shared_variance: 0.0,
        })
    }

    /// The mean with its standard error.
    pub fn estimate(&self) -> Estimate {
        let variance = self.variance + self.shared_variance;
        Estimate { value: self.mean, standard_error: variance.sqrt() }
    }
}

/// Effect with its standard error and the degrees of freedom of the error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EffectEstimate {
    pub value: f64,
    /// Above 0.
    pub standard_error: f64,
    /// By Welch (1947) and Satterthwaite (1946).
    pub degrees_of_freedom: f64,
}

/// Variance of an independent part of an effect, with its degrees of freedom.
#[derive(Debug, Clone, Copy)]
pub(super) struct VariancePart {
    pub(super) variance: f64,
    pub(super) degrees: f64,
}

impl EffectEstimate {
    /// Combines independent parts by the formula of Welch and Satterthwaite. `None` unless the
    /// variance is finite and above 0.
    pub(super) fn from_parts(value: f64, parts: &[VariancePart]) -> Option<Self> {
        let variance: f64 = parts.iter().map(|part| part.variance).sum();
        let by_degrees: f64 = parts.iter().map(|part| part.variance.powi(2) / part.degrees).sum();
        let is_measured = value.is_finite() && variance.is_finite() && variance > 0.0;
        is_measured.then(|| Self {
            value,
            standard_error: variance.sqrt(),
            degrees_of_freedom: variance * variance / by_degrees,
        })
    }

    /// Confidence interval at the level 1 - `alpha` by Student's t distribution: lower and upper
    /// bound. Valid for one look at the results.
    pub fn interval(&self, alpha: f64) -> [f64; 2] {
        let half = student_tail_quantile(alpha, self.degrees_of_freedom) * self.standard_error;
        [self.value - half, self.value + half]
    }

    /// Two-sided p-value of Welch's t-test (1947). Valid for one look at the results.
    pub fn p_value(&self) -> f64 {
        student_tail(self.value / self.standard_error, self.degrees_of_freedom)
    }

    /// The effect with its standard error, without degrees of freedom.
    pub const fn estimate(&self) -> Estimate {
        Estimate { value: self.value, standard_error: self.standard_error }
    }

    /// Variance of the effect with its degrees of freedom.
    pub(super) const fn variance_part(&self) -> VariancePart {
        let variance = self.standard_error * self.standard_error;
        VariancePart { variance, degrees: self.degrees_of_freedom }
    }
}

/// Means of the two variations that are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VariationPair {
    pub treatment: VariationMean,
    pub control: VariationMean,
}

/// Effect of a treatment in comparison with the control.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VariationEffect {
    /// Means of both variations.
    pub means: VariationPair,
    /// Mean of the treatment minus mean of the control.
    pub difference: EffectEstimate,
    /// The difference relative to the mean of the control; `None` unless that mean exceeds 0 by five
    /// standard errors.
    pub lift: Option<EffectEstimate>,
}

impl VariationEffect {
    /// Compares two means. `None` if both have no variance.
    pub fn compare(means: VariationPair) -> Option<Self> {
        let VariationPair { treatment, control } = means;
        let difference = EffectEstimate::from_parts(
            treatment.mean - control.mean,
            &[scaled_part(&treatment, 1.0), scaled_part(&control, 1.0)],
        )?;
        Some(Self { means, difference, lift: relative_lift(&means) })
    }

    /// Effect on one of the two scales.
    pub fn on_scale(&self, scale: EffectScale) -> Option<EffectEstimate> {
        match scale {
            EffectScale::Difference => Some(self.difference),
            EffectScale::Lift => self.lift,
        }
    }
}

/// Scale of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectScale {
    /// Difference of means, in the unit of the metric.
    Difference,
    /// Difference relative to the mean of the control.
    Lift,
}

/// Relative lift by the delta method: the ratio r of the means has the variance
/// (V(treatment) + r² V(control) + (1 - r)² V(shared)) / mean(control)².
fn relative_lift(means: &VariationPair) -> Option<EffectEstimate> {
    let VariationPair { treatment, control } = means;
    let control_error = control.estimate().standard_error;
    if control.mean <= 0.0 || control.mean < LEAST_CONTROL_ERRORS * control_error {
        return None;
    }
    let ratio = treatment.mean / control.mean;
    let shared = (1.0 - ratio) / control.mean;
    // The shared term is a mean over both variations.
    let shared_part = VariancePart {
        variance: shared * shared * control.shared_variance,
        degrees: (treatment.customers + control.customers) as f64 - 1.0,
    };
    let treatment_part = scaled_part(treatment, 1.0 / control.mean);
    let control_part = scaled_part(control, ratio / control.mean);
    EffectEstimate::from_parts(ratio - 1.0, &[treatment_part, control_part, shared_part])
}

/// Variance of `factor` times the mean.
fn scaled_part(mean: &VariationMean, factor: f64) -> VariancePart {
    VariancePart { variance: factor * factor * mean.variance, degrees: mean.customers as f64 - 1.0 }
}
