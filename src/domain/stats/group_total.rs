//! A group's part of a total, such as a segment's part of the revenue.

use crate::domain::stats::Estimate;

/// The largest amounts whose part of the total measures concentration.
const TOP_SHARE: f64 = 0.2;

/// What a group contributes to the total of all rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupTotal {
    /// Part of the total: the mean of the membership (0 or 1) weighted by the amounts. Its error is
    /// that of a ratio of two sums, linearised (delta method; Cochran, *Sampling Techniques*, 1977,
    /// section 6.3).
    pub share: Estimate,
    /// Mean amount in the group.
    pub mean: Estimate,
    /// Part of the group's total that the largest fifth of its amounts makes up, interpolated
    /// between two amounts; `None` without a positive total.
    pub top_fifth_share: Option<f64>,
}

impl GroupTotal {
    /// `amounts`: of all rows; `is_member` says which of them belong to the group. `None` unless
    /// the total is positive and the group has two rows.
    pub fn of(amounts: &[f64], is_member: impl Fn(usize) -> bool) -> Option<Self> {
        let total: f64 = amounts.iter().sum();
        let members: Vec<f64> =
            (0..amounts.len()).filter(|row| is_member(*row)).map(|row| amounts[row]).collect();
        if total <= 0.0 || members.len() < 2 {
            return None;
        }
        let group_total: f64 = members.iter().sum();
        let share = group_total / total;
        let squares = amounts.iter().enumerate().map(|(row, amount)| {
            let residual = amount * (f64::from(u8::from(is_member(row))) - share);
            residual * residual
        });
        let rows = amounts.len() as f64;
        let corrected = squares.sum::<f64>() * rows / (rows - 1.0);
        let count = members.len() as f64;
        let mean = group_total / count;
        let squares = members.iter().map(|amount| (amount - mean) * (amount - mean)).sum::<f64>();
        Some(Self {
            share: Estimate { value: share, standard_error: corrected.sqrt() / total },
            mean: Estimate {
                value: mean,
                standard_error: (squares / (count - 1.0) / count).sqrt(),
            },
            top_fifth_share: (group_total > 0.0).then(|| top_sum(members) / group_total),
        })
    }
}

/// Sum of the largest fifth of the amounts; of an amount that is partly in it, that part.
fn top_sum(mut amounts: Vec<f64>) -> f64 {
    amounts.sort_unstable_by(|a, b| b.total_cmp(a));
    let mut left = TOP_SHARE * amounts.len() as f64;
    let mut sum = 0.0;
    for amount in amounts {
        sum += amount * left.clamp(0.0, 1.0);
        left -= 1.0;
    }
    sum
}
