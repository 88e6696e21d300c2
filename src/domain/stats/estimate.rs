//! Estimates with their standard errors.

use serde::{Deserialize, Serialize};

use crate::domain::stats::describe;

/// The 97.5 % quantile of the standard normal distribution, for two-sided 95 % intervals.
pub const NORMAL_975: f64 = 1.959_963_984_540_054;

/// An estimate with its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    pub value: f64,
    pub standard_error: f64,
}

impl Estimate {
    /// Mean of a column with its standard error, which is not a number for a single value.
    pub(in crate::domain) fn mean_of(column: &[f64]) -> Self {
        let count = column.len() as f64;
        let mean = describe::mean(column);
        let variance = describe::variance(column, mean) / (count - 1.0).max(0.0);
        Self { value: mean, standard_error: variance.sqrt() }
    }

    /// The 95 % confidence interval by the normal distribution: lower and upper bound. It is too
    /// narrow for few rows of a skewed column.
    pub fn interval(&self) -> [f64; 2] {
        let half = NORMAL_975 * self.standard_error;
        [self.value - half, self.value + half]
    }

    pub(in crate::domain) fn is_sound(&self) -> bool {
        self.value.is_finite() && self.standard_error.is_finite() && self.standard_error >= 0.0
    }
}
