//! Clustering of a sample, when there are more rows than an algorithm can process.

use crate::domain::stats::RandomStream;
use crate::domain::train::clustering::density::kd_tree::{KdTree, NearestRow};
use crate::domain::train::data::rows;
use crate::domain::train::{EncodedDataset, TrainingError};

/// Random stream of the sample.
const STREAM: u64 = 2 << 32;

/// Segment of each row; `None` is noise.
pub(crate) type RowLabels = Vec<Option<u32>>;

/// Clusters at most `max_rows` rows with `cluster`, which also receives the sampled share.
/// Each other row gets the label of its nearest sampled row.
pub(crate) fn cluster_sample(
    data: &EncodedDataset,
    max_rows: usize,
    seed: u64,
    cluster: impl FnOnce(&EncodedDataset, f64) -> Result<RowLabels, TrainingError>,
) -> Result<RowLabels, TrainingError> {
    if data.rows() <= max_rows {
        return Ok(renumbered(&cluster(data, 1.0)?));
    }
    let sample = data.select(&draw(data.rows(), max_rows, &mut RandomStream::new(seed, STREAM)));
    // The share lets density-based algorithms scale their size limits.
    let labels = cluster(&sample, max_rows as f64 / data.rows() as f64)?;
    let tree = KdTree::new(&sample);
    let spread = rows::map(data, |row| {
        let mut closest = NearestRow { tree: &tree, squared: f64::MAX, row: u32::MAX };
        tree.search(&rows::point(data, row), &mut closest);
        labels.get(closest.row as usize).copied().flatten()
    });
    Ok(renumbered(&spread))
}

/// Draws `count` of `rows` row indices, in ascending order.
pub(crate) fn draw(rows: usize, count: usize, rng: &mut RandomStream) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    rng.shuffle(&mut order);
    order.truncate(count);
    order.sort_unstable();
    order
}

/// Renumbers the segments in the order of their first rows.
pub(crate) fn renumbered(labels: &[Option<u32>]) -> RowLabels {
    let mut numbers = std::collections::HashMap::new();
    let mut numbered = Vec::with_capacity(labels.len());
    for label in labels {
        numbered.push(label.map(|label| {
            let next = numbers.len() as u32;
            *numbers.entry(label).or_insert(next)
        }));
    }
    numbered
}
