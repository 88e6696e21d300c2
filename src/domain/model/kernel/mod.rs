//! Scoring kernel: exact 2-nearest-neighbour search over the prototypes, for one vector or
//! for a batch.
//!
//! Distances are sums of squared differences, never the cheaper expansion
//! |x|² - 2x·p + |p|², which suffers catastrophic cancellation exactly where a customer is
//! close to a prototype. For batches, the expansion selects candidates and the sums of
//! squares decide, so that both paths give the same bits.
#![expect(clippy::inline_always, reason = "only inlined code is compiled for the vector unit")]

use std::array;

use pulp::Simd;
use serde::{Deserialize, Serialize};

use crate::domain::model::kernel::blocked_nearest::{
    BlockCandidates, MAX_BLOCK_ROWS, PointTiles, SearchVisitor,
};
use crate::domain::model::kernel::transpose::{SQUARE_SIDE, transposed};

/// Independent partial sums, so that the compiler can vectorise without changing the order
/// of additions.
const LANES: usize = 8;
type Lanes = [f32; LANES];

/// Matrix of prototypes, row-major: `count` rows of `width` numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prototypes {
    width: usize,
    values: Vec<f32>,
}

/// The two nearest prototypes, with squared distances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TwoNearest {
    pub nearest: usize,
    pub nearest_squared: f32,
    /// `None` with a single prototype.
    pub second: Option<usize>,
    /// Infinite with a single prototype.
    pub second_squared: f32,
}

impl Prototypes {
    /// `None` unless `values` consists of one or more complete rows of `width` numbers.
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

    /// The prototypes in order.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width.max(1))
    }

    /// One prototype; `index` is below [`Self::count`].
    pub(crate) fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..][..self.width]
    }

    /// The two prototypes nearest to `vector`, in one pass. Ties go to the lower index.
    /// Never allocates.
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
                // Even an infinite distance counts: the first prototype must not become its
                // own runner-up.
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

    /// Squared distance to the nearest prototype, bit for bit that of [`Self::two_nearest`].
    pub fn nearest_squared(&self, vector: &[f32]) -> f32 {
        let squares = self.rows().map(|prototype| squared_distance(vector, prototype));
        squares.fold(f32::INFINITY, f32::min)
    }

    /// Prepares the prototypes for batches of vectors. Allocates two copies of the matrix, in
    /// the layouts of the search and of the exact distances.
    pub fn prepare(&self) -> PreparedPrototypes<'_> {
        // The origin at the mean of the prototypes keeps |x| and |p| small, and with them
        // the error bound of the scores.
        let per_prototype = 1.0 / self.count().max(1) as f32;
        let mut middle = vec![0.0; self.width];
        for prototype in self.rows() {
            for (sum, x) in middle.iter_mut().zip(prototype) {
                *sum += x * per_prototype;
            }
        }
        let rows = self.values.chunks_exact(self.width.max(1));
        let tiles = PointTiles::new(rows, middle);
        let padded = self.rows().flat_map(|row| row.chunks(LANES).map(padded)).collect();
        PreparedPrototypes { prototypes: self, tiles, padded }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.width > 0 && !self.values.is_empty() && self.values.len().is_multiple_of(self.width)
    }

    pub(crate) fn is_within(&self, limit: f32) -> bool {
        // NaN compares false.
        self.values.iter().all(|x| x.abs() <= limit)
    }
}

/// [`Prototypes`] in the memory layout for batches.
#[derive(Debug, Clone)]
pub struct PreparedPrototypes<'a> {
    prototypes: &'a Prototypes,
    tiles: PointTiles,
    /// A second copy of the prototypes, each padded with zeros to complete lanes.
    padded: Vec<Lanes>,
}

/// Results for a batch: one element per vector in each list. Reuse it, to avoid
/// allocations.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NearestBatch {
    pub nearest: Vec<u32>,
    /// Squared distance to the nearest prototype.
    pub squared: Vec<f32>,
    /// Second nearest prototype; [`NO_RUNNER_UP`] with a single prototype.
    pub runners_up: Vec<u32>,
}

/// The runner-up in a model with a single prototype.
pub const NO_RUNNER_UP: u32 = u32::MAX;

