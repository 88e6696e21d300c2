//! k-means++ initialisation with greedy local trials.
//!
//! Each centre after the first is drawn with probability proportional to its squared distance from
//! the previous centres (Arthur and Vassilvitskii 2007, *k-means++: the advantages of careful
//! seeding*). Of 2 + ⌊ln k⌋ such draws the one that lowers the total most is used: the greedy
//! variant named in the conclusion of the paper.

use ndarray::Array2;

use crate::domain::stats::Rng;
use crate::domain::train::Dataset;
use crate::domain::train::clustering::kmeans::column_blocks;
use crate::domain::train::clustering::kmeans::column_blocks::{BLOCK, Columns, OfBlock};

/// Draws `clusters` rows of `data` as initial centres, (`clusters`, `n_columns`).
pub fn plus_plus(data: &Dataset, clusters: usize, rng: &mut Rng) -> Array2<f64> {
    let rows = Columns::of(data);
    let trials = 2 + (clusters.max(1) as f64).ln().floor() as usize;
    let mut chosen = vec![rng.below(data.rows())];
    let mut nearest = Nearest::unknown(&rows);
    nearest.lower(&rows, chosen[0]);

    while chosen.len() < clusters {
        let candidates: Vec<usize> = (0..trials).map(|_| nearest.draw(&rows, rng)).collect();
        let best = nearest.best_of(&rows, &candidates);
        nearest.lower(&rows, best);
        chosen.push(best);
    }
    Array2::from_shape_fn((clusters, data.columns()), |(centre, column)| {
        f64::from(data.numbers(chosen[centre])[column])
    })
}

/// Squared distance of each row to the nearest of the centres so far.
struct Nearest {
    /// Infinite before the first centre; zero past the last row.
    squared: Vec<OfBlock>,
    /// Sum of each block.
    sums: Vec<f64>,
}

impl Nearest {
    fn unknown(rows: &Columns) -> Self {
        let mut squared = vec![[f32::INFINITY; BLOCK]; rows.blocks()];
        if let Some(last) = squared.last_mut() {
            last[rows.rows_in(rows.blocks() - 1)..].fill(0.0);
        }
        Self { squared, sums: vec![] }
    }

    /// Draws a row in proportion to its squared distance: first the block, then the row.
    fn draw(&self, rows: &Columns, rng: &mut Rng) -> usize {
        let block = rng.weighted(&self.sums, self.sums.iter().sum());
        let within = &self.squared[block][..rows.rows_in(block)];
        let weights: Vec<f64> = within.iter().map(|x| f64::from(*x)).collect();
        block * BLOCK + rng.weighted(&weights, weights.iter().sum())
    }

    /// The candidate with the smallest resulting total, of equal ones the first.
    fn best_of(&mut self, rows: &Columns, candidates: &[usize]) -> usize {
        let points: Vec<Vec<f32>> = candidates.iter().map(|row| rows.point(*row)).collect();
        let lowered = rows.map(&mut self.squared, |block, squared| {
            let with = |point: &Vec<f32>| {
                column_blocks::sum(&smaller(squared, &rows.distances(block, point)))
            };
            points.iter().map(with).collect::<Vec<f64>>()
        });
        let total = |trial: usize| lowered.iter().map(|sums| sums[trial]).sum::<f64>();
        let totals = (0..candidates.len()).map(|trial| (total(trial), candidates[trial]));
        totals.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0, |(_, row)| row)
    }

    /// Adds a row as a centre.
    fn lower(&mut self, rows: &Columns, chosen: usize) {
        let point = rows.point(chosen);
        self.sums = rows.map(&mut self.squared, |block, squared| {
            *squared = smaller(squared, &rows.distances(block, &point));
            column_blocks::sum(squared)
        });
    }
}

fn smaller(a: &OfBlock, b: &OfBlock) -> OfBlock {
    std::array::from_fn(|row| a[row].min(b[row]))
}
