//! A fit in the form that would be served: labels by the prototypes, and no tiny segments.

use crate::domain::model::MAX_SEGMENTS;
use crate::domain::train::clustering::algorithm::ClusteringOutcome;
use crate::domain::train::evaluation::external_indices::SegmentLabel;
use crate::domain::train::{
    ClusteringAlgorithm, EncodedDataset, SegmentCount, SegmentCountRange, TrainingError,
    TrainingProgress, TrainingSpec,
};

/// A fit, with the labels of the rows as they would be served.
pub(crate) struct ServedFit {
    pub(crate) outcome: ClusteringOutcome,
    /// Served labels of the rows of `all`.
    pub(crate) labels: Vec<SegmentLabel>,
    /// Segments that were dissolved because they were smaller than the gate allows.
    pub(crate) dissolved: usize,
}

/// Fits `algorithm` to `data`, and serves the rows of `all`. A segment smaller than
/// `gates.smallest_share` of them is dissolved, not refused: a few extreme rows are no segment,
/// and without this they would be one for every number of segments. Such rows are then in no
/// segment, unless they are as near to another one as its own rows.
pub(crate) fn fit_as_served(
    algorithm: &ClusteringAlgorithm,
    segments: usize,
    data: &EncodedDataset,
    all: &EncodedDataset,
    spec: &TrainingSpec,
    progress: &dyn TrainingProgress,
) -> Result<ServedFit, TrainingError> {
    let mut outcome = algorithm.fit_with_diagnostics(data, segments, spec.seed, progress)?;
    if outcome.clusters.segments() > MAX_SEGMENTS {
        return Err(TrainingError::TooManySegments { found: outcome.clusters.segments() });
    }
    check_range(algorithm, outcome.clusters.segments(), data, spec)?;
    let mut labels = outcome.clusters.assign_rows(all);
    let mut dissolved = 0;
    if let Some(least_share) = spec.gates.smallest_share {
        let before = outcome.clusters.segments();
        if let Some(without) = outcome.clusters.without_small_segments(all, &labels, least_share) {
            dissolved = before - without.segments();
            labels = without.assign_rows(all);
            outcome.clusters = without;
            // The merges of the tree are those of the former segments.
            outcome.tree = None;
        }
    }
    Ok(ServedFit { outcome, labels, dissolved })
}

/// Refuses a number of segments that the algorithm has found itself, outside of the range that was
/// requested. An algorithm that was named in the spec is taken at its word.
fn check_range(
    algorithm: &ClusteringAlgorithm,
    found: usize,
    data: &EncodedDataset,
    spec: &TrainingSpec,
) -> Result<(), TrainingError> {
    let SegmentCountRange { from, to } = spec.segments.range(data.rows());
    let is_bound = spec.algorithms.is_empty() && algorithm.finds_segment_count();
    if is_bound && spec.segments != SegmentCount::AUTOMATIC && !(from..=to).contains(&found) {
        return Err(TrainingError::OutsideRange { found, from, to });
    }
    Ok(())
}
