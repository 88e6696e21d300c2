//! Shift of a column's mean: Welch's t-test, and the effect size in standard deviations of
//! the training rows.

use serde::Serialize;

use crate::domain::stats::special;

/// Shift of a mean, with its effect size and p-value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MeanShift {
    /// Glass's delta (1976): the shift in standard deviations of the training rows;
    /// positive for an increase.
    pub d: f64,
    /// Two-sided p-value.
    pub p_value: f64,
}

/// Sums over the current rows of one column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColumnSample {
    pub rows: f64,
    /// Sum of the deviations from the training mean, in units of the training spread.
    pub sum: f64,
    /// Sum of the squares of these deviations.
    pub squares: f64,
}

impl MeanShift {
    /// Welch's t-test (1947) against `trained` rows with the mean 0 and the standard
    /// deviation 1, or 0 if they were all equal (`was_spread` is false).
    ///
    /// The variance of the sample is bounded below by that of the training rows. A sample
    /// of a number that is nearly always 0 may contain no other value; without the bound
    /// its variance would be 0 and every difference significant.
    ///
    /// `None` with fewer than two rows on a side.
    pub fn of(trained: f64, was_spread: bool, now: ColumnSample) -> Option<Self> {
        if trained < 2.0 || now.rows < 2.0 {
            return None;
        }
        let mean = now.sum / now.rows;
        let around_mean = (now.squares - now.sum * mean).max(0.0);
        let variance = (around_mean / (now.rows - 1.0)).max(1.0);
        let before = if was_spread { 1.0 / trained } else { 0.0 };
        let here = variance / now.rows;
        let degrees = (before + here).powi(2)
            / (before * before / (trained - 1.0) + here * here / (now.rows - 1.0));
        let t = mean / (before + here).sqrt();
        Some(Self { d: mean, p_value: special::student_two_sided_tail(t, degrees) })
    }
}
