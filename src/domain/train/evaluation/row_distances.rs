//! Distances between all rows of a sample, which the shape-free indices share.

use rayon::prelude::*;

use crate::domain::train::EncodedDataset;

/// Euclidean distances between all rows, (`n_rows`, `n_rows`), symmetric.
#[derive(Debug, Clone)]
pub struct RowDistances {
    rows: usize,
    values: Vec<f32>,
}

impl RowDistances {
    /// Computes rows² distances, in parallel in the current rayon pool.
    pub fn measure(data: &EncodedDataset) -> Self {
        let rows = data.rows();
        let mut values = vec![0.0; rows * rows];
        values.par_chunks_mut(rows.max(1)).enumerate().for_each(|(row, distances)| {
            data.pause();
            let own = data.row_values(row);
            for (other, distance) in distances.iter_mut().enumerate() {
                let pairs = own.iter().zip(data.row_values(other));
                *distance = pairs.map(|(x, y)| (x - y) * (x - y)).sum::<f32>().sqrt();
            }
        });
        Self { rows, values }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Distances of one row to all rows, itself included.
    pub fn of(&self, row: usize) -> &[f32] {
        &self.values[row * self.rows..(row + 1) * self.rows]
    }

    /// The nearest of `candidates`, of equally near ones the first; `None` without candidates.
    pub(crate) fn nearest(&self, row: usize, candidates: &[usize]) -> Option<usize> {
        let distances = self.of(row);
        candidates.iter().copied().min_by(|a, b| distances[*a].total_cmp(&distances[*b]))
    }
}
