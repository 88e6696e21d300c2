//! The training rows by segment, from which segments are described.

use crate::domain::feature::{FeatureDefinition, FeatureRow, Sensitivity};

/// Training rows with their segments.
#[derive(Debug, Clone, Copy)]
pub(super) struct SegmentRows<'a> {
    pub(super) features: &'a [FeatureDefinition],
    pub(super) rows: &'a [FeatureRow],
    /// The segment of each row; `None` is a row in no segment.
    pub(super) segment_of: &'a [Option<usize>],
    /// Number of segments.
    pub(super) segments: usize,
}

impl SegmentRows<'_> {
    /// Whether a feature may appear in a description.
    pub(super) fn is_shown(&self, feature: usize) -> bool {
        self.features[feature].sensitivity != Sensitivity::Sensitive
    }
}
