//! The inner loop of scoring: the two nearest prototypes of one vector.
//!
//! Distances are sums of squared differences, never the cheaper
//! |x|² - 2x·p + |p|², which loses its digits exactly where a customer is close
//! to a prototype.

use serde::{Deserialize, Serialize};

/// Partial sums kept side by side, so that the compiler can use vector units
/// without changing the order of additions.
const LANES: usize = 8;

/// Vectors that stand for segments: `count` of them, `width` numbers each, row by row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prototypes {
    width: usize,
    values: Vec<f32>,
}

/// The nearest prototype and the next; distances squared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TwoNearest {
    pub nearest: usize,
    pub nearest_squared: f32,
    /// `None` when there is one prototype only.
    pub second: Option<usize>,
    /// Infinite when there is one prototype only.
    pub second_squared: f32,
}

impl Prototypes {
    /// `None` unless `values` is a whole number, at least one, of rows of `width`.
    pub fn new(width: usize, values: Vec<f32>) -> Option<Self> {
        let prototypes = Self { width, values };
        prototypes.is_whole().then_some(prototypes)
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn count(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// One row a prototype.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width.max(1))
    }

    /// One prototype; `index` is below [`Self::count`].
    pub(super) fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..][..self.width]
    }

    /// The two prototypes nearest to `vector`, in one pass; of equally near
    /// ones the first wins. Never allocates.
    pub fn two_nearest(&self, vector: &[f32]) -> TwoNearest {
        let mut found = TwoNearest {
            nearest: 0,
            nearest_squared: f32::INFINITY,
            second: None,
            second_squared: f32::INFINITY,
        };
        for (index, prototype) in self.rows().enumerate() {
            let squared = squared_distance(vector, prototype);
            if index == 0 {
                found.nearest_squared = squared;
            } else if squared < found.nearest_squared {
                found.second = Some(found.nearest);
                found.second_squared = found.nearest_squared;
                found.nearest = index;
                found.nearest_squared = squared;
            } else if found.second.is_none() || squared < found.second_squared {
                found.second = Some(index);
                found.second_squared = squared;
            }
        }
        found
    }

    pub(in crate::domain) fn is_whole(&self) -> bool {
        self.width > 0 && !self.values.is_empty() && self.values.len().is_multiple_of(self.width)
    }

    pub(in crate::domain) fn is_within(&self, limit: f32) -> bool {
        // NaN compares false.
        self.values.iter().all(|x| x.abs() <= limit)
    }
}

/// Sum of squared differences over the common length.
pub fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a_lanes, b_lanes) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 =
        a_lanes.remainder().iter().zip(b_lanes.remainder()).map(|(x, y)| (x - y) * (x - y)).sum();
    for (x, y) in a_lanes.zip(b_lanes) {
        for lane in 0..LANES {
            let difference = x[lane] - y[lane];
            sums[lane] += difference * difference;
        }
    }
    sums.iter().sum::<f32>() + tail
}
