//! Estimates with their standard errors.

use serde::{Deserialize, Serialize};

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
