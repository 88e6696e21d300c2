//! Backward compatibility: reads older document formats into the current one.

use serde::Deserialize;

use crate::domain::encode::FeatureEncoder;
use crate::domain::feature::FeatureDefinition;
use crate::domain::id::{FeatureSetId, ModelId};
use crate::domain::model::document::{ModelDocument, Provenance, SelfTest};
use crate::domain::model::segment::{FeatureProfile, ModelSegment, SegmentName, StandoutFeature};
use crate::domain::model::{ConformalLimits, DecisionFunction, DriftBaseline, Prototypes};

/// Format 1: one prototype per segment and the Euclidean distance; segments have keys s1,
/// s2 … but no ids.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Format1Document {
    format: u32,
    feature_set: FeatureSetId,
    features: Vec<FeatureDefinition>,
    encoder: FeatureEncoder,
    prototypes: Prototypes,
    segments: Vec<Format1Segment>,
    limits: ConformalLimits,
    reference: DriftBaseline,
    provenance: Provenance,
    self_test: Vec<SelfTest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Format1Segment {
    key: Box<str>,
    label: Box<str>,
    size: u64,
    share: f64,
    profile: Vec<FeatureProfile>,
    standouts: Vec<StandoutFeature>,
}

impl Format1Document {
    /// Converts to the current format. Segment ids are derived from the address of the
    /// original `bytes`, so that they are the same at every read.
    pub(super) fn into_document(self, bytes: &[u8]) -> ModelDocument {
        let address = ModelId::of(bytes);
        let segments = self.segments.into_iter().map(|old| ModelSegment {
            id: SegmentName::new(address.as_str(), &old.key).id,
            key: old.key,
            label: old.label,
            size: old.size,
            share: old.share,
            profile: old.profile,
            standouts: old.standouts,
        });
        ModelDocument {
            format: self.format,
            feature_set: self.feature_set,
            features: self.features,
            encoder: self.encoder,
            // The parts added by later formats are all optional.
            projection: None,
            decision_function: DecisionFunction::from_centroids(self.prototypes),
            segments: segments.collect(),
            limits: self.limits,
            outlier_reference: None,
            reference: self.reference,
            provenance: self.provenance,
            self_test: self.self_test,
        }
    }
}
