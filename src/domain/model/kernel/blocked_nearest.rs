//! Blocked nearest-neighbour search (GEMM-style): finds candidates for the nearest points
//! of many rows.
//!
//! In the expansion |x|² - 2(x·p - |p|²/2) of the squared distance, the point with the
//! largest *score* x·p - |p|²/2 is the nearest, so a point costs one dot product. The
//! expansion loses digits for rows far from the origin. So rows and points are taken
//! relative to a common origin in their midst, and the remaining error has a bound
//! ([`PointTiles::error_bound`]). The caller must decide by exact distances between candidates
//! within the bound. So results do not depend on the vector unit of the machine.
//!
//! A block of rows is transposed so that a vector register contains one column of several
//! rows. Points are processed four at a time, so that the sums of four points and two
//! registers of rows stay in registers. A score carries the index of its point in its lowest
//! bits, so updating the best scores takes one minimum and one maximum each, and no masks.
#![expect(clippy::inline_always, reason = "only inlined code is compiled for the vector unit")]

use pulp::{Arch, Simd, WithSimd};

use crate::domain::model::kernel::transpose::{SQUARE_SIDE, write_columns};

/// Points per tile.
const TILE_POINTS: usize = 4;
/// Registers of the vector unit from which two tiles are processed together: twice the
/// independent sums hide the latency of each addition.
const MANY_REGISTERS: usize = 32;
/// Columns from which two tiles together pay.
const MANY_COLUMNS: usize = 32;
/// Tiles from which two together pay.
const MANY_TILES: usize = 8;
/// Registers of rows processed together.
const ROW_REGISTERS: usize = 2;
/// Most rows of a block: two registers of 16 lanes.
pub(crate) const MAX_BLOCK_ROWS: usize = 16 * ROW_REGISTERS;
/// One number per row of a block.
type RowScores = [f32; MAX_BLOCK_ROWS];
/// Score of the padding points in the last tile: below every real score, and finite even
/// with an index in its lowest bits.
const PADDING_SCORE: f32 = f32::MIN / 4.0;
/// Unit roundoff of `f32`, 2⁻²⁴.
const ROUNDOFF: f32 = f32::EPSILON / 2.0;

/// Points in the memory layout for the vector unit.
#[derive(Debug, Clone)]
pub(crate) struct PointTiles {
    pub(crate) arch: Arch,
    origin: Vec<f32>,
    /// Per tile: -|p|²/2 of its points.
    starts: Vec<[f32; TILE_POINTS]>,
    /// Per tile and column: the values of its points.
    values: Vec<[f32; TILE_POINTS]>,
    /// Bit mask of a score's index.
    index_bits: u32,
    /// Error bound per unit of |x|² + |p|².
    error: f32,
    /// Error bound per unit of the score, from the index in its lowest bits.
    index_error: f32,
    /// The largest |p|².
    radius: f32,
}

/// Visitor of a search: supplies the rows and receives their candidates.
pub(crate) trait SearchVisitor<const BEST: usize> {
    /// A row, of the width of the points.
    fn row(&self, at: usize) -> &[f32];

    /// Receives the candidates of `rows` rows from `first` on.
    fn visit_candidates<S: Simd>(
        &mut self,
        simd: S,
        first: usize,
        rows: usize,
        found: &BlockCandidates<BEST>,
    );
}

/// Candidates of the rows of a block.
#[derive(Debug)]
pub(crate) struct BlockCandidates<const BEST: usize> {
    /// The largest scores of each row, in descending order.
    pub(crate) scores: [RowScores; BEST],
    /// |x|² of each row, from the origin.
    pub(crate) norms: RowScores,
}

impl PointTiles {
    /// Lays out `points`, which have the width of `origin`, relative to it.
    pub(crate) fn new<'a, X: Copy + Into<f64> + 'a>(
        points: impl ExactSizeIterator<Item = &'a [X]>,
        origin: Vec<f32>,
    ) -> Self {
        let count = points.len();
        let tiles = count.div_ceil(TILE_POINTS);
        let mut starts = vec![[PADDING_SCORE; TILE_POINTS]; tiles];
        let mut values = vec![[0.0; TILE_POINTS]; tiles * origin.len()];
        let mut radius = 0.0_f64;
        for (index, point) in points.enumerate() {
            let (tile, slot) = (index / TILE_POINTS, index % TILE_POINTS);
            let mut norm = 0.0;
            for (column, (p, o)) in point.iter().zip(&origin).enumerate() {
                let from_origin = ((*p).into() - f64::from(*o)) as f32;
                values[tile * origin.len() + column][slot] = from_origin;
                norm += f64::from(from_origin) * f64::from(from_origin);
            }
            starts[tile][slot] = (-0.5 * norm) as f32;
            radius = radius.max(norm);
        }
        let index_bits = (tiles * TILE_POINTS).next_power_of_two() as u32 - 1;
        // Forward error analysis (Higham 2002, *Accuracy and Stability of Numerical
        // Algorithms*, chapter 3): a score is off by at most (width + 2) roundoffs of
        // |x||p| + |p|²/2, and the exact distance that decides is itself summed in `f32`.
        // Two scores are compared, and all squares are at most (|x| + |p|)² ≤ 2|x|² + 2|p|².
        // The index takes up to `index_bits` units in the last place of each score, each of
        // two roundoffs of its size. The factor 2.5 leaves a quarter spare.
        let error = 2.5 * (2 * origin.len() + 9) as f32 * ROUNDOFF;
        let index_error = 5.0 * (index_bits + 1) as f32 * ROUNDOFF;
        let radius = (radius * 1.000_001) as f32;
        Self { arch: Arch::new(), origin, starts, values, index_bits, error, index_error, radius }
    }

