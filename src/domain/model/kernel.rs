//! The inner loop of scoring: the two nearest prototypes of one vector, or of
//! many at once.
//!
//! Distances are sums of squared differences, never the cheaper
//! |x|² - 2x·p + |p|², which loses its digits exactly where a customer is close
//! to a prototype. For many vectors that form picks the candidates, and the sums
//! decide, so that both ways give the same numbers.
#![expect(clippy::inline_always, reason = "only what is inlined is compiled for the vector unit")]

use std::array;

use pulp::Simd;
use serde::{Deserialize, Serialize};

use crate::domain::model::tiles::{Found, Tiles, Visit};
use crate::domain::model::turn::{TURNED, turned};

/// Partial sums kept side by side, so that the compiler can use vector units
/// without changing the order of additions.
const LANES: usize = 8;
type Lanes = [f32; LANES];

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
        let tiles = Tiles::new(rows, middle);
        let padded = self.rows().flat_map(|row| row.chunks(LANES).map(padded)).collect();
        Prepared { prototypes: self, tiles, padded }
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
    /// The prototypes once more, each filled up with zeros to whole lanes.
    padded: Vec<Lanes>,
}

impl Prepared<'_> {
    /// What [`Prototypes::two_nearest`] gives for each of `vectors`, which lie
    /// row by row, to the last bit; fills `found`.
    pub fn two_nearest_of_each(&self, vectors: &[f32], found: &mut [TwoNearest]) {
        let rows = found.len().min(vectors.len() / self.prototypes.width);
        let count = self.prototypes.count();
        let Self { prototypes, tiles, padded } = self;
        let stride = prototypes.width.div_ceil(LANES);
        let each = Each { prototypes, tiles, padded, stride, count, vectors, found };
        tiles.scan(rows, each);
    }
}

struct Each<'a> {
    prototypes: &'a Prototypes,
    tiles: &'a Tiles,
    padded: &'a [Lanes],
    /// Of a padded prototype.
    stride: usize,
    /// Of the prototypes.
    count: usize,
    vectors: &'a [f32],
    found: &'a mut [TwoNearest],
}

impl Visit<3> for Each<'_> {
    #[inline(always)]
    fn row(&self, at: usize) -> &[f32] {
        let width = self.prototypes.width;
        &self.vectors[at * width..][..width]
    }

    #[inline(always)]
    fn found<S: Simd>(&mut self, simd: S, first: usize, rows: usize, found: &Found<3>) {
        let (prototypes, tiles) = (self.prototypes, self.tiles);
        let [best, second, third] = &found.scores;
        for start in (0..rows).step_by(TURNED) {
            let some = TURNED.min(rows - start);
            // A lone prototype's second, and whatever is made of numbers that are
            // not finite, is none.
            let mut pairs = [(usize::MAX, usize::MAX); TURNED];
            let mut squares = [[[0.0; LANES]; TURNED]; 2];
            let mut tails = [[0.0; TURNED]; 2];
            for at in 0..some {
                let (a, b) = (tiles.index(best[start + at]), tiles.index(second[start + at]));
                let (a, b) = (a.min(b), a.max(b));
                if b < self.count {
                    pairs[at] = (a, b);
                    let (row, tail) = self.row(first + start + at).as_chunks();
                    let of = |index: usize| &self.padded[index * self.stride..][..self.stride];
                    let (to_a, to_b) = (of(a), of(b));
                    (squares[0][at], squares[1][at]) = lanes(simd, row, to_a, to_b);
                    if let (false, [.., a], [.., b]) = (tail.is_empty(), to_a, to_b) {
                        tails[0][at] = tail_squared(tail, a);
                        tails[1][at] = tail_squared(tail, b);
                    }
                }
            }
            let to_a = added_up(turned(simd, squares[0]), tails[0]);
            let to_b = added_up(turned(simd, squares[1]), tails[1]);
            let clear: [bool; TURNED] = array::from_fn(|at| {
                let doubt = tiles.doubt_at(if to_a[at] < to_b[at] { to_a[at] } else { to_b[at] });
                second[start + at] - third[start + at] > doubt
            });
            let out = &mut self.found[first + start..][..some];
            for (at, out) in out.iter_mut().enumerate() {
                let ((a, b), (to_a, to_b)) = (pairs[at], (to_a[at], to_b[at]));
                *out = if !clear[at] || b == usize::MAX {
                    let row = &self.vectors[(first + start + at) * prototypes.width..];
                    prototypes.two_nearest(&row[..prototypes.width])
                } else if to_b < to_a {
                    TwoNearest::of((b, to_b), (a, to_a))
                } else {
                    TwoNearest::of((a, to_a), (b, to_b))
                };
            }
        }
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
    // In halves, as vector units add up their lanes.
    let half = |lane: usize| sums[lane] + sums[lane + LANES / 2];
    ((half(0) + half(2)) + (half(1) + half(3))) + tail_squared(a_tail, b_tail)
}

fn padded(some: &[f32]) -> Lanes {
    array::from_fn(|lane| some.get(lane).copied().unwrap_or(0.0))
}

/// What fills no lane.
#[inline(always)]
fn tail_squared(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// The lanes of [`squared_distance`] of a row to two points, to the last bit.
#[inline(always)]
fn lanes<S: Simd>(simd: S, row: &[Lanes], a: &[Lanes], b: &[Lanes]) -> (Lanes, Lanes) {
    let (mut to_a, mut to_b) = ([0.0; LANES], [0.0; LANES]);
    if S::F32_LANES == LANES {
        let load = |lanes: &Lanes| S::as_simd_f32s(lanes).0[0];
        let (mut sums_a, mut sums_b) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
        for ((x, a), b) in row.iter().zip(a).zip(b) {
            let (a, b) = (simd.sub_f32s(load(x), load(a)), simd.sub_f32s(load(x), load(b)));
            sums_a = simd.add_f32s(sums_a, simd.mul_f32s(a, a));
            sums_b = simd.add_f32s(sums_b, simd.mul_f32s(b, b));
        }
        S::as_mut_simd_f32s(&mut to_a).0[0] = sums_a;
        S::as_mut_simd_f32s(&mut to_b).0[0] = sums_b;
        return (to_a, to_b);
    }
    for ((x, a), b) in row.iter().zip(a).zip(b) {
        for lane in 0..LANES {
            to_a[lane] += (x[lane] - a[lane]) * (x[lane] - a[lane]);
            to_b[lane] += (x[lane] - b[lane]) * (x[lane] - b[lane]);
        }
    }
    (to_a, to_b)
}

/// Eight distances: `lanes` holds one lane of all of them, then the next.
#[inline(always)]
fn added_up(lanes: [[f32; TURNED]; LANES], tails: [f32; TURNED]) -> [f32; TURNED] {
    array::from_fn(|row| {
        let half = |lane: usize| lanes[lane][row] + lanes[lane + LANES / 2][row];
        ((half(0) + half(2)) + (half(1) + half(3))) + tails[row]
    })
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
