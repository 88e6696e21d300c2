//! Amendments of a trained model before it is registered: customer value, and segment ids that continue
//! from the predecessor. Each seals the document again, so the id of the model changes.

use crate::domain::id::ModelId;
use crate::domain::model::document::ArtifactError;
use crate::domain::model::{Model, SegmentValue};
use crate::domain::value::ValueModel;

/// Value and name of every segment, in the order of the model.
pub(in crate::domain) struct ForecastSegments {
    pub values: Vec<Option<SegmentValue>>,
    pub names: Vec<Box<str>>,
}

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

    /// Seals the document of this model with a value model, and the value and the name of each
    /// segment; without reliable forecasts (`None`) all segments stay as they are.
    pub(in crate::domain) fn with_value(
        &self,
        value: ValueModel,
        of_segments: Option<ForecastSegments>,
    ) -> Result<Vec<u8>, ArtifactError> {
        let mut document = self.document.clone();
        document.value = Some(value);
        if let Some(ForecastSegments { values, names }) = of_segments {
            for ((segment, value), name) in document.segments.iter_mut().zip(values).zip(names) {
                segment.value = value;
                segment.name = name;
            }
        }
        document.seal()
    }
}