impl PreparedPrototypes<'_> {
    /// Fills `places` with the result of [`Prototypes::two_nearest`] for each of `vectors`
    /// (row-major), bit for bit the same.
    pub fn find_nearest(&self, vectors: &[f32], places: &mut NearestBatch) {
        let Self { prototypes, tiles, padded } = self;
        let rows = vectors.len() / prototypes.width;
        places.nearest.resize(rows, 0);
        places.squared.resize(rows, 0.0);
        places.runners_up.resize(rows, 0);
        let stride = prototypes.width.div_ceil(LANES);
        let count = prototypes.count();
        tiles.scan(rows, BatchSearch { prototypes, tiles, padded, stride, count, vectors, places });
    }
}

/// Visitor of the blocked search: decides by exact distances, and stores the results.
struct BatchSearch<'a> {
    prototypes: &'a Prototypes,
    tiles: &'a PointTiles,
    padded: &'a [Lanes],
    /// Lanes per padded prototype.
    stride: usize,
    /// Number of prototypes.
    count: usize,
    vectors: &'a [f32],
    places: &'a mut NearestBatch,
}

impl SearchVisitor<3> for BatchSearch<'_> {
    #[inline(always)]
    fn row(&self, at: usize) -> &[f32] {
        let width = self.prototypes.width;
        &self.vectors[at * width..][..width]
    }

    #[inline(always)]
    fn visit_candidates<S: Simd>(
        &mut self,
        simd: S,
        first: usize,
        rows: usize,
        found: &BlockCandidates<3>,
    ) {
        let tiles = self.tiles;
        let [best, second, third] = &found.scores;
        let last = self.count - 1;
        let (mut nearest, mut runners_up) = ([0_u32; MAX_BLOCK_ROWS], [0_u32; MAX_BLOCK_ROWS]);
        // All rows of the block are processed without branches, even those past the end, so
        // that the loop vectorises.
        let mut is_clear = [false; MAX_BLOCK_ROWS];
        let mut all_clear = true;
        for at in 0..MAX_BLOCK_ROWS {
            let (first, next) = (tiles.index(best[at]), tiles.index(second[at]));
            let is_point = next <= last;
            nearest[at] = first.min(last) as u32;
            runners_up[at] = next as u32;
            // False for scores that are not finite, and for the runner-up of a single
            // prototype: such rows take the exact path below.
            let norm = found.norms[at];
            is_clear[at] = tiles.are_ordered(norm, best[at], second[at])
                & tiles.are_ordered(norm, second[at], third[at])
                & is_point;
            let is_past_end = at >= rows;
            all_clear &= is_clear[at] | is_past_end;
        }
        let squared = self.squared(simd, first, rows, &nearest);
        let out = first..first + rows;
        self.places.nearest[out.clone()].copy_from_slice(&nearest[..rows]);
        self.places.squared[out.clone()].copy_from_slice(&squared[..rows]);
        self.places.runners_up[out].copy_from_slice(&runners_up[..rows]);
        // Candidates within the error bound of each other: search such rows exactly.
        if !all_clear {
            for at in (0..rows).filter(|at| !is_clear[*at]) {
                self.places.set(first + at, self.prototypes.two_nearest(self.row(first + at)));
            }
        }
    }
}

impl BatchSearch<'_> {
    /// Exact squared distances of `rows` rows, from `first` on, to their nearest prototype.
    #[inline(always)]
    fn squared<S: Simd>(
        &self,
        simd: S,
        first: usize,
        rows: usize,
        nearest: &[u32; MAX_BLOCK_ROWS],
    ) -> [f32; MAX_BLOCK_ROWS] {
        let mut squared = [0.0; MAX_BLOCK_ROWS];
        for start in (0..rows).step_by(SQUARE_SIDE) {
            let mut squares = [[0.0; LANES]; SQUARE_SIDE];
            let mut tails = [0.0; SQUARE_SIDE];
            for at in 0..SQUARE_SIDE {
                // Past the end the last row is repeated; its results are dropped.
                let (row, tail) = self.row(first + (start + at).min(rows - 1)).as_chunks();
                let point =
                    &self.padded[nearest[start + at] as usize * self.stride..][..self.stride];
                squares[at] = partial_sums(simd, row, point);
                if let (false, [.., point]) = (tail.is_empty(), point) {
                    tails[at] = tail_squared(tail, point);
                }
            }
            squared[start..start + SQUARE_SIDE]
                .copy_from_slice(&reduced_rows(transposed(simd, squares), tails));
        }
        squared
    }
}

