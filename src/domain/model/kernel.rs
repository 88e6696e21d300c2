//! The inner loop of scoring: the two nearest prototypes of one vector, or of
//! many at once.
//!
//! Distances are sums of squared differences, never the cheaper
//! |x|² - 2x·p + |p|², which loses its digits exactly where a customer is close
//! to a prototype. For many vectors that form picks the candidates, and the sums
//! decide, so that both ways give the same numbers.
#![expect(clippy::inline_always, reason = "only what is inlined is compiled for the vector unit")]

use pulp::Simd;
use serde::{Deserialize, Serialize};

use crate::domain::model::tiles::{Tiles, Visit};

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

    /// The same prototypes laid out for many vectors at once.
    pub fn prepare(&self) -> Prepared<'_> {
        let per_prototype = 1.0 / self.count().max(1) as f32;
        let mut middle = vec![0.0; self.width];
        for prototype in self.rows() {
            for (sum, x) in middle.iter_mut().zip(prototype) {
                *sum += x * per_prototype;
            }
        }
        let rows = self.values.chunks_exact(self.width.max(1));
        Prepared { prototypes: self, tiles: Tiles::new(rows, middle) }
    }

    pub(in crate::domain) fn is_whole(&self) -> bool {
        self.width > 0 && !self.values.is_empty() && self.values.len().is_multiple_of(self.width)
    }

    pub(in crate::domain) fn is_within(&self, limit: f32) -> bool {
        // NaN compares false.
        self.values.iter().all(|x| x.abs() <= limit)
    }
}

/// [`Prototypes`] made ready, once, for many vectors.
#[derive(Debug, Clone)]
pub struct Prepared<'a> {
    prototypes: &'a Prototypes,
    tiles: Tiles,
}

impl Prepared<'_> {
    /// What [`Prototypes::two_nearest`] gives for each of `vectors`, which lie
    /// row by row, to the last bit; fills `found`.
    pub fn two_nearest_of_each(&self, vectors: &[f32], found: &mut [TwoNearest]) {
        let rows = found.len().min(vectors.len() / self.prototypes.width);
        let count = self.prototypes.count();
        self.tiles.scan(rows, Each { prepared: self, count, vectors, found });
    }
}

struct Each<'a> {
    prepared: &'a Prepared<'a>,
    /// Of the prototypes.
    count: usize,
    vectors: &'a [f32],
    found: &'a mut [TwoNearest],
}

impl Visit<3> for Each<'_> {
    #[inline(always)]
    fn row(&self, at: usize) -> &[f32] {
        let width = self.prepared.prototypes.width;
        &self.vectors[at * width..][..width]
    }

    #[inline(always)]
    fn found<S: Simd>(&mut self, simd: S, at: usize, scores: [f32; 3], _norm: f32) {
        let Prepared { prototypes, tiles } = self.prepared;
        let row = self.row(at);
        let (a, b) = (tiles.index(scores[0]), tiles.index(scores[1]));
        let (first, second) = (a.min(b), a.max(b));
        // A lone prototype's second, and whatever is made of numbers that are
        // not finite, is none.
        if second < self.count {
            let to_first = squared_distance_by(simd, row, prototypes.row(first));
            let to_second = squared_distance_by(simd, row, prototypes.row(second));
            let doubt = tiles.doubt_at(to_first.min(to_second));
            if scores[1] - scores[2] > doubt {
                self.found[at] = if to_second < to_first {
                    TwoNearest::of((second, to_second), (first, to_first))
                } else {
                    TwoNearest::of((first, to_first), (second, to_second))
                };
                return;
            }
        }
        self.found[at] = prototypes.two_nearest(row);
    }
}

impl TwoNearest {
    #[inline(always)]
    fn of(nearest: (usize, f32), second: (usize, f32)) -> Self {
        Self {
            nearest: nearest.0,
            nearest_squared: nearest.1,
            second: Some(second.0),
            second_squared: second.1,
        }
    }
}

/// Sum of squared differences over the common length.
pub fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0_f32; LANES];
    for (x, y) in a.iter().zip(b) {
        for lane in 0..LANES {
            let difference = x[lane] - y[lane];
            sums[lane] += difference * difference;
        }
    }
    let tail: f32 = a_tail.iter().zip(b_tail).map(|(x, y)| (x - y) * (x - y)).sum();
    // In halves, as vector units add up their lanes.
    let half = |lane: usize| sums[lane] + sums[lane + LANES / 2];
    ((half(0) + half(2)) + (half(1) + half(3))) + tail
}

/// [`squared_distance`], to the last bit.
#[inline(always)]
fn squared_distance_by<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    if S::F32_LANES != LANES {
        return squared_distance(a, b);
    }
    let ((a, a_tail), (b, b_tail)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut sums = simd.splat_f32s(0.0);
    for (x, y) in a.iter().zip(b) {
        let difference = simd.sub_f32s(*x, *y);
        sums = simd.add_f32s(sums, simd.mul_f32s(difference, difference));
    }
    let tail: f32 = a_tail.iter().zip(b_tail).map(|(x, y)| (x - y) * (x - y)).sum();
    simd.reduce_sum_f32s(sums) + tail
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Widths around a register, counts around a tile; a few values only, so
    /// that ties are common, moved far from the origin in some cases.
    fn shape() -> impl Strategy<Value = (usize, Vec<f32>, Vec<f32>)> {
        let offset = prop_oneof![Just(0.0_f32), Just(1000.25), Just(-3e6)];
        let value = prop_oneof![(-2..3_i8).prop_map(f32::from), -10.0..10.0_f32];
        (1..20_usize, 1..40_usize, 0..50_usize, offset).prop_flat_map(
            move |(width, count, rows, offset)| {
                let values =
                    |n| prop::collection::vec(value.clone().prop_map(move |x| x + offset), n);
                (Just(width), values(width * count), values(width * rows))
            },
        )
    }

    proptest! {
        #[test]
        fn every_vector_unit_finds_what_the_plain_loop_finds((width, points, rows) in shape()) {
            let prototypes = Prototypes::new(width, points).unwrap();
            for arch in crate::domain::model::tiles::archs() {
                let mut prepared = prototypes.prepare();
                prepared.tiles.arch = arch;
                let count = rows.len() / width;
                let mut found = vec![prototypes.two_nearest(&vec![0.0; width]); count];
                prepared.two_nearest_of_each(&rows, &mut found);
                for (row, found) in rows.chunks_exact(width).zip(found) {
                    prop_assert_eq!(found, prototypes.two_nearest(row));
                }
            }
        }
    }
}
