//! Metric space of the comparison of rows: the distance, and the projection before it.

use crate::domain::encode::LinearProjection;
use crate::domain::train::assembly::decision_function;
use crate::domain::train::projection::axes::LinearMap;
use crate::domain::train::projection::distance::DistanceMeasure;
use crate::domain::train::projection::{pca, whitening};
use crate::domain::train::{EncodedDataset, TrainingError, TrainingSpec};

/// Fits the projection for the metric space of `spec`; `None`: the encoded space itself.
pub(crate) fn fit(
    spec: &TrainingSpec,
    encoded: &EncodedDataset,
) -> Result<Option<LinearProjection>, TrainingError> {
    let components = spec.components.map(|variance| pca::fit(encoded, variance).axes);
    let unit = spec.distance == DistanceMeasure::Cosine;
    let axes = match (components, spec.distance) {
        (None, DistanceMeasure::Euclidean) => return Ok(None),
        (None, DistanceMeasure::Cosine) => return Ok(Some(LinearProjection::unit())),
        (None, DistanceMeasure::Mahalanobis) => whitening::fit(encoded).axes,
        (Some(components), DistanceMeasure::Mahalanobis) => {
            let along = components.projection(false).ok_or(TrainingError::Projection)?;
            // The projected rows have mean zero, so the whitening needs no centre of its own.
            let white = whitening::fit(&decision_function::project(encoded, &along)).axes;
            LinearMap { centre: components.centre, matrix: white.matrix.dot(&components.matrix) }
        }
        (Some(components), _) => components,
    };
    axes.projection(unit).ok_or(TrainingError::Projection).map(Some)
}

/// Applies `projection` to the rows.
pub(crate) fn apply_projection(
    projection: Option<&LinearProjection>,
    encoded: EncodedDataset,
) -> EncodedDataset {
    match projection {
        None => encoded,
        Some(projection) => decision_function::project(&encoded, projection),
    }
}