    /// Index of the point of a score.
    #[inline(always)]
    pub(crate) fn index(&self, score: f32) -> usize {
        (score.to_bits() & self.index_bits) as usize
    }

    /// Error bound: two points are ordered correctly if their scores, the larger one first,
    /// differ by more than this. `norm` is the |x|² of the row.
    #[inline(always)]
    pub(crate) fn error_bound(&self, norm: f32, more: f32, less: f32) -> f32 {
        self.error * (norm + self.radius) + self.index_error * more.max(-less)
    }

    /// Whether two points with these scores, the larger one first, are certainly in this
    /// order: their scores differ by more than [`Self::error_bound`].
    #[inline(always)]
    pub(crate) fn are_ordered(&self, norm: f32, more: f32, less: f32) -> bool {
        more - less > self.error_bound(norm, more, less)
    }

    /// Finds the `BEST` largest scores of each of `rows` rows, with the vector unit detected
    /// at run time.
    pub(crate) fn scan<const BEST: usize, V: SearchVisitor<BEST>>(
        &self,
        rows: usize,
        visit: V,
    ) -> V {
        self.arch.dispatch(BlockScan::<V, BEST> { tiles: self, rows, visit })
    }

    /// Scalar fallback for one row, on machines without a suitable vector unit.
    fn scores<const BEST: usize>(&self, row: &[f32]) -> ([f32; BEST], f32) {
        let mut best = [f32::NEG_INFINITY; BEST];
        let tiles = self.starts.iter().zip(self.values.chunks_exact(self.origin.len()));
        for (tile, (starts, values)) in tiles.enumerate() {
            let mut sums = *starts;
            for ((x, o), points) in row.iter().zip(&self.origin).zip(values) {
                for (sum, p) in sums.iter_mut().zip(points) {
                    *sum += (x - o) * p;
                }
            }
            for (slot, sum) in sums.into_iter().enumerate() {
                let index = (tile * TILE_POINTS + slot) as u32;
                let mut score = f32::from_bits(sum.to_bits() & !self.index_bits | index);
                for best in &mut best {
                    (*best, score) = (best.max(score), best.min(score));
                }
            }
        }
        let norm = row.iter().zip(&self.origin).map(|(x, o)| (x - o) * (x - o)).sum();
        (best, norm)
    }
}

struct BlockScan<'t, V, const BEST: usize> {
    tiles: &'t PointTiles,
    rows: usize,
    visit: V,
}

impl<V: SearchVisitor<BEST>, const BEST: usize> WithSimd for BlockScan<'_, V, BEST> {
    type Output = V;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) -> V {
        let block_rows = S::F32_LANES * ROW_REGISTERS;
        let mut found =
            BlockCandidates { scores: [[0.0; MAX_BLOCK_ROWS]; BEST], norms: [0.0; MAX_BLOCK_ROWS] };
        if !block_rows.is_multiple_of(SQUARE_SIDE) || block_rows > MAX_BLOCK_ROWS {
            for at in 0..self.rows {
                let (scores, norm) = self.tiles.scores(self.visit.row(at));
                found.scores = scores.map(|score| [score; MAX_BLOCK_ROWS]);
                found.norms = [norm; MAX_BLOCK_ROWS];
                self.visit.visit_candidates(simd, at, 1, &found);
            }
            return self.visit;
        }
        let width = self.tiles.origin.len();
        let mut block = vec![0.0_f32; width * block_rows];
        for first in (0..self.rows).step_by(block_rows) {
            let last = block_rows.min(self.rows - first) - 1;
            for start in (0..block_rows).step_by(SQUARE_SIDE) {
                // Past the end the last row is repeated; the visitor ignores its results.
                let mut rows = [&[][..]; SQUARE_SIDE];
                for (at, row) in rows.iter_mut().enumerate() {
                    *row = self.visit.row(first + last.min(start + at));
                }
                write_columns(simd, rows, width, &mut block[start..], block_rows);
            }
            let (columns, _) = S::as_mut_simd_f32s(&mut block);
            let (columns, _) = columns.as_chunks_mut();
            score_block(simd, self.tiles, columns, &mut found);
            self.visit.visit_candidates(simd, first, last + 1, &found);
        }
        self.visit
    }
}

