//! Local search for better initial centres, after k-means++.
//!
//! A row is drawn in proportion to its squared distance from the centres. It replaces the centre
//! with the cheapest removal, if the total falls: Lattanzi and Sohler (2019), *A better k-means++
//! algorithm via local search*. This repairs the usual fault of a start, two centres in one group
//! and one between two others, which Lloyd's iterations cannot repair.

use ndarray::Array2;
use rayon::prelude::*;

use crate::domain::stats::RandomStream;
use crate::domain::train::EncodedDataset;
use crate::domain::train::clustering::kmeans::column_blocks;
use crate::domain::train::clustering::kmeans::column_blocks::{
    BLOCK, BLOCKS_A_PIECE, BlockValues, ColumnBlocks,
};

/// Number of attempted swaps per centre.
const TRIES_PER_CENTRE: usize = 2;

/// The two nearest centres of each row of a block, with squared distances.
#[derive(Clone)]
struct CentreDistances {
    first: BlockValues,
    first_centre: [u32; BLOCK],
    second: BlockValues,
    second_centre: [u32; BLOCK],
}

/// Replaces centres by rows while that lowers the sum of squared distances to the nearest centre;
/// (`clusters`, `n_columns`) in and out.
pub fn improve_centres(
    data: &EncodedDataset,
    centres: Array2<f64>,
    rng: &mut RandomStream,
) -> Array2<f64> {
    if centres.nrows() < 2 {
        return centres;
    }
    let rows = ColumnBlocks::from_dataset(data);
    let mut points: Vec<Vec<f32>> =
        centres.rows().into_iter().map(|c| c.iter().map(|x| *x as f32).collect()).collect();
    let mut near = vec![CentreDistances::without_centres(); rows.blocks()];
    let mut sums = rows.map(&mut near, |block, near| {
        near.offer_all_centres(&rows, block, &points);
        near.sum(&rows, block)
    });
    for _ in 0..TRIES_PER_CENTRE * points.len() {
        let total = sums.iter().sum();
        let block = rng.weighted_index(&sums, total);
        let within: Vec<f64> =
            near[block].first[..rows.rows_in(block)].iter().map(|x| f64::from(*x)).collect();
        let row = block * BLOCK + rng.weighted_index(&within, within.iter().sum());
        let candidate = rows.point(row);
        let (victim, with_swap) = best_swap(&rows, &near, &candidate, points.len());
        if with_swap >= total {
            continue;
        }
        points[victim] = candidate;
        sums = rows.map(&mut near, |block, near| {
            near.replace(&rows, block, &points, victim);
            near.sum(&rows, block)
        });
    }
    Array2::from_shape_fn(centres.dim(), |(centre, column)| f64::from(points[centre][column]))
}

/// The cheapest centre to replace by `candidate`, and the total after the swap.
fn best_swap(
    rows: &ColumnBlocks,
    near: &[CentreDistances],
    candidate: &[f32],
    centres: usize,
) -> (usize, f64) {
    let partial: Vec<SwapCosts> = near
        .par_chunks(BLOCKS_A_PIECE)
        .enumerate()
        .map(|(piece, near)| {
            rows.pause();
            SwapCosts::of_piece(rows, piece * BLOCKS_A_PIECE, near, candidate, centres)
        })
        .collect();
    let with_all: f64 = partial.iter().map(|costs| costs.with_all).sum();
    let mut best = (0, f64::INFINITY);
    for centre in 0..centres {
        let removal = partial.iter().map(|costs| costs.of_removal[centre]).sum::<f64>();
        if removal < best.1 {
            best = (centre, removal);
        }
    }
    (best.0, with_all + best.1)
}

/// Sums of squared distances after `candidate` became a centre.
struct SwapCosts {
    /// With all centres and the candidate.
    with_all: f64,
    /// Additional cost of the removal of each centre, which falls on its own rows only.
    of_removal: Vec<f64>,
}

impl SwapCosts {
    fn of_piece(
        rows: &ColumnBlocks,
        first_block: usize,
        near: &[CentreDistances],
        candidate: &[f32],
        centres: usize,
    ) -> Self {
        let mut costs = Self { with_all: 0.0, of_removal: vec![0.0; centres] };
        for (offset, near) in near.iter().enumerate() {
            let block = first_block + offset;
            let to_candidate = rows.distances(block, candidate);
            for (row, to_candidate) in to_candidate[..rows.rows_in(block)].iter().enumerate() {
                let with_own = near.first[row].min(*to_candidate);
                costs.with_all += f64::from(with_own);
                costs.of_removal[near.first_centre[row] as usize] +=
                    f64::from(near.second[row].min(*to_candidate) - with_own);
            }
        }
        costs
    }
}

impl CentreDistances {
    fn without_centres() -> Self {
        Self {
            first: [f32::INFINITY; BLOCK],
            first_centre: [0; BLOCK],
            second: [f32::INFINITY; BLOCK],
            second_centre: [0; BLOCK],
        }
    }

    fn offer_all_centres(&mut self, rows: &ColumnBlocks, block: usize, points: &[Vec<f32>]) {
        for (centre, point) in points.iter().enumerate() {
            let squared = rows.distances(block, point);
            for (row, squared) in squared.into_iter().enumerate() {
                self.offer_centre(row, centre as u32, squared);
            }
        }
    }

    /// Updates the block after `points[victim]` was replaced by another point.
    fn replace(&mut self, rows: &ColumnBlocks, block: usize, points: &[Vec<f32>], victim: usize) {
        let squared = rows.distances(block, &points[victim]);
        let victim = victim as u32;
        // A row with other nearest centres only compares with the new point. A row that had the
        // victim among its two must search all centres again.
        let lost: [bool; BLOCK] = std::array::from_fn(|row| {
            self.first_centre[row] == victim || self.second_centre[row] == victim
        });
        for (row, squared) in squared.into_iter().enumerate().filter(|(row, _)| !lost[*row]) {
            self.offer_centre(row, victim, squared);
        }
        if lost.contains(&true) {
            let mut again = Self::without_centres();
            again.offer_all_centres(rows, block, points);
            for row in (0..BLOCK).filter(|row| lost[*row]) {
                self.first[row] = again.first[row];
                self.first_centre[row] = again.first_centre[row];
                self.second[row] = again.second[row];
                self.second_centre[row] = again.second_centre[row];
            }
        }
    }

    fn offer_centre(&mut self, row: usize, centre: u32, squared: f32) {
        if squared < self.first[row] {
            (self.second[row], self.second_centre[row]) = (self.first[row], self.first_centre[row]);
            (self.first[row], self.first_centre[row]) = (squared, centre);
        } else if squared < self.second[row] {
            (self.second[row], self.second_centre[row]) = (squared, centre);
        }
    }

    /// Sum of the squared distances to the nearest centres.
    fn sum(&self, rows: &ColumnBlocks, block: usize) -> f64 {
        column_blocks::sum(&self.first[..rows.rows_in(block)])
    }
}
