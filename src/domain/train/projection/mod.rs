//! Projections of feature space: principal components, whitening, the metric of distances.

pub mod axes;
pub(crate) mod distance;
pub(crate) mod metric_space;
pub mod pca;
pub mod whitening;
