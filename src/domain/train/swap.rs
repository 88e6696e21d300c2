//! Better starting centres by swaps: local search after k-means++.
//!
//! A row is drawn in proportion to its squared distance from the centres, and
//! takes the place of whichever centre is missed least, if the total falls:
//! Lattanzi and Sohler (2019), *A better k-means++ algorithm via local search*.
//! This repairs the usual fault of a start, two centres in one group and one
//! between two others, which Lloyd's iterations cannot.

use ndarray::Array2;
use rayon::prelude::*;

use crate::domain::stats::Rng;
use crate::domain::train::Dataset;

/// Swaps tried, for each centre.
const TRIES_PER_CENTRE: usize = 2;

/// The two centres nearest to one row, with squared distances.
#[derive(Clone, Copy)]
struct Near {
    first: f64,
    first_centre: usize,
    second: f64,
    second_centre: usize,
}

/// Replaces centres by rows while that lowers the sum of squared distances to
/// the nearest centre; (`clusters`, `n_columns`) in and out.
pub fn improve(data: &Dataset, mut centres: Array2<f64>, rng: &mut Rng) -> Array2<f64> {
    if centres.nrows() < 2 {
        return centres;
    }
    let mut near = data.map_rows(|row| nearest_two(data, &centres, row));
    for _ in 0..TRIES_PER_CENTRE * centres.nrows() {
        let weights: Vec<f64> = near.iter().map(|n| n.first).collect();
        let total = weights.iter().sum();
        let candidate = data.point(rng.weighted(&weights, total));
        let (victim, with_swap) = best_swap(data, &near, &candidate, centres.nrows());
        if with_swap >= total {
            continue;
        }
        centres.row_mut(victim).iter_mut().zip(&candidate).for_each(|(c, x)| *c = *x);
        near.par_iter_mut().enumerate().for_each(|(row, near)| {
            if near.first_centre == victim || near.second_centre == victim {
                *near = nearest_two(data, &centres, row);
            } else {
                near.meet(victim, data.squared_distance(row, &candidate));
            }
        });
    }
    centres
}

/// The centre to give up for `candidate`, and the total after that.
fn best_swap(data: &Dataset, near: &[Near], candidate: &[f64], centres: usize) -> (usize, f64) {
    // Without giving up any centre each row costs `kept`; giving up its own
    // centre costs it `lost` more.
    let partial = data.map_chunks(|rows| {
        let (mut kept, mut lost) = (0.0, vec![0.0; centres]);
        for row in rows {
            let near = &near[row];
            let to_candidate = data.squared_distance(row, candidate);
            let with_own = near.first.min(to_candidate);
            kept += with_own;
            lost[near.first_centre] += near.second.min(to_candidate) - with_own;
        }
        (kept, lost)
    });
    let kept: f64 = partial.iter().map(|(kept, _)| kept).sum();
    let lost = |centre: usize| partial.iter().map(|(_, lost)| lost[centre]).sum::<f64>();
    let least =
        (0..centres).map(|centre| (centre, lost(centre))).min_by(|a, b| a.1.total_cmp(&b.1));
    least.map_or((0, f64::INFINITY), |(centre, lost)| (centre, kept + lost))
}

fn nearest_two(data: &Dataset, centres: &Array2<f64>, row: usize) -> Near {
    let far = f64::INFINITY;
    let mut near = Near { first: far, first_centre: 0, second: far, second_centre: 0 };
    for (centre, point) in centres.rows().into_iter().enumerate() {
        near.meet(centre, data.squared_distance(row, point));
    }
    near
}

impl Near {
    fn meet(&mut self, centre: usize, squared: f64) {
        if squared < self.first {
            (self.second, self.second_centre) = (self.first, self.first_centre);
            (self.first, self.first_centre) = (squared, centre);
        } else if squared < self.second {
            (self.second, self.second_centre) = (squared, centre);
        }
    }
}
