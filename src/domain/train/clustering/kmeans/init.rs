//! k-means++ initialisation with greedy local trials.
//!
//! Each centre after the first is drawn with probability proportional to its squared distance from
//! the previous centres (Arthur and Vassilvitskii 2007, *k-means++: the advantages of careful
//! seeding*). Of 2 + ⌊ln k⌋ such draws the one that lowers the total most is used: the greedy
//! variant named in the conclusion of the paper.

use ndarray::Array2;

use crate::domain::stats::RandomStream;
use crate::domain::train::EncodedDataset;
use crate::domain::train::clustering::kmeans::column_blocks;
use crate::domain::train::clustering::kmeans::column_blocks::{BLOCK, BlockValues, ColumnBlocks};

/// Draws `clusters` rows of `data` as initial centres, (`clusters`, `n_columns`).
pub fn kmeans_plus_plus(
    data: &EncodedDataset,
    clusters: usize,
    rng: &mut RandomStream,
) -> Array2<f64> {
    let rows = ColumnBlocks::from_dataset(data);
    let trials = 2 + (clusters.max(1) as f64).ln().floor() as usize;
    let mut chosen = vec![rng.uniform_below(data.rows())];
    let mut nearest = NearestCentre::without_centres(&rows);
    nearest.add_centre(&rows, chosen[0]);

    while chosen.len() < clusters {
        let candidates: Vec<usize> = (0..trials).map(|_| nearest.draw_row(&rows, rng)).collect();
        let best = nearest.best_candidate(&rows, &candidates);
        nearest.add_centre(&rows, best);
        chosen.push(best);
    }
    Array2::from_shape_fn((clusters, data.columns()), |(centre, column)| {
        f64::from(data.row_values(chosen[centre])[column])
    })
}

/// Squared distance of each row to the nearest of the centres so far.
struct NearestCentre {
    /// Infinite before the first centre; zero past the last row.
    squared: Vec<BlockValues>,
    /// Sum of each block.
    sums: Vec<f64>,
}

impl NearestCentre {
    fn without_centres(rows: &ColumnBlocks) -> Self {
        let mut squared = vec![[f32::INFINITY; BLOCK]; rows.blocks()];
        if let Some(last) = squared.last_mut() {
            last[rows.rows_in(rows.blocks() - 1)..].fill(0.0);
        }
        Self { squared, sums: vec![] }
    }

    /// Draws a row in proportion to its squared distance: first the block, then the row.
    fn draw_row(&self, rows: &ColumnBlocks, rng: &mut RandomStream) -> usize {
        // Two levels: a draw reads one number per block and one block, not all rows.
        let block = rng.weighted_index(&self.sums, self.sums.iter().sum());
        let within = &self.squared[block][..rows.rows_in(block)];
        let weights: Vec<f64> = within.iter().map(|x| f64::from(*x)).collect();
        block * BLOCK + rng.weighted_index(&weights, weights.iter().sum())
    }

    /// The candidate with the smallest resulting total, of equal ones the first.
    fn best_candidate(&mut self, rows: &ColumnBlocks, candidates: &[usize]) -> usize {
        let points: Vec<Vec<f32>> = candidates.iter().map(|row| rows.point(*row)).collect();
        let lowered: Vec<Vec<f64>> = rows.map(&mut self.squared, |block, squared| {
            let distances = points.iter().map(|point| rows.distances(block, point));
            distances
                .map(|distances| column_blocks::sum(&elementwise_min(squared, &distances)))
                .collect()
        });
        let mut best = (f64::INFINITY, candidates[0]);
        for (trial, row) in candidates.iter().enumerate() {
            // Added in block order, so the choice does not depend on threads.
            let total = lowered.iter().map(|sums| sums[trial]).sum::<f64>();
            if total < best.0 {
                best = (total, *row);
            }
        }
        best.1
    }

    /// Adds a row as a centre.
    fn add_centre(&mut self, rows: &ColumnBlocks, chosen: usize) {
        let point = rows.point(chosen);
        self.sums = rows.map(&mut self.squared, |block, squared| {
            *squared = elementwise_min(squared, &rows.distances(block, &point));
            column_blocks::sum(squared)
        });
    }
}

fn elementwise_min(a: &BlockValues, b: &BlockValues) -> BlockValues {
    std::array::from_fn(|row| a[row].min(b[row]))
}
