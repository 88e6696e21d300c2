//! Encoded rows, and how work on them is cut into pieces.

use std::ops::Range;

use ndarray::{Array2, ArrayView1};
use rayon::prelude::*;

use crate::domain::encode::Encoder;
use crate::domain::feature::FeatureRow;

/// Pieces are at least this long, and there are at most [`MAX_CHUNKS`]. Both
/// depend on the data alone: partial results are added in the order of pieces,
/// so sums do not depend on the number of threads.
const MIN_CHUNK_ROWS: usize = 1024;
const MAX_CHUNKS: usize = 64;

/// Encoded rows, (`n_rows`, `n_columns`), row by row in memory: the very
/// numbers that serving computes.
#[derive(Debug, Clone)]
pub struct Dataset {
    matrix: Array2<f32>,
    pause: Pause,
}

/// Called between pieces of work of well under a millisecond, by the thread that
/// works: it may sleep for a moment, so that the processor is somebody else's.
pub type Pause = fn();

/// Works on without one.
pub fn no_pause() {}

impl Dataset {
    /// Takes the matrix, laid out row by row if it is not yet.
    pub fn new(matrix: Array2<f32>) -> Self {
        if matrix.is_standard_layout() {
            return Self { matrix, pause: no_pause };
        }
        Self { matrix: matrix.as_standard_layout().into_owned(), pause: no_pause }
    }

    /// Who works on these rows, and on any that are made of them, pauses so.
    #[must_use]
    pub fn with_pause(mut self, pause: Pause) -> Self {
        self.pause = pause;
        self
    }

    /// Other numbers, worked on in the same way.
    pub(crate) fn like(&self, matrix: Array2<f32>) -> Self {
        Self::new(matrix).with_pause(self.pause)
    }

    /// How who works on these rows pauses.
    pub(crate) fn pauses(&self) -> Pause {
        self.pause
    }

    pub(crate) fn pause(&self) {
        (self.pause)();
    }

    /// Encodes all rows, in parallel in the current rayon pool.
    pub(crate) fn encode(encoder: &Encoder, rows: &[FeatureRow], pause: Pause) -> Self {
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

    /// A copy of some rows.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        self.like(self.matrix.select(ndarray::Axis(0), rows))
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

    /// A row's numbers.
    pub(crate) fn numbers(&self, row: usize) -> &[f32] {
        self.numbers_of(row..row + 1)
    }

    /// The numbers of several rows, row by row.
    pub(crate) fn numbers_of(&self, rows: Range<usize>) -> &[f32] {
        &self.values()[rows.start * self.columns()..rows.end * self.columns()]
    }

    /// Sum of squared differences of a row and `point`.
    pub(crate) fn squared_distance<'a>(
        &self,
        row: usize,
        point: impl IntoIterator<Item = &'a f64>,
    ) -> f64 {
        let pairs = self.numbers(row).iter().zip(point);
        pairs.map(|(x, p)| (f64::from(*x) - p) * (f64::from(*x) - p)).sum()
    }

    /// Calls `work` on each piece of the rows in parallel; results in order of
    /// the pieces.
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

    /// Calls `work` on each row in parallel; results in order of the rows.
    pub(crate) fn map_rows<R: Send>(&self, work: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
        let rows = (0..self.rows()).into_par_iter();
        rows.inspect(|_| self.pause()).map(work).collect()
    }

    pub(crate) fn chunk_rows(&self) -> usize {
        self.rows().div_ceil(MAX_CHUNKS).max(MIN_CHUNK_ROWS)
    }

    /// Mean and population variance of each column.
    pub(crate) fn column_moments(&self) -> (Vec<f64>, Vec<f64>) {
        let mean = self.column_means(|_, x| x);
        let variance = self.column_means(|column, x| (x - mean[column]) * (x - mean[column]));
        (mean, variance)
    }

    /// The mean over all rows of `of(column, number)`, for each column.
    fn column_means(&self, of: impl Fn(usize, f64) -> f64 + Sync) -> Vec<f64> {
        let partial = self.map_chunks(|rows| {
            let mut sums = vec![0.0; self.columns()];
            for row in rows {
                for (column, (sum, x)) in sums.iter_mut().zip(self.numbers(row)).enumerate() {
                    *sum += of(column, f64::from(*x));
                }
            }
            sums
        });
        let per_row = 1.0 / self.rows().max(1) as f64;
        let total = |column| partial.iter().map(|sums| sums[column]).sum::<f64>();
        (0..self.columns()).map(|column| total(column) * per_row).collect()
    }

    /// Distinct rows, counted up to `enough` only.
    pub(crate) fn distinct_rows(&self, enough: usize) -> usize {
        let mut seen = std::collections::HashSet::new();
        for row in self.matrix.rows() {
            // Adding zero makes -0 equal 0.
            seen.insert(row.iter().map(|x| (x + 0.0).to_bits()).collect::<Vec<_>>());
            if seen.len() >= enough {
                break;
            }
        }
        seen.len()
    }
}
