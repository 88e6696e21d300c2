//! Lift: the mean of a group as a multiple of the mean of all rows, of which the group is a part.

use crate::domain::stats::{NORMAL_975, RunningMoments};

/// Fewest rows of the group other than 0 for an interval: fewer make the normal approximation
/// meaningless.
const LEAST_NON_ZERO: u64 = 5;

/// A lift with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupLift {
    /// Mean of the group divided by the mean of all.
    pub ratio: f64,
    /// 95 % confidence interval; `None` with fewer than five rows of the group other than 0.
    pub interval: Option<[f64; 2]>,
}

impl GroupLift {
    /// The lift of `group`, whose rows are part of `all`. No value may be negative. `None` if the
    /// mean of all is 0.
    ///
    /// The interval is that of the logarithm of a ratio, transformed back, as for a ratio of two
    /// proportions (Katz, Baptista, Azen and Pike, 1978). Its variance is linearised (delta
    /// method), here for rows drawn independently together with their group, so that the rows
    /// that numerator and denominator share are taken into account:
    /// (s²/(p m²) + S²/M² - 2 s²/(m M)) / n, with the means m, M and the variances s², S² of
    /// the group and of all, the share p of the group and the number n of all rows.
    pub fn measure(group: &RunningMoments, all: &RunningMoments) -> Option<Self> {
        if group.rows == 0 || all.mean <= 0.0 {
            return None;
        }
        let ratio = group.mean / all.mean;
        if group.non_zero < LEAST_NON_ZERO {
            return Some(Self { ratio, interval: None });
        }
        let (rows, share) = (all.rows as f64, group.rows as f64 / all.rows as f64);
        let of_group = group.variance() / (group.mean * group.mean);
        let of_all = all.variance() / (all.mean * all.mean);
        let common = group.variance() / (group.mean * all.mean);
        let variance = (of_group / share + of_all - 2.0 * common) / rows;
        // Rounding may leave a variance of 0 slightly negative, as for a group of all rows.
        let factor = (NORMAL_975 * variance.max(0.0).sqrt()).exp();
        Some(Self { ratio, interval: Some([ratio / factor, ratio * factor]) })
    }
}
