//! Column-major blocks of rows, for squared distances of many rows to one point.
//!
//! The choice of initial centres computes such distances repeatedly. Each row's sum runs over its
//! columns in order, for any width of the vector unit: the same numbers on every machine. Sums
//! are `f32`, which is precise enough for random draws.
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::domain::train::{EncodedDataset, PauseFunction};

/// Rows of a block: whole registers of every vector unit, and few enough that their sums remain in
/// registers.
pub(crate) const BLOCK: usize = 32;
/// Blocks per parallel task.
pub(crate) const BLOCKS_A_PIECE: usize = 32;

/// One number for each row of a block.
pub(crate) type BlockValues = [f32; BLOCK];

/// Copy of a dataset, column by column within blocks of rows.
#[derive(Debug)]
pub(crate) struct ColumnBlocks {
    arch: Arch,
    rows: usize,
    width: usize,
    pause: PauseFunction,
    /// Block by block, column by column; zero past the last row.
    values: Vec<BlockValues>,
}

impl ColumnBlocks {
    pub(crate) fn from_dataset(data: &EncodedDataset) -> Self {
        let width = data.columns();
        let mut values = vec![[0.0; BLOCK]; data.rows().div_ceil(BLOCK) * width];
        let blocks = values.par_chunks_mut(width.max(1));
        blocks.zip(data.values().par_chunks(BLOCK * width.max(1))).for_each(|(block, rows)| {
            for (place, row) in rows.chunks_exact(width).enumerate() {
                for (column, x) in block.iter_mut().zip(row) {
                    column[place] = *x;
                }
            }
        });
        Self { arch: Arch::new(), rows: data.rows(), width, pause: data.pause_function(), values }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.rows.div_ceil(BLOCK)
    }

    /// Number of rows in a block; only the last may have fewer than [`BLOCK`].
    pub(crate) fn rows_in(&self, block: usize) -> usize {
        BLOCK.min(self.rows - block * BLOCK)
    }

    pub(crate) fn point(&self, row: usize) -> Vec<f32> {
        let block = &self.values[row / BLOCK * self.width..][..self.width];
        block.iter().map(|column| column[row % BLOCK]).collect()
    }

    /// Squared distances of the rows of a block to `point`.
    pub(crate) fn distances(&self, block: usize, point: &[f32]) -> BlockValues {
        let columns = &self.values[block * self.width..][..self.width];
        let mut squared = [0.0; BLOCK];
        self.arch.dispatch(BlockDistances { columns, point, squared: &mut squared });
        squared
    }

    /// Calls `work` with each block number and its item of `states`, in parallel; results are in
    /// block order.
    pub(crate) fn map<T: Send, R: Send>(
        &self,
        states: &mut [T],
        work: impl Fn(usize, &mut T) -> R + Sync,
    ) -> Vec<R> {
        states
            .par_iter_mut()
            .enumerate()
            .with_min_len(BLOCKS_A_PIECE)
            .map(|(block, state)| {
                if block % BLOCKS_A_PIECE == 0 {
                    self.pause();
                }
                work(block, state)
            })
            .collect()
    }

    pub(crate) fn pause(&self) {
        (self.pause)();
    }
}

struct BlockDistances<'a> {
    columns: &'a [BlockValues],
    point: &'a [f32],
    squared: &'a mut BlockValues,
}

impl WithSimd for BlockDistances<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Four registers at a time: independent sums hide the latency of the additions.
        const ABREAST: usize = 4;
        let (sums, _) = S::as_mut_simd_f32s(self.squared);
        let (quads, rest) = sums.as_chunks_mut::<ABREAST>();
        for (quad, sums) in quads.iter_mut().enumerate() {
            let mut kept = [simd.splat_f32s(0.0); ABREAST];
            for (column, p) in self.columns.iter().zip(self.point) {
                let p = simd.splat_f32s(*p);
                let (x, _) = S::as_simd_f32s(column);
                if let Some(x) = x[quad * ABREAST..].first_chunk::<ABREAST>() {
                    for (sum, x) in kept.iter_mut().zip(x) {
                        let difference = simd.sub_f32s(*x, p);
                        *sum = simd.add_f32s(*sum, simd.mul_f32s(difference, difference));
                    }
                }
            }
            *sums = kept;
        }
        // Registers that do not fill a group of four.
        let done = quads.len() * ABREAST;
        for (place, sum) in rest.iter_mut().enumerate() {
            for (column, p) in self.columns.iter().zip(self.point) {
                let difference =
                    simd.sub_f32s(S::as_simd_f32s(column).0[done + place], simd.splat_f32s(*p));
                *sum = simd.add_f32s(*sum, simd.mul_f32s(difference, difference));
            }
        }
    }
}

/// Sum in double precision, in the order of the values.
pub(crate) fn sum(values: &[f32]) -> f64 {
    values.iter().map(|x| f64::from(*x)).sum()
}