/// Computes the `BEST` largest scores and |x|² of each row of a block.
#[inline(always)]
fn score_block<S: Simd, const BEST: usize>(
    simd: S,
    tiles: &PointTiles,
    columns: &mut [[S::f32s; ROW_REGISTERS]],
    found: &mut BlockCandidates<BEST>,
) {
    let mut norm = [simd.splat_f32s(0.0); ROW_REGISTERS];
    for (x, origin) in columns.iter_mut().zip(&tiles.origin) {
        let origin = simd.splat_f32s(*origin);
        for r in 0..ROW_REGISTERS {
            x[r] = simd.sub_f32s(x[r], origin);
            norm[r] = simd.mul_add_e_f32s(x[r], x[r], norm[r]);
        }
    }
    let mut best = [[simd.splat_f32s(f32::NEG_INFINITY); ROW_REGISTERS]; BEST];
    let mut tile = 0;
    // With fewer registers the doubled sums would spill to memory.
    let pays = S::REGISTER_COUNT >= MANY_REGISTERS
        && columns.len() >= MANY_COLUMNS
        && tiles.starts.len() >= MANY_TILES;
    while pays && tile + 2 <= tiles.starts.len() {
        score_tiles::<S, 2, BEST>(simd, tiles, tile, columns, &mut best);
        tile += 2;
    }
    while tile < tiles.starts.len() {
        score_tiles::<S, 1, BEST>(simd, tiles, tile, columns, &mut best);
        tile += 1;
    }
    for (scores, best) in found.scores.iter_mut().zip(best) {
        S::as_mut_simd_f32s(scores).0[..ROW_REGISTERS].copy_from_slice(&best);
    }
    S::as_mut_simd_f32s(&mut found.norms).0[..ROW_REGISTERS].copy_from_slice(&norm);
}

/// Scores `MANY` tiles from `first` on, and merges the scores into the best ones.
#[inline(always)]
fn score_tiles<S: Simd, const MANY: usize, const BEST: usize>(
    simd: S,
    tiles: &PointTiles,
    first: usize,
    columns: &[[S::f32s; ROW_REGISTERS]],
    best: &mut [[S::f32s; ROW_REGISTERS]; BEST],
) {
    let mut values = [&[][..]; MANY];
    let mut sums = [[[simd.splat_f32s(0.0); ROW_REGISTERS]; TILE_POINTS]; MANY];
    for tile in 0..MANY {
        values[tile] = &tiles.values[(first + tile) * columns.len()..][..columns.len()];
        for (sum, start) in sums[tile].iter_mut().zip(tiles.starts[first + tile]) {
            *sum = [simd.splat_f32s(start); ROW_REGISTERS];
        }
    }
    for (column, x) in columns.iter().enumerate() {
        for tile in 0..MANY {
            for p in 0..TILE_POINTS {
                let point = simd.splat_f32s(values[tile][column][p]);
                for r in 0..ROW_REGISTERS {
                    sums[tile][p][r] = simd.mul_add_e_f32s(x[r], point, sums[tile][p][r]);
                }
            }
        }
    }
    // One step of an insertion sort per score: each of the best keeps the larger value and
    // passes the smaller one on. The index travels in the lowest bits.
    let clear = simd.splat_u32s(!tiles.index_bits);
    for (at, sum) in sums.as_flattened().iter().enumerate() {
        let index = simd.splat_u32s((first * TILE_POINTS + at) as u32);
        for r in 0..ROW_REGISTERS {
            let bits = simd.and_u32s(simd.transmute_u32s_f32s(sum[r]), clear);
            let mut score = simd.transmute_f32s_u32s(simd.or_u32s(bits, index));
            for best in best.iter_mut() {
                let smaller = simd.min_f32s(best[r], score);
                best[r] = simd.max_f32s(best[r], score);
                score = smaller;
            }
        }
    }
}

/// Every vector unit of this machine, and the scalar fallback.
#[cfg(test)]
pub(crate) fn archs() -> Vec<Arch> {
    let mut archs = vec![Arch::Scalar, Arch::new()];
    #[cfg(target_arch = "x86_64")]
    archs.extend(pulp::x86::V3::try_new().map(Arch::V3));
    archs
}
