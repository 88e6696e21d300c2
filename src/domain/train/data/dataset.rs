//! Encoded rows, and the deterministic chunks in which they are processed.

use std::ops::Range;

use ndarray::{Array2, ArrayView1};
use rayon::prelude::*;

use crate::domain::encode::FeatureEncoder;
use crate::domain::feature::FeatureRow;

/// Minimum length and maximum number of chunks. Chunk borders depend on the data alone, and
/// partial results are added in chunk order, so sums do not depend on the number of threads.
const MIN_CHUNK_ROWS: usize = 1024;
const MAX_CHUNKS: usize = 64;

/// Matrix of encoded rows, (`n_rows`, `n_columns`), row-major: the same numbers that serving
/// computes.
#[derive(Debug, Clone)]
pub struct EncodedDataset {
    matrix: Array2<f32>,
    pause: PauseFunction,
}

/// Function called by working threads between pieces of work of well under a millisecond. It
/// may sleep for a moment, so that threads serving requests get the processor.
pub type PauseFunction = fn();

/// A pause that does nothing.
pub(crate) fn no_pause() {}

impl EncodedDataset {
    /// Takes the matrix; copies it to row-major layout if needed.
    pub fn new(matrix: Array2<f32>) -> Self {
        if matrix.is_standard_layout() {
            return Self { matrix, pause: no_pause };
        }
        Self { matrix: matrix.as_standard_layout().into_owned(), pause: no_pause }
    }

    /// Sets the pause for work on these rows and on all datasets derived from them.
    #[must_use]
    pub(crate) fn with_pause(mut self, pause: PauseFunction) -> Self {
        self.pause = pause;
        self
    }

    /// A dataset of other numbers with the same pause.
    pub(crate) fn with_matrix(&self, matrix: Array2<f32>) -> Self {
        Self::new(matrix).with_pause(self.pause)
    }

    /// The pause of this dataset.
    pub(crate) fn pause_function(&self) -> PauseFunction {
        self.pause
    }

    pub(crate) fn pause(&self) {
        (self.pause)();
    }

    /// Encodes all rows, in parallel in the current rayon pool.
    pub(crate) fn encode(
        encoder: &FeatureEncoder,
        rows: &[FeatureRow],
        pause: PauseFunction,
    ) -> Self {
        let width = encoder.width();
        let mut matrix = Array2::zeros((rows.len(), width));
        if let Some(values) = matrix.as_slice_mut() {
            values.par_chunks_mut(width).zip(rows).for_each(|(vector, row)| {
                pause();
                encoder.encode(row, vector);
            });
        }
        Self { matrix, pause }
    }

    /// A copy of the selected rows.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        self.with_matrix(self.matrix.select(ndarray::Axis(0), rows))
    }

    pub fn rows(&self) -> usize {
        self.matrix.nrows()
    }

    pub fn columns(&self) -> usize {
        self.matrix.ncols()
    }

    pub fn row(&self, row: usize) -> ArrayView1<'_, f32> {
        self.matrix.row(row)
    }

    /// All numbers, row by row.
    pub(crate) fn values(&self) -> &[f32] {
        // Every constructor lays the matrix out row by row.
        self.matrix.as_slice().unwrap_or_default()
    }

    /// The numbers of one row.
    pub(crate) fn row_values(&self, row: usize) -> &[f32] {
        self.rows_values(row..row + 1)
    }

    /// The numbers of consecutive rows, row by row.
    pub(crate) fn rows_values(&self, rows: Range<usize>) -> &[f32] {
        &self.values()[rows.start * self.columns()..rows.end * self.columns()]
    }

    /// Squared Euclidean distance between a row and `point`.
    pub(crate) fn squared_distance<'a>(
        &self,
        row: usize,
        point: impl IntoIterator<Item = &'a f64>,
    ) -> f64 {
        let pairs = self.row_values(row).iter().zip(point);
        pairs.map(|(x, p)| (f64::from(*x) - p) * (f64::from(*x) - p)).sum()
    }

    /// Calls `work` on each chunk of rows in parallel; results are in chunk order.
    pub(crate) fn map_chunks<R: Send>(&self, work: impl Fn(Range<usize>) -> R + Sync) -> Vec<R> {
        let length = self.chunk_rows();
        let count = self.rows().div_ceil(length);
        (0..count)
            .into_par_iter()
            .map(|chunk| {
                self.pause();
                work(chunk * length..((chunk + 1) * length).min(self.rows()))
            })
            .collect()
    }

    /// Calls `work` on each row in parallel; results are in row order.
    pub(crate) fn map_rows<R: Send>(&self, work: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
        let rows = (0..self.rows()).into_par_iter();
        rows.inspect(|_| self.pause()).map(work).collect()
    }

    /// Rows per chunk.
    pub(crate) fn chunk_rows(&self) -> usize {
        self.rows().div_ceil(MAX_CHUNKS).max(MIN_CHUNK_ROWS)
    }

    /// Mean and population variance of each column. The variance of a constant column is 0, even
    /// where its mean is off by rounding.
    pub(crate) fn column_moments(&self) -> (Vec<f64>, Vec<f64>) {
        // Two passes: the difference of two large sums would lose the digits of a small variance.
        let mean = self.column_means(|_, x| x);
        let mut variance = self.column_means(|column, x| (x - mean[column]) * (x - mean[column]));
        for (variance, mean) in variance.iter_mut().zip(&mean) {
            // Upper bound of what rounding leaves, as in `encode::number`.
            let rounding = (self.rows() as f64 * mean * f64::EPSILON).powi(2);
            if *variance <= rounding {
                *variance = 0.0;
            }
        }
        (mean, variance)
    }

    /// Mean over all rows of `of(column, number)`, for each column.
    fn column_means(&self, of: impl Fn(usize, f64) -> f64 + Sync) -> Vec<f64> {
        let partial = self.map_chunks(|rows| {
            let mut sums = vec![0.0; self.columns()];
            for row in rows {
                for (column, (sum, x)) in sums.iter_mut().zip(self.row_values(row)).enumerate() {
                    *sum += of(column, f64::from(*x));
                }
            }
            sums
        });
        let per_row = 1.0 / self.rows().max(1) as f64;
        (0..self.columns())
            .map(|column| partial.iter().map(|sums| sums[column]).sum::<f64>() * per_row)
            .collect()
    }

    /// Number of distinct rows; counting stops at `enough`.
    pub(crate) fn distinct_rows(&self, enough: usize) -> usize {
        let mut seen = std::collections::HashSet::new();
        for row in self.matrix.rows() {
            // Adding zero turns -0 into 0, so both count as equal.
            seen.insert(row.iter().map(|x| (x + 0.0).to_bits()).collect::<Vec<_>>());
            if seen.len() >= enough {
                break;
            }
        }
        seen.len()
    }
}
