//! Model document: a self-describing JSON file, content-addressed by its SHA-256.
//!
//! Fields in order: `format`; `feature_set` and `features`; the encoding of a row
//! (`encoder`, optional `projection`); the `decision_function` and the `segments`; the
//! calibration of distances to segments (`limits`) and the `outlier_reference`; the
//! `drift_baseline`; the optional `value` model; the origin (`provenance`); test rows with expected answers (`self_test`).

use serde::{Deserialize, Serialize};

use crate::domain::encode::{FeatureEncoder, LinearProjection};
use crate::domain::feature::{FeatureDefinition, FeatureRow, FeatureValue, Sensitivity};
use crate::domain::id::{FeatureSetId, ModelId};
use crate::domain::model::score::sized;
use crate::domain::model::{
    ConformalLimits, DecisionFunction, DriftBaseline, FeatureProfile, MAX_SEGMENTS, ModelSegment,
    OutlierReference, ScoringScratch, SegmentRevenue, SegmentScore, SegmentValue, TypicalValue,
    segment,
};
use crate::domain::time::Timestamp;
use crate::domain::value::ValueModel;

/// Current format version.
pub const DOCUMENT_FORMAT: u32 = 1;
/// Longer documents are refused before parsing.
pub const MAX_DOCUMENT_BYTES: usize = 64 << 20;
/// Tolerance of the self-test, relative to the distance plus the segment's scale. The
/// logarithm of another platform may differ in its last bits; a larger difference means
/// that the document does not describe the trained model.
const SELF_TEST_TOLERANCE: f32 = 1e-4;

/// The reason for which a document is refused.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("the document has {0} bytes; at most {MAX_DOCUMENT_BYTES} are allowed")]
    TooLong(usize),
    #[error("the document's address is {found}, not {expected}: it was altered or mixed up")]
    Address { expected: ModelId, found: ModelId },
    #[error("format {0} is unknown; this version reads format {DOCUMENT_FORMAT}")]
    Format(u32),
    #[error("the document cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("the document is inconsistent: {0}")]
    Shape(&'static str),
    #[error(
        "self-test row {row} scored into segment {segment} at distance {distance}, not into \
         segment {expected_segment} at distance {expected_distance}"
    )]
    SelfTest {
        row: usize,
        segment: usize,
        distance: f32,
        expected_segment: usize,
        expected_distance: f32,
    },
}

/// All parts of a model. The order of fields is the order in the document, and so part of
/// its address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelDocument {
    pub(in crate::domain) format: u32,
    pub(in crate::domain) feature_set: FeatureSetId,
    pub(in crate::domain) features: Vec<FeatureDefinition>,
    pub(in crate::domain) encoder: FeatureEncoder,
    /// The optional last step of the encoding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::domain) projection: Option<LinearProjection>,
    pub(in crate::domain) decision_function: DecisionFunction,
    pub(in crate::domain) segments: Vec<ModelSegment>,
    pub(in crate::domain) limits: ConformalLimits,
    pub(in crate::domain) outlier_reference: OutlierReference,
    pub(in crate::domain) drift_baseline: DriftBaseline,
    /// `None` without enough orders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::domain) value: Option<ValueModel>,
    pub(in crate::domain) provenance: Provenance,
    pub(in crate::domain) self_test: Vec<SelfTest>,
}

/// Provenance of a model. It contains no wall-clock time: the same data, spec and seed give
/// the same bytes (reproducible build).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The version of segmentd that trained the model.
    pub code_version: Box<str>,
    /// The training spec as submitted, for people. It is never parsed, so reading a model
    /// does not depend on the specs of the current trainer.
    pub spec: serde_json::Value,
    /// The clustering algorithm; `None`: one outside of segmentd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Box<str>>,
    pub seed: u64,
    /// The instant the feature rows describe.
    pub as_of: Timestamp,
    /// Number of input rows, fitted and held out.
    pub rows: u64,
    /// SHA-256 of the input rows, in order.
    pub rows_digest: Box<str>,
    /// Sum of squared distances (Manhattan: of distances) of the fitted rows to their
    /// prototypes, in encoded units; unassigned rows are left out.
    pub inertia: f64,
    /// Mean simplified silhouette of the fitted rows; `None` with one segment.
    pub silhouette: Option<f64>,
    /// The model that was active before, from which continuing segments inherit their ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<ModelId>,
}

/// A synthetic row and the expected answer of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    row: Vec<TestValue>,
    segment: usize,
    distance: f32,
}

/// A raw value in JSON: a number, a text, or null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum TestValue {
    Number(f64),
    Category(Box<str>),
    Missing(()),
}

impl ModelDocument {
    /// Serializes the document to the bytes that are stored, sent and hashed.
    pub(in crate::domain) fn seal(&self) -> Result<Vec<u8>, ArtifactError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Scores a row: encodes it, finds its segment, and computes its p-values.
    pub(in crate::domain) fn score(
        &self,
        row: &FeatureRow,
        scratch: &mut ScoringScratch,
    ) -> SegmentScore {
        let (vector, place) = self.encode_row(row, scratch);
        let near = self.decision_function.two_nearest(place);
        let distance = self.decision_function.power_to_distance(near.power);
        let edge_p_value = self.limits.p_value(near.segment, distance);
        SegmentScore {
            nearest: near.segment,
            prototype: near.prototype,
            is_within_radius: near.is_within_radius,
            distance,
            runner_up: near.runner_up,
            runner_up_distance: self.decision_function.power_to_distance(near.runner_up_power),
            // The outlier measure reads the encoded vector, not its projection: an outlier
            // may be visible only in directions that a projection drops.
            p_value: self.outlier_reference.p_value(self.outlier_reference.measure(vector)),
            edge_p_value,
        }
    }

