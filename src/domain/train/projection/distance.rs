//! Distance measure of a training run.

use serde::{Deserialize, Serialize};

/// Distance measure between encoded rows. (k-medians always uses the Manhattan distance.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistanceMeasure {
    #[default]
    Euclidean,
    /// Depends on the angle only: the squared Euclidean distance of vectors of unit length is
    /// twice the cosine distance.
    Cosine,
    /// Correlated columns do not count twice: the Euclidean distance between whitened
    /// vectors.
    Mahalanobis,
}
