//! Principal component analysis: the axes with the largest variance of the rows.
//!
//! Axes, their order and the number retained are those of scikit-learn. The sign of an axis is
//! arbitrary; here its largest component is positive.

use ndarray::Axis;

use crate::domain::stats::symmetric;
use crate::domain::train::EncodedDataset;
use crate::domain::train::projection::axes;
use crate::domain::train::projection::axes::LinearMap;

/// Principal components of the rows.
#[derive(Debug, Clone, PartialEq)]
pub struct PrincipalComponents {
    pub axes: LinearMap,
    /// Sample variance (divided by n − 1) along each axis.
    pub explained_variances: Vec<f64>,
    /// Explained variance ratio of each axis.
    pub explained_variance_ratios: Vec<f64>,
}

/// The fewest components that explain more than the share `variance` of the total variance, at
/// least one; all components when it is 1.
pub fn fit(data: &EncodedDataset, variance: f64) -> PrincipalComponents {
    let (centre, covariance) = axes::covariance(data);
    let eigen = symmetric::eigendecomposition(&covariance);
    // Rounding can make a zero eigenvalue negative.
    let values: Vec<f64> = eigen.values.iter().map(|value| value.max(0.0)).collect();
    let total: f64 = values.iter().sum();
    let shares: Vec<f64> =
        values.iter().map(|value| if total > 0.0 { value / total } else { 0.0 }).collect();
    let (mut explained, mut needed) = (0.0, 1);
    for share in &shares {
        explained += share;
        if explained > variance {
            break;
        }
        needed += 1;
    }
    let kept = if variance < 1.0 { needed.min(values.len()) } else { values.len() };
    let unbiased = data.rows() as f64 / (data.rows().max(2) - 1) as f64;
    let kept_axes: Vec<usize> = (0..kept).collect();
    PrincipalComponents {
        axes: LinearMap { centre, matrix: eigen.vectors.select(Axis(0), &kept_axes) },
        explained_variances: values[..kept].iter().map(|value| value * unbiased).collect(),
        explained_variance_ratios: shares[..kept].to_vec(),
    }
}
