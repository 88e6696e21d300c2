//! Row-wise operations on a dataset.

use crate::domain::train::EncodedDataset;

/// A row in double precision.
pub(crate) fn point(data: &EncodedDataset, row: usize) -> Vec<f64> {
    data.row(row).iter().map(|x| f64::from(*x)).collect()
}

/// Calls `work` on each row, in parallel over chunks; results are in row order.
pub(crate) fn map<R: Send>(data: &EncodedDataset, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let chunks = data.map_chunks(|rows| rows.map(&work).collect::<Vec<R>>());
    chunks.into_iter().flatten().collect()
}
