//! One-way analysis of variance: how much of the variance of a column its groups explain.

use crate::domain::stats::RunningMoments;
use crate::domain::stats::special::f_upper_tail;

/// The variance between groups, against the variance within them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnalysisOfVariance {
    /// Epsilon squared (Kelley, 1935), the adjusted R² of a regression on the groups: the share of
    /// the variance that the groups explain, less what groups by chance would. At most 1; about 0,
    /// perhaps below it, if the groups explain nothing.
    pub explained_share: f64,
    /// p-value of Fisher's F test that all groups have the same mean.
    pub p_value: f64,
}

impl AnalysisOfVariance {
    /// `groups`: each with a row. `None` with fewer than two groups, without a row more than
    /// groups, and for a constant column.
    pub fn measure(groups: &[RunningMoments]) -> Option<Self> {
        let mut all = RunningMoments::default();
        for group in groups {
            all = all.merged_with(group);
        }
        let within: f64 = groups.iter().map(|group| group.squares).sum();
        let (rows, count) = (all.rows as f64, groups.len() as f64);
        let (between_degrees, within_degrees) = (count - 1.0, rows - count);
        if between_degrees < 1.0 || within_degrees < 1.0 || all.squares <= 0.0 {
            return None;
        }
        let within_mean = within / within_degrees;
        let between_mean = (all.squares - within).max(0.0) / between_degrees;
        // Without variance within groups, F is infinite and the groups explain everything.
        let p_value = if within_mean > 0.0 {
            f_upper_tail(between_mean / within_mean, between_degrees, within_degrees)
        } else {
            0.0
        };
        Some(Self { explained_share: 1.0 - within_mean * (rows - 1.0) / all.squares, p_value })
    }
}
