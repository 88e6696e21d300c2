//! Always-valid inference: intervals and p-values that remain valid however often results are read.
//!
//! Asymptotic confidence sequence with a normal mixture (Waudby-Smith, Arbour, Sinha, Kennedy and
//! Ramdas 2024, *Time-uniform central limit theory and asymptotic confidence sequences*; Howard,
//! Ramdas, `McAuliffe` and Sekhon 2021, *Time-uniform, nonparametric, nonasymptotic confidence
//! sequences*), the form of `GrowthBook`, also known as GAVI. It equals the mixture sequential
//! probability ratio test (mSPRT) of Robbins (1970) and Johari et al. (2017), with effects mixed over
//! a normal distribution of a variance that is fixed in advance. Forms that compute the variance of
//! the mixture from the data at each look lose the guarantee.

use crate::domain::stats::Estimate;

/// Significance level and tuning of always-valid inference; fixed before an experiment begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SequentialDesign {
    /// Probability that the interval ever excludes the true effect: between 0 and 1.
    pub alpha: f64,
    /// Customers of both compared variations at which the interval is narrowest in comparison with
    /// that for one look. Above 0; about the number at which decisions are made.
    pub tuned_customers: f64,
}

/// Always-valid confidence interval and p-value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlwaysValidResult {
    /// Lower and upper bound.
    pub interval: [f64; 2],
    pub p_value: f64,
}

impl Default for SequentialDesign {
    /// 5 %, narrowest at 5,000 customers.
    fn default() -> Self {
        Self { alpha: 0.05, tuned_customers: 5_000.0 }
    }
}

impl SequentialDesign {
    /// Always-valid confidence interval at the level 1 - alpha: lower and upper bound.
    ///
    /// `customers`: of both compared variations. The intersection with all earlier intervals of the
    /// same experiment is valid too. Asymptotic: from about 100 customers with a positive outcome on.
    pub fn interval(&self, effect: Estimate, customers: u64) -> [f64; 2] {
        let information = self.relative_information(customers);
        let squares = (1.0 + 1.0 / information) * (information.ln_1p() - 2.0 * self.alpha.ln());
        let half = effect.standard_error * squares.sqrt();
        [effect.value - half, effect.value + half]
    }

    /// Always-valid p-value of an effect of 0: the inverse of the mixture likelihood ratio. The
    /// minimum with all earlier p-values of the same experiment is valid too.
    pub fn p_value(&self, effect: Estimate, customers: u64) -> f64 {
        let information = self.relative_information(customers);
        let z = effect.value / effect.standard_error;
        let ln_ratio = z * z / 2.0 * information / (1.0 + information) - information.ln_1p() / 2.0;
        (-ln_ratio).exp().min(1.0)
    }

    /// Interval and p-value.
    pub fn infer(&self, effect: Estimate, customers: u64) -> AlwaysValidResult {
        AlwaysValidResult {
            interval: self.interval(effect, customers),
            p_value: self.p_value(effect, customers),
        }
    }

    /// Variance of the mixture over the variance of the effect: N ρ².
    fn relative_information(&self, customers: u64) -> f64 {
        let twice = -2.0 * self.alpha.ln();
        customers as f64 * (twice + twice.ln_1p()) / self.tuned_customers
    }
}
