//! How far values have moved, in their own unit, as far as bins tell.
//!
//! Within a bin values are taken to be spread evenly. The outer two bins have no
//! end: what lies in them is taken to lie on their cut, so a move beyond the
//! outermost cuts is not seen, and the distances are at least as large as told.

use serde::Serialize;

use crate::domain::drift::statistics::kolmogorov_smirnov;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Moved {
    /// How far a value moves on average (Wasserstein, of order 1).
    pub distance: f64,
    /// By how much the mean moves: positive where values have grown.
    pub shift: f64,
}

impl Moved {
    /// `None` where a side has no rows, and with fewer than two cuts, or two around
    /// one value: between them there is nothing to move.
    pub fn of(cuts: &[f64], reference: &[u64], current: &[u64]) -> Option<Self> {
        let differences = kolmogorov_smirnov::differences(reference, current)?;
        let is_wide = cuts.windows(2).any(|cuts| cuts[0].next_up() < cuts[1]);
        if !is_wide || differences.len() != cuts.len() {
            return None;
        }
        let mut moved = Self { distance: 0.0, shift: 0.0 };
        for (cuts, ends) in cuts.windows(2).zip(differences.windows(2)) {
            let (width, from, to) = (cuts[1] - cuts[0], ends[0], ends[1]);
            moved.shift += f64::midpoint(from, to) * width;
            moved.distance += width
                * if from * to >= 0.0 {
                    f64::midpoint(from, to).abs()
                } else {
                    // Two triangles, on either side of where they cross.
                    (from * from + to * to) / (2.0 * (from.abs() + to.abs()))
                };
        }
        Some(moved)
    }
}

/// Where the middle value lies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Median {
    Near(f64),
    /// In the first bin, which has no lower end.
    AtMost(f64),
    /// In the last bin, which has no upper end.
    Above(f64),
}

impl Median {
    /// `None` without rows, and without cuts.
    pub fn of(cuts: &[f64], counts: &[u64]) -> Option<Self> {
        let half = counts.iter().map(|count| *count as f64).sum::<f64>() / 2.0;
        if half <= 0.0 {
            return None;
        }
        let mut below = 0.0;
        for (bin, count) in counts.iter().enumerate() {
            let here = *count as f64;
            if here > 0.0 && below + here >= half {
                return match (bin.checked_sub(1).and_then(|i| cuts.get(i)), cuts.get(bin)) {
                    (Some(low), Some(high)) => {
                        Some(Self::Near(low + (high - low) * (half - below) / here))
                    }
                    (None, Some(high)) => Some(Self::AtMost(*high)),
                    (Some(low), None) => Some(Self::Above(*low)),
                    (None, None) => None,
                };
            }
            below += here;
        }
        None
    }
}
