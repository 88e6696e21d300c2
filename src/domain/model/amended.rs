//! Amendments of a trained model before it is registered: customer value, and segment ids that continue
//! from the predecessor. Each seals the document again, so the id of the model changes.

use crate::domain::id::ModelId;
use crate::domain::model::document::ArtifactError;
use crate::domain::model::{Model, SegmentValue};
use crate::domain::value::ValueModel;

impl Model {
    /// Seals the document of this model with other segment ids, one per segment. Ids that are
    /// not new come from `predecessor`.
    pub(in crate::domain) fn with_segment_ids(
        &self,
        ids: Vec<Box<str>>,
        predecessor: &ModelId,
    ) -> Result<Vec<u8>, ArtifactError> {
        let mut document = self.document.clone();
        for (segment, id) in document.segments.iter_mut().zip(ids) {
            segment.id = id;
        }
        document.provenance.predecessor = Some(predecessor.clone());
        document.seal()
    }

    /// Seals the document of this model with a value model, and the value of each segment.
    pub(in crate::domain) fn with_value(
        &self,
        value: ValueModel,
        of_segments: Vec<Option<SegmentValue>>,
    ) -> Result<Vec<u8>, ArtifactError> {
        let mut document = self.document.clone();
        document.value = Some(value);
        for (segment, value) in document.segments.iter_mut().zip(of_segments) {
            segment.value = value;
        }
        document.seal()
    }
}
