//! Wasserstein distance and median of binned values, in the unit of the feature.
//!
//! Values are assumed uniform within a bin. The two outer bins are open-ended: their
//! values are assumed to lie on the outermost cut. So a move beyond these cuts is
//! invisible, and the distance is a lower bound.

use serde::Serialize;

use crate::domain::drift::statistics::kolmogorov_smirnov;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WassersteinShift {
    /// Wasserstein distance of order 1 (earth mover's distance): the mean move of a value.
    pub distance: f64,
    /// Change of the mean; positive if values have increased.
    pub shift: f64,
}

impl WassersteinShift {
    /// `None` if a side has no rows, or if no bin between two cuts has a width: fewer than
    /// two cuts, or two cuts around a single value.
    pub fn of(cuts: &[f64], reference: &[u64], current: &[u64]) -> Option<Self> {
        let differences = kolmogorov_smirnov::cumulative_differences(reference, current)?;
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
                    // The functions cross within the bin: two triangles.
                    (from * from + to * to) / (2.0 * (from.abs() + to.abs()))
                };
        }
        Some(moved)
    }
}

/// Median of binned values: interpolated, or a bound if it lies in an open-ended bin.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BinnedMedian {
    Near(f64),
    /// In the first bin, which has no lower bound.
    AtMost(f64),
    /// In the last bin, which has no upper bound.
    Above(f64),
}

impl BinnedMedian {
    /// `None` without rows or without cuts.
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
