//! Inheritance of segment ids: gives a new model the ids that continue from its predecessor.

use crate::domain::id::ModelId;
use crate::domain::model::Model;
use crate::domain::model::document::ArtifactError;

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
}
