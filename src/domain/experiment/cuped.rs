//! CUPED: variance reduction by a covariate from before the experiment.
//!
//! Deng, Xu, Kohavi and Walker (2013), *Improving the sensitivity of online controlled experiments by
//! utilizing pre-experiment data*. The covariate cannot depend on the variation, so subtracting its
//! share removes noise without changing the expected effect.

use crate::domain::experiment::effect::{VariationEffect, VariationMean, VariationPair};
use crate::domain::experiment::moments::{MetricMoments, MomentColumn};

/// Adjustment of means by a covariate, fitted to all compared variations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CupedAdjustment {
    /// Slope θ of the metric on the covariate, from their covariances within the variations, pooled.
    /// Ratio metrics are linearised before.
    pub theta: f64,
    /// Mean of the covariate over all variations, at which adjusted means are given.
    pub covariate_mean: f64,
    /// Variance of the adjusted means that all variations share: that of θ times `covariate_mean`.
    shared_variance: f64,
}

impl CupedAdjustment {
    /// `None` if the covariate is constant within the variations.
    pub fn fit(variations: &[MetricMoments]) -> Option<Self> {
        use MomentColumn::Covariate;
        let (mut covariance, mut variance, mut degrees) = (0.0, 0.0, 0.0);
        let mut all = MetricMoments::default();
        for moments in variations {
            all.merge(moments);
            if VariationMean::from_moments(moments).is_none() {
                continue;
            }
            let own_degrees = (moments.customers() - 1) as f64;
            covariance += own_degrees * moments.linearised_covariance();
            variance += own_degrees * moments.covariance(Covariate, Covariate);
            degrees += own_degrees;
        }
        let theta = covariance / variance;
        let mean_variance = variance / degrees / all.customers() as f64;
        (variance > 0.0 && theta.is_finite()).then(|| Self {
            theta,
            covariate_mean: all.mean(Covariate),
            shared_variance: theta * theta * mean_variance,
        })
    }

    /// Mean that the variation would have with the overall mean of the covariate. θ is taken as
    /// known, which is negligible from a few hundred customers on.
    pub fn adjust(&self, moments: &MetricMoments) -> Option<VariationMean> {
        use MomentColumn::Covariate;
        let unadjusted = VariationMean::from_moments(moments)?;
        let customers = moments.customers() as f64;
        let variance = moments.linearised_variance()
            - 2.0 * self.theta * moments.linearised_covariance()
            + self.theta * self.theta * moments.covariance(Covariate, Covariate);
        Some(VariationMean {
            mean: unadjusted.mean - self.theta * (moments.mean(Covariate) - self.covariate_mean),
            // Rounding can leave a negative rest if the covariate explains the metric wholly.
            variance: variance.max(0.0) / customers,
            shared_variance: self.shared_variance,
            ..unadjusted
        })
    }
}

/// Effect adjusted by CUPED.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdjustedEffect {
    pub effect: VariationEffect,
    pub theta: f64,
    /// Share of the variance of the difference that the adjustment removes. An experiment needs
    /// fewer customers by this share.
    pub variance_reduction: f64,
}

/// Effect of a treatment, unadjusted and adjusted.
///
/// Figures of the whole business are taken from the unadjusted effect: adjusted means of several
/// experiments do not add up to the observed total.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ComparedEffect {
    pub unadjusted: VariationEffect,
    /// `None` without a covariate, and if the covariate explains all variance.
    pub adjusted: Option<AdjustedEffect>,
}

impl ComparedEffect {
    /// Compares two variations. `None` if the metric is constant or a variation has fewer than two
    /// customers.
    pub fn compare(treatment: &MetricMoments, control: &MetricMoments) -> Option<Self> {
        let unadjusted = VariationEffect::compare(VariationPair {
            treatment: VariationMean::from_moments(treatment)?,
            control: VariationMean::from_moments(control)?,
        })?;
        Some(Self { unadjusted, adjusted: compare_adjusted(treatment, control, &unadjusted) })
    }

    /// The adjusted effect if there is one, else the unadjusted one.
    pub fn best(&self) -> &VariationEffect {
        self.adjusted.as_ref().map_or(&self.unadjusted, |adjusted| &adjusted.effect)
    }
}

fn compare_adjusted(
    treatment: &MetricMoments,
    control: &MetricMoments,
    unadjusted: &VariationEffect,
) -> Option<AdjustedEffect> {
    let adjustment = CupedAdjustment::fit(&[*treatment, *control])?;
    let effect = VariationEffect::compare(VariationPair {
        treatment: adjustment.adjust(treatment)?,
        control: adjustment.adjust(control)?,
    })?;
    let error_ratio = effect.difference.standard_error / unadjusted.difference.standard_error;
    Some(AdjustedEffect {
        effect,
        theta: adjustment.theta,
        variance_reduction: 1.0 - error_ratio * error_ratio,
    })
}