impl NearestBatch {
    fn set(&mut self, at: usize, found: TwoNearest) {
        self.nearest[at] = found.nearest as u32;
        self.squared[at] = found.nearest_squared;
        self.runners_up[at] = found.second.map_or(NO_RUNNER_UP, |second| second as u32);
    }
}

/// Squared Euclidean distance, over the common length.
#[inline]
pub fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0_f32; LANES];
    for (x, y) in a.iter().zip(b) {
        for lane in 0..LANES {
            let difference = x[lane] - y[lane];
            sums[lane] += difference * difference;
        }
    }
    reduced(sums) + tail_squared(a_tail, b_tail)
}

/// Adds the lanes up by halves, the order in which vector units reduce their lanes.
#[inline(always)]
fn reduced(sums: Lanes) -> f32 {
    ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]))
}

fn padded(some: &[f32]) -> Lanes {
    array::from_fn(|lane| some.get(lane).copied().unwrap_or(0.0))
}

/// Squared distance of the remainder that fills no complete lane.
#[inline(always)]
fn tail_squared(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// The partial sums of [`squared_distance`], bit for bit the same.
#[inline(always)]
fn partial_sums<S: Simd>(simd: S, row: &[Lanes], point: &[Lanes]) -> Lanes {
    #[cfg(target_arch = "x86_64")]
    if let Some(v3) = transpose::eight_lanes(simd) {
        return partial_sums_of_eight(v3, row, point);
    }
    let mut sums = [0.0; LANES];
    for (x, p) in row.iter().zip(point) {
        for lane in 0..LANES {
            sums[lane] += (x[lane] - p[lane]) * (x[lane] - p[lane]);
        }
    }
    sums
}

#[inline(always)]
fn partial_sums_of_eight<S: Simd>(simd: S, row: &[Lanes], point: &[Lanes]) -> Lanes {
    let mut sums = simd.splat_f32s(0.0);
    for (x, p) in row.iter().zip(point) {
        // No fused multiply-add: it rounds once instead of twice, and would differ from the
        // portable loop in the last bit.
        let (x, p) = (S::as_simd_f32s(x).0[0], S::as_simd_f32s(p).0[0]);
        let difference = simd.sub_f32s(x, p);
        sums = simd.add_f32s(sums, simd.mul_f32s(difference, difference));
    }
    let mut lanes = [0.0; LANES];
    S::as_mut_simd_f32s(&mut lanes).0[0] = sums;
    lanes
}

/// Reduces the lanes of eight distances at once; `lanes` is transposed: one row per lane.
#[inline(always)]
fn reduced_rows(
    lanes: [[f32; SQUARE_SIDE]; LANES],
    tails: [f32; SQUARE_SIDE],
) -> [f32; SQUARE_SIDE] {
    let mut sums = [0.0; SQUARE_SIDE];
    // The order of additions of `reduced`, for all rows at once.
    for row in 0..SQUARE_SIDE {
        let even = (lanes[0][row] + lanes[4][row]) + (lanes[2][row] + lanes[6][row]);
        let odd = (lanes[1][row] + lanes[5][row]) + (lanes[3][row] + lanes[7][row]);
        sums[row] = (even + odd) + tails[row];
    }
    sums
}

pub(crate) mod blocked_nearest;
pub(crate) mod transpose;
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Widths around a register and counts around a tile. Few distinct values make ties
    /// common; some cases lie far from the origin.
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
            for arch in crate::domain::model::kernel::blocked_nearest::archs() {
                let mut prepared = prototypes.prepare();
                prepared.tiles.arch = arch;
                let mut found = NearestBatch::default();
                prepared.find_nearest(&rows, &mut found);
                for (at, row) in rows.chunks_exact(width).enumerate() {
                    let alone = prototypes.two_nearest(row);
                    prop_assert_eq!(found.nearest[at] as usize, alone.nearest);
                    prop_assert_eq!(found.squared[at].to_bits(), alone.nearest_squared.to_bits());
                    let second = alone.second.map_or(NO_RUNNER_UP, |second| second as u32);
                    prop_assert_eq!(found.runners_up[at], second);
                }
            }
        }
    }
}
