//! By what rows are compared: the distance, and the axes that it is taken along.

use serde::{Deserialize, Serialize};

use crate::domain::encode::Projection;
use crate::domain::train::assembly::decision_function;
use crate::domain::train::projection::axes::Axes;
use crate::domain::train::projection::{pca, whitening};
use crate::domain::train::{Dataset, FitError, TrainSpec};

/// Which distance of the encoded features makes customers alike. (Manhattan's is
/// that of k-medians, whatever this says.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    #[default]
    Euclidean,
    /// By the angle alone: Euclidean between vectors of length 1, whose square is
    /// twice the cosine distance.
    Cosine,
    /// Columns that tell the same are not counted twice: Euclidean between
    /// whitened vectors.
    Mahalanobis,
}

/// What takes encoded rows to where they are compared; `None`: they stay.
pub(crate) fn fit(spec: &TrainSpec, encoded: &Dataset) -> Result<Option<Projection>, FitError> {
    let components = spec.components.map(|variance| pca::fit(encoded, variance).axes);
    let unit = spec.distance == Distance::Cosine;
    let axes = match (components, spec.distance) {
        (None, Distance::Euclidean) => return Ok(None),
        (None, Distance::Cosine) => return Ok(Some(Projection::unit())),
        (None, Distance::Mahalanobis) => whitening::fit(encoded).axes,
        (Some(components), Distance::Mahalanobis) => {
            let along = components.projection(false).ok_or(FitError::Axes)?;
            // The components are centred already.
            let white = whitening::fit(&decision_function::project(encoded, &along)).axes;
            Axes { centre: components.centre, matrix: white.matrix.dot(&components.matrix) }
        }
        (Some(components), _) => components,
    };
    axes.projection(unit).ok_or(FitError::Axes).map(Some)
}

/// The rows as `projection` shows them.
pub(crate) fn through(projection: Option<&Projection>, encoded: Dataset) -> Dataset {
    match projection {
        None => encoded,
        Some(projection) => decision_function::project(&encoded, projection),
    }
}
