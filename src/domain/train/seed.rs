//! Where k-means starts: k-means++ with greedy local trials.
//!
//! Each centre after the first is drawn with probability proportional to its
//! squared distance from the centres so far (Arthur and Vassilvitskii 2007,
//! *k-means++: the advantages of careful seeding*); of 2 + ⌊ln k⌋ such draws
//! the one that lowers the total most is kept, the greedy variant named in
//! their conclusion.

use ndarray::Array2;
use rayon::prelude::*;

use crate::domain::stats::Rng;
use crate::domain::train::Dataset;

/// `clusters` rows of `data` as initial centres, (`clusters`, `n_columns`).
pub fn plus_plus(data: &Dataset, clusters: usize, rng: &mut Rng) -> Array2<f64> {
    let trials = 2 + (clusters.max(1) as f64).ln().floor() as usize;
    let mut chosen = vec![rng.below(data.rows())];
    let mut nearest = vec![f64::INFINITY; data.rows()];
    let mut total = lower(data, &mut nearest, chosen[0]);

    while chosen.len() < clusters {
        let mut best = (f64::INFINITY, 0);
        for _ in 0..trials {
            let candidate = rng.weighted(&nearest, total);
            let lowered = total_with(data, &nearest, candidate);
            if lowered < best.0 {
                best = (lowered, candidate);
            }
        }
        total = lower(data, &mut nearest, best.1);
        chosen.push(best.1);
    }
    Array2::from_shape_fn((clusters, data.columns()), |(centre, column)| {
        f64::from(data.row(chosen[centre])[column])
    })
}

/// The sum of squared distances if the row `candidate` became a centre.
fn total_with(data: &Dataset, nearest: &[f64], candidate: usize) -> f64 {
    let centre = data.point(candidate);
    let partial = data.map_chunks(|rows| {
        rows.map(|row| data.squared_distance(row, &centre).min(nearest[row])).sum::<f64>()
    });
    partial.iter().sum()
}

/// Makes the row `chosen` a centre: lowers `nearest`, returns its sum.
fn lower(data: &Dataset, nearest: &mut [f64], chosen: usize) -> f64 {
    let centre = data.point(chosen);
    let length = data.chunk_rows();
    let partial: Vec<f64> = nearest
        .par_chunks_mut(length)
        .enumerate()
        .map(|(chunk, nearest)| {
            let mut sum = 0.0;
            for (offset, least) in nearest.iter_mut().enumerate() {
                let row = chunk * length + offset;
                *least = data.squared_distance(row, &centre).min(*least);
                sum += *least;
            }
            sum
        })
        .collect();
    partial.iter().sum()
}
