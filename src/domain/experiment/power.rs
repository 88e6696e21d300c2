//! Power analysis: sample size, duration and minimum detectable effect of an experiment.
//!
//! Two-sided z-test by the normal approximation (Fleiss, Levin and Paik 2003, *Statistical methods for
//! rates and proportions*, chapter 4): the variance of proportions is pooled under the null hypothesis
//! and not pooled under the alternative.

use crate::domain::stats::bisection::solve_increasing;
use crate::domain::stats::special::{normal_cdf, normal_quantile};

/// Bounds of the logarithm of a sample size.
const LEAST_LN_CUSTOMERS: f64 = -10.0;
const MOST_LN_CUSTOMERS: f64 = 50.0;
/// Standardised differences from 0 to this are searched.
const MOST_STANDARD_ERRORS: f64 = 1_000.0;

/// Metric of a planned experiment, as it is in the control.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PlannedMetric {
    /// Mean or ratio with this standard deviation between customers, such as
    /// `MetricMoments::standard_deviation` of an earlier period. With CUPED, the deviation is smaller by
    /// the square root of 1 - variance reduction.
    Mean { standard_deviation: f64 },
    /// Proportion with this rate, between 0 and 1.
    Proportion { rate: f64 },
}

/// Plan of a comparison of two variations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExperimentPlan {
    pub metric: PlannedMetric,
    /// Significance level of the two-sided test.
    pub alpha: f64,
    /// Customers of the treatment for each customer of the control; above 0.
    pub treatment_ratio: f64,
}

/// Customers needed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RequiredSample {
    /// Customers of the control; not rounded.
    pub control_customers: f64,
    /// Customers of the treatment; not rounded.
    pub treatment_customers: f64,
}

impl RequiredSample {
    /// Days until enough customers are exposed. `daily_customers`: newly exposed customers of both
    /// variations each day, above 0.
    pub fn days(&self, daily_customers: f64) -> f64 {
        let customers = self.control_customers.ceil() + self.treatment_customers.ceil();
        (customers / daily_customers).ceil()
    }
}

/// Standard deviations of the difference of means, times the root of the customers of the control.
struct DifferenceDeviations {
    under_null: f64,
    under_alternative: f64,
}

impl ExperimentPlan {
    /// Probability that the test finds a true difference (treatment minus control, in the unit of the
    /// metric). `None` for a rate of the treatment outside of 0 to 1.
    pub fn power(&self, difference: f64, control_customers: f64) -> Option<f64> {
        let deviations = self.deviations(difference)?;
        Some(self.power_by(&deviations, difference, control_customers))
    }

    /// Customers needed to find a true difference with probability `power`. `None` for a difference of
    /// 0, and for a rate of the treatment outside of 0 to 1.
    pub fn required_sample(&self, difference: f64, power: f64) -> Option<RequiredSample> {
        let deviations = self.deviations(difference)?;
        if difference == 0.0 {
            return None;
        }
        let power_of_ln =
            |ln_customers: f64| self.power_by(&deviations, difference, ln_customers.exp());
        let ln_customers =
            solve_increasing(power_of_ln, power, LEAST_LN_CUSTOMERS, MOST_LN_CUSTOMERS);
        let control_customers = ln_customers.exp();
        Some(RequiredSample {
            control_customers,
            treatment_customers: control_customers * self.treatment_ratio,
        })
    }

    /// Minimum detectable effect: the smallest increase that the test finds with probability `power`.
    /// `None` if it finds no increase of the rate with that probability.
    pub fn minimum_detectable_difference(&self, control_customers: f64, power: f64) -> Option<f64> {
        let most = match self.metric {
            PlannedMetric::Mean { .. } => {
                let deviation = self.deviations(0.0)?.under_null;
                MOST_STANDARD_ERRORS * deviation / control_customers.sqrt()
            }
            PlannedMetric::Proportion { rate } => 1.0 - rate,
        };
        let power_of =
            |difference: f64| self.power(difference, control_customers).unwrap_or_default();
        (power_of(most) >= power).then(|| solve_increasing(power_of, power, 0.0, most))
    }

    fn power_by(&self, deviations: &DifferenceDeviations, difference: f64, control: f64) -> f64 {
        let DifferenceDeviations { under_null, under_alternative } = deviations;
        let limit = -normal_quantile(self.alpha / 2.0) * under_null;
        let shift = difference * control.sqrt();
        normal_cdf((shift - limit) / under_alternative)
            + normal_cdf((-shift - limit) / under_alternative)
    }

    fn deviations(&self, difference: f64) -> Option<DifferenceDeviations> {
        let ratio = self.treatment_ratio;
        match self.metric {
            PlannedMetric::Mean { standard_deviation } => {
                let deviation = standard_deviation * (1.0 + 1.0 / ratio).sqrt();
                Some(DifferenceDeviations { under_null: deviation, under_alternative: deviation })
            }
            PlannedMetric::Proportion { rate } => {
                let treated = rate + difference;
                let pooled = (rate + treated * ratio) / (1.0 + ratio);
                let under_null = pooled * (1.0 - pooled) * (1.0 + 1.0 / ratio);
                let under_alternative = rate * (1.0 - rate) + treated * (1.0 - treated) / ratio;
                (0.0..=1.0).contains(&treated).then(|| DifferenceDeviations {
                    under_null: under_null.sqrt(),
                    under_alternative: under_alternative.sqrt(),
                })
            }
        }
    }
}
