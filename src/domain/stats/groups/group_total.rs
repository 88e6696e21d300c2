//! A group's share of a total, such as a segment's share of the revenue.

use crate::domain::stats::Estimate;

/// Fraction of the group's members whose share of its total measures concentration.
const TOP_FRACTION: f64 = 0.2;
/// Fewest members for which intervals by the normal distribution are published.
const LEAST_MEMBERS: usize = 30;
/// Standard errors by which a total must exceed 0 for shares of it.
const CLEARLY_POSITIVE: f64 = 2.0;

/// What a group contributes to the total of all rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupTotal {
    /// Share of the total: the mean of the membership (0 or 1) weighted by the amounts. Its error is
    /// that of a ratio of two sums, linearised (delta method; Cochran, *Sampling Techniques*, 1977,
    /// section 6.3).
    pub share: Estimate,
    /// Mean amount in the group.
    pub mean: Estimate,
    /// Share of the group's total that the largest fifth of its amounts makes up, interpolated
    /// between two amounts; `None` without a positive total, and with a negative amount.
    pub top_fifth_share: Option<f64>,
}

impl GroupTotal {
    /// `amounts`: of all rows; `is_member` says which of them belong to the group. `None` for a group
    /// of fewer than 30 rows, and unless the total exceeds 0 by two standard errors: shares of a total
    /// that returns make small would be arbitrary.
    pub fn measure(amounts: &[f64], is_member: impl Fn(usize) -> bool) -> Option<Self> {
        let all = Estimate::mean_of(amounts);
        let members: Vec<f64> =
            (0..amounts.len()).filter(|row| is_member(*row)).map(|row| amounts[row]).collect();
        let is_positive = all.value > CLEARLY_POSITIVE * all.standard_error;
        if members.len() < LEAST_MEMBERS || !is_positive {
            return None;
        }
        let total: f64 = amounts.iter().sum();
        let group_total: f64 = members.iter().sum();
        let share = group_total / total;
        let squares = amounts.iter().enumerate().map(|(row, amount)| {
            let residual = amount * (f64::from(u8::from(is_member(row))) - share);
            residual * residual
        });
        let rows = amounts.len() as f64;
        let corrected = squares.sum::<f64>() * rows / (rows - 1.0);
        let has_shares = group_total > 0.0 && members.iter().all(|amount| *amount >= 0.0);
        Some(Self {
            share: Estimate { value: share, standard_error: corrected.sqrt() / total },
            mean: Estimate::mean_of(&members),
            top_fifth_share: has_shares.then(|| top_sum(members) / group_total),
        })
    }
}

/// Sum of the largest fifth of the amounts; of an amount that is partly in it, that part.
fn top_sum(mut amounts: Vec<f64>) -> f64 {
    amounts.sort_unstable_by(|a, b| b.total_cmp(a));
    let mut left = TOP_FRACTION * amounts.len() as f64;
    let mut sum = 0.0;
    for amount in amounts {
        sum += amount * left.clamp(0.0, 1.0);
        left -= 1.0;
    }
    sum
}
