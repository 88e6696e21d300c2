//! Renaming of segments: gives a new model the ids and keys that continue from its
//! predecessor.

use crate::domain::id::ModelId;
use crate::domain::model::document::{ArtifactError, ModelDocument};
use crate::domain::model::segment::{ModelSegment, SegmentName, label_segments};
use crate::domain::model::{Model, StandoutFeature};

impl SegmentName {
    pub fn of(segment: &ModelSegment) -> Self {
        Self { id: segment.id.clone(), key: segment.key.clone() }
    }
}

impl Model {
    /// The highest number N for which a key `sN` was used by this model or a predecessor.
    pub fn keys_used(&self) -> u64 {
        let numbers = self.segments().iter().filter_map(|segment| key_number(&segment.key));
        numbers.max().unwrap_or(0).max(self.provenance().keys_used)
    }

    /// Seals the document of this model with other segment names, one per segment. Names
    /// that are not new come from `predecessor`. Labels are computed again, because equal
    /// ones contain the key.
    pub(in crate::domain) fn renamed(
        &self,
        names: Vec<SegmentName>,
        predecessor: &ModelId,
        keys_used: u64,
    ) -> Result<Vec<u8>, ArtifactError> {
        let mut document: ModelDocument = self.document.clone();
        let standouts: Vec<Vec<StandoutFeature>> =
            document.segments.iter().map(|segment| segment.standouts.clone()).collect();
        let labels = label_segments(&document.features, &standouts, &names);
        for ((segment, name), label) in document.segments.iter_mut().zip(names).zip(labels) {
            segment.id = name.id;
            segment.key = name.key;
            segment.label = label;
        }
        document.provenance.predecessor = Some(predecessor.clone());
        document.provenance.keys_used = keys_used;
        document.seal()
    }
}

/// The number N of a key `sN`.
fn key_number(key: &str) -> Option<u64> {
    let digits = key.strip_prefix('s')?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}