    /// The encoded row, and the input of the decision function: the same vector, or its
    /// projection.
    pub(super) fn encode_row<'s>(
        &self,
        row: &FeatureRow,
        scratch: &'s mut ScoringScratch,
    ) -> (&'s [f32], &'s [f32]) {
        let ScoringScratch { vector, image, .. } = scratch;
        let vector = sized(vector, self.encoder.width());
        self.encoder.encode(row, vector);
        match &self.projection {
            None => (vector, vector),
            Some(projection) => {
                let image = sized(image, projection.width(vector.len()));
                projection.apply(vector, image);
                (vector, image)
            }
        }
    }

    /// Validates the document: ranges, indices and widths.
    pub(super) fn check_shape(&self) -> Result<(), &'static str> {
        let segments = self.segments.len();
        if segments == 0 || segments > MAX_SEGMENTS {
            return Err("there must be between 1 and 256 segments");
        }
        self.encoder.check(&self.features)?;
        let mut width = self.encoder.width();
        if let Some(projection) = &self.projection {
            projection.check(width)?;
            width = projection.width(width);
        }
        self.decision_function.check(segments, width)?;
        if !self.limits.is_sound(segments) {
            return Err("the outlier limits are out of range or out of order");
        }
        if !self.outlier_reference.is_sound(self.encoder.width()) {
            return Err("the outlier reference is out of range or out of order");
        }
        if !self.drift_baseline.is_sound(self.features.len(), self.encoder.width(), segments) {
            return Err("the drift baseline is out of range or out of order");
        }
        if !self.value.as_ref().is_none_or(ValueModel::is_sound) {
            return Err("the value model is out of range");
        }
        segment::check_names(&self.segments)?;
        if !self.segments.iter().all(|segment| self.is_described(segment)) {
            return Err("a segment's description is out of range");
        }
        if self.self_test.is_empty() {
            return Err("there are no self-test rows");
        }
        if self.self_test.iter().any(|test| test.row.len() != self.features.len()) {
            return Err("a self-test row does not fit the features");
        }
        Ok(())
    }

    fn is_described(&self, segment: &ModelSegment) -> bool {
        (0.0..=1.0).contains(&segment.share)
            && segment.profile.iter().all(|profile| self.is_profile_sound(profile))
            && segment.standouts.iter().all(|standout| {
                standout.feature < self.features.len()
                    && standout.contrast.is_finite()
                    && standout.standard_error.is_finite()
                    && standout.standard_error >= 0.0
            })
            && segment.revenue.as_ref().is_none_or(|revenue| self.is_revenue_sound(revenue))
            && segment.value.as_ref().is_none_or(SegmentValue::is_sound)
    }

    fn is_revenue_sound(&self, revenue: &SegmentRevenue) -> bool {
        self.is_shown(revenue.feature)
            && revenue.share.is_sound()
            && revenue.mean.is_sound()
            && revenue.top_fifth_share.is_none_or(f64::is_finite)
    }

    fn is_profile_sound(&self, profile: &FeatureProfile) -> bool {
        self.is_shown(profile.feature) && is_finite(&profile.here) && is_finite(&profile.everybody)
    }

    /// Whether a feature may appear in a description: a sensitive one may not, even in a document
    /// from elsewhere.
    fn is_shown(&self, feature: usize) -> bool {
        self.features.get(feature).is_some_and(|def| def.sensitivity != Sensitivity::Sensitive)
    }

    /// Runs the self-test.
    pub(super) fn check_answers(&self) -> Result<(), ArtifactError> {
        let mut scratch = ScoringScratch::default();
        for (row, test) in self.self_test.iter().enumerate() {
            let score = self.score(&test.feature_row(), &mut scratch);
            let scale = test.distance + self.limits.scale(score.nearest);
            let close = (score.distance - test.distance).abs() <= SELF_TEST_TOLERANCE * scale;
            if score.nearest != test.segment || !close {
                return Err(ArtifactError::SelfTest {
                    row,
                    segment: score.nearest,
                    distance: score.distance,
                    expected_segment: test.segment,
                    expected_distance: test.distance,
                });
            }
        }
        Ok(())
    }
}

impl SelfTest {
    pub(in crate::domain) fn new(row: &FeatureRow, score: &SegmentScore) -> Self {
        Self {
            row: row.0.iter().map(TestValue::from).collect(),
            segment: score.nearest,
            distance: score.distance,
        }
    }

    fn feature_row(&self) -> FeatureRow {
        FeatureRow(self.row.iter().map(FeatureValue::from).collect())
    }
}

impl From<&FeatureValue> for TestValue {
    fn from(value: &FeatureValue) -> Self {
        match value {
            FeatureValue::Missing => Self::Missing(()),
            FeatureValue::Number(number) => Self::Number(*number),
            FeatureValue::Category(category) => Self::Category(category.clone()),
        }
    }
}

impl From<&TestValue> for FeatureValue {
    fn from(value: &TestValue) -> Self {
        match value {
            TestValue::Missing(()) => Self::Missing,
            TestValue::Number(number) => Self::Number(*number),
            TestValue::Category(category) => Self::Category(category.clone()),
        }
    }
}

fn is_finite(typical: &TypicalValue) -> bool {
    match typical {
        TypicalValue::Number { mean, median, missing_share } => {
            mean.is_finite() && median.is_finite() && missing_share.is_finite()
        }
        TypicalValue::Category { share, missing_share, .. } => {
            share.is_finite() && missing_share.is_finite()
        }
        TypicalValue::Unknown => true,
    }
}
