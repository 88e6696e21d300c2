//! Metric space of the comparison of rows: the distance, and the projection before it.

use crate::domain::encode::Projection;
use crate::domain::train::assembly::decision_function;
use crate::domain::train::projection::axes::LinearMap;
use crate::domain::train::projection::distance::Distance;
use crate::domain::train::projection::{pca, whitening};
use crate::domain::train::{Dataset, TrainSpec, TrainingError};

/// Fits the projection for the metric space of `spec`; `None`: the encoded space itself.
pub(crate) fn fit(
    spec: &TrainSpec,
    encoded: &Dataset,
) -> Result<Option<Projection>, TrainingError> {
    let components = spec.components.map(|variance| pca::fit(encoded, variance).axes);
    let unit = spec.distance == Distance::Cosine;
    let axes = match (components, spec.distance) {
        (None, Distance::Euclidean) => return Ok(None),
        (None, Distance::Cosine) => return Ok(Some(Projection::unit())),
        (None, Distance::Mahalanobis) => whitening::fit(encoded).axes,
        (Some(components), Distance::Mahalanobis) => {
            let along = components.projection(false).ok_or(TrainingError::Axes)?;
            // The projected rows have mean zero, so the whitening needs no centre of its own.
            let white = whitening::fit(&decision_function::project(encoded, &along)).axes;
            LinearMap { centre: components.centre, matrix: white.matrix.dot(&components.matrix) }
        }
        (Some(components), _) => components,
    };
    axes.projection(unit).ok_or(TrainingError::Axes).map(Some)
}

/// Applies `projection` to the rows.
pub(crate) fn apply_projection(projection: Option<&Projection>, encoded: Dataset) -> Dataset {
    match projection {
        None => encoded,
        Some(projection) => decision_function::project(&encoded, projection),
    }
}
