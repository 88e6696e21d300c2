//! Whitening: a linear map after which the Euclidean distance is the Mahalanobis distance of the
//! encoded space, so that correlated columns do not count twice.
//!
//! The covariance is shrunk towards a multiple of the identity, in proportion to its estimation
//! error: Ledoit and Wolf (2004), *A well-conditioned estimator for large-dimensional covariance
//! matrices*. A floor on the variance limits the weight of any axis.

use ndarray::Array2;

use crate::domain::stats::symmetric;
use crate::domain::train::EncodedDataset;
use crate::domain::train::projection::axes;
use crate::domain::train::projection::axes::LinearMap;

/// Floor of the variance along an axis, as a share of the mean variance.
const FLOOR: f64 = 1e-6;

/// The whitening map, and the shrinkage of the covariance, 0..=1.
#[derive(Debug, Clone, PartialEq)]
pub struct WhiteningMap {
    pub axes: LinearMap,
    pub shrinkage: f64,
}

/// Fits the whitening map to the rows.
pub fn fit(data: &EncodedDataset) -> WhiteningMap {
    let (centre, covariance) = axes::covariance(data);
    let columns = data.columns();
    let mean_variance = covariance.diag().sum() / columns.max(1) as f64;
    let shrinkage = shrinkage(data, &centre, &covariance, mean_variance);
    let round = Array2::<f64>::eye(columns) * (shrinkage * mean_variance);
    let eigen = symmetric::eigendecomposition(&(covariance * (1.0 - shrinkage) + round));
    let mut matrix = eigen.vectors;
    for (mut axis, variance) in matrix.rows_mut().into_iter().zip(&eigen.values) {
        // Without any variance all rows are equal; the scale is arbitrary.
        let least = if mean_variance > 0.0 { FLOOR * mean_variance } else { 1.0 };
        axis /= variance.max(least).sqrt();
    }
    WhiteningMap { axes: LinearMap { centre, matrix }, shrinkage }
}

fn shrinkage(
    data: &EncodedDataset,
    means: &[f64],
    covariance: &Array2<f64>,
    mean_variance: f64,
) -> f64 {
    let rows = data.rows().max(1) as f64;
    let partial = data.map_chunks(|rows| {
        rows.map(|row| {
            let squares = axes::centred_row(data, row, means).iter().map(|x| x * x).sum::<f64>();
            squares * squares
        })
        .sum::<f64>()
    });
    let fourth = partial.iter().sum::<f64>() / rows;
    let squares: f64 = covariance.iter().map(|entry| entry * entry).sum();
    let columns = data.columns() as f64;
    // Ledoit and Wolf's ratio: variance of the sample covariance over its squared distance to the
    // scaled identity.
    let uncertain = (fourth - squares) / rows;
    let not_round = squares - columns * mean_variance * mean_variance;
    if uncertain <= 0.0 || not_round <= 0.0 { 0.0 } else { (uncertain / not_round).min(1.0) }
}
