//! Random-effects meta-analysis: combines the effects of groups, tests their heterogeneity, and
//! shrinks them towards their mean.

use crate::domain::stats::Estimate;
use crate::domain::stats::special::chi_square_upper_tail;

/// Effects of independent groups, combined by the random-effects model of `DerSimonian` and Laird
/// (1986), *Meta-analysis in clinical trials*.
///
/// The true effects of the groups are normally distributed around a mean; each is measured with
/// its own standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandomEffects {
    /// Groups combined.
    pub groups: usize,
    /// Mean of the true effects.
    pub mean: Estimate,
    /// Variance of the true effects between groups (τ²), by the method of moments; 0 if the
    /// measured effects differ no more than their standard errors explain.
    pub between_variance: f64,
    /// Heterogeneity statistic Q of Cochran (1954): chi-square distributed with `groups` - 1
    /// degrees of freedom if all true effects are equal.
    pub cochran_q: f64,
    /// P-value of `cochran_q`.
    pub heterogeneity_p_value: f64,
    /// I² of Higgins and Thompson (2002): share of the variance of the measured effects that is due
    /// to differences of true effects.
    pub heterogeneity_share: f64,
}

/// Mean of effects, weighted by the inverse of a variance each.
struct WeightedMean {
    value: f64,
    total_weight: f64,
    squared_weight: f64,
}

impl WeightedMean {
    /// The weight of an effect is 1 / (its squared standard error + `between_variance`).
    fn measure(effects: &[Estimate], between_variance: f64) -> Self {
        let (mut sum, mut total_weight, mut squared_weight) = (0.0, 0.0, 0.0);
        for effect in effects {
            let weight = 1.0 / (effect.standard_error.powi(2) + between_variance);
            sum += weight * effect.value;
            total_weight += weight;
            squared_weight += weight * weight;
        }
        Self { value: sum / total_weight, total_weight, squared_weight }
    }
}

impl RandomEffects {
    /// `None` for fewer than two effects, and unless all standard errors are finite and above 0.
    pub fn combine(effects: &[Estimate]) -> Option<Self> {
        let has_errors = effects.iter().all(|one| one.is_sound() && one.standard_error > 0.0);
        if effects.len() < 2 || !has_errors {
            return None;
        }
        let degrees = effects.len() as f64 - 1.0;
        let fixed = WeightedMean::measure(effects, 0.0);
        let squares =
            effects.iter().map(|one| ((one.value - fixed.value) / one.standard_error).powi(2));
        let cochran_q: f64 = squares.sum();
        let scale = fixed.total_weight - fixed.squared_weight / fixed.total_weight;
        let between_variance = ((cochran_q - degrees) / scale).max(0.0);
        let random = WeightedMean::measure(effects, between_variance);
        Some(Self {
            groups: effects.len(),
            mean: Estimate {
                value: random.value,
                standard_error: random.total_weight.sqrt().recip(),
            },
            between_variance,
            cochran_q,
            heterogeneity_p_value: chi_square_upper_tail(cochran_q, degrees),
            heterogeneity_share: (1.0 - degrees / cochran_q).max(0.0),
        })
    }

    /// Shrinks the effect of one group towards the mean (partial pooling): the empirical Bayes
    /// estimate of Efron and Morris (1975) with unequal variances.
    ///
    /// Its standard error includes the errors of the mean and, by Morris (1983), *Parametric empirical
    /// Bayes inference*, of `between_variance`, which is uncertain for a few groups.
    pub fn shrink(&self, effect: Estimate) -> Estimate {
        let own_variance = effect.standard_error.powi(2);
        let pooled_share = own_variance / (self.between_variance + own_variance);
        let distance = effect.value - self.mean.value;
        let degrees = (self.groups as f64 - 3.0).max(1.0);
        let variance = (1.0 - pooled_share) * own_variance
            + (pooled_share * self.mean.standard_error).powi(2)
            + 2.0 / degrees * (pooled_share * distance).powi(2);
        Estimate {
            value: self.mean.value + (1.0 - pooled_share) * distance,
            standard_error: variance.sqrt(),
        }
    }
}
