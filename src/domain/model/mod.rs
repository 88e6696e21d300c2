//! The model: an immutable, content-addressed artifact that scores feature rows.
//!
//! *Invariant:* every `Model` value was read from its sealed document by [`Model::open`],
//! even one just trained. So all its indices are in range and all its numbers finite. Only the
//! names of its segments may be replaced afterwards.

mod amended;
mod artifact;
mod bounds;
mod conformal;
mod decision_function;
mod diff;
mod document;
mod drift_baseline;
mod explain;
mod inputs;
mod kernel;
mod migration_matrix;
pub(in crate::domain) mod outlier;
mod score;
mod segment;
mod sorted_values;

use crate::domain::encode::{FeatureEncoder, LinearProjection};
use crate::domain::feature::{FeatureDefinition, FeatureRow};
use crate::domain::id::{FeatureSetId, ModelId};
use crate::domain::value::ValueModel;

pub(in crate::domain) use amended::ForecastSegments;
pub(in crate::domain) use bounds::{ColumnSpan, RetainedSegment};
pub use conformal::{ConformalLimits, MINIMUM_CATEGORY_ROWS, P_VALUE_BINS};
pub(in crate::domain) use conformal::{ConformalRanks, p_value_bin};
pub use decision_function::{DecisionFunction, DistanceMetric, MAX_PROTOTYPES, NearestSegments};
pub use diff::{
    EncoderDiff, FeaturesDiff, ModelDiff, ModelFigures, ProfileChange, SegmentBrief, SegmentChange,
    SegmentsDiff, ValueChange, compare_models,
};
pub use document::{
    ArtifactError, DOCUMENT_FORMAT, MAX_DOCUMENT_BYTES, ModelDocument, Provenance, SelfTest,
};
pub use drift_baseline::{
    CategoryCounts, DriftBaseline, FeatureBaseline, FeatureBins, NumberBins, SeenValues,
    SegmentMoments, ValueRepeats,
};
pub use explain::{FeatureContribution, ValueDirection};
pub use kernel::{
    NO_RUNNER_UP, NearestBatch, PreparedPrototypes, Prototypes, TwoNearest, squared_distance,
};
pub use migration_matrix::{
    MINIMUM_REPORTED_CUSTOMERS, MigrationMatrix, MigrationSummary, SegmentFlow,
};
pub use outlier::OutlierReference;
pub use score::{AnomalyKind, ScoringScratch, SegmentDistance, SegmentScore, UNASSIGNED};
pub use segment::{
    FeatureProfile, ModelSegment, NamedSegment, SegmentRevenue, SegmentValue, StandoutFeature,
    TypicalValue,
};

pub(in crate::domain) use kernel::blocked_nearest::{
    BlockCandidates, MAX_BLOCK_ROWS, PointTiles, SearchVisitor,
};
pub(in crate::domain) use segment::{find_standouts, new_segment_id};

/// Upper bound of the number of segments of a model.
pub(crate) const MAX_SEGMENTS: usize = 256;

/// A validated model.
#[derive(Debug, Clone)]
pub struct Model {
    id: ModelId,
    document: ModelDocument,
}

impl Model {
    /// SHA-256 of the sealed document.
    pub fn id(&self) -> &ModelId {
        &self.id
    }

    /// The feature set of the rows that this model reads.
    pub fn feature_set(&self) -> &FeatureSetId {
        &self.document.feature_set
    }

    /// All features of the set, in the order of a row.
    pub fn features(&self) -> &[FeatureDefinition] {
        &self.document.features
    }

    /// The segments, largest first.
    pub fn segments(&self) -> &[ModelSegment] {
        &self.document.segments
    }

    /// The segments with their names, in order.
    pub fn named_segments(&self) -> Vec<NamedSegment> {
        self.segments().iter().map(NamedSegment::from).collect()
    }

    /// Replaces names of segments; `rename` returns the new name of a segment, if any. The id of the
    /// model remains the SHA-256 of the document with the names from training.
    #[must_use]
    pub(crate) fn with_segment_names(
        mut self,
        rename: impl Fn(&ModelSegment) -> Option<Box<str>>,
    ) -> Self {
        for segment in &mut self.document.segments {
            if let Some(name) = rename(segment) {
                segment.name = name;
            }
        }
        self
    }

    /// Index of the segment with this id. Ids are stable over trainings, so they identify a
    /// segment across models.
    pub(crate) fn segment_index(&self, id: &str) -> Option<usize> {
        self.segments().iter().position(|segment| *segment.id == *id)
    }

    pub fn encoder(&self) -> &FeatureEncoder {
        &self.document.encoder
    }

    /// The projection, an optional last step of the encoding.
    pub fn projection(&self) -> Option<&LinearProjection> {
        self.document.projection.as_ref()
    }

    /// The decision function: prototypes, weights, offsets, radii and metric.
    pub fn decision_function(&self) -> &DecisionFunction {
        &self.document.decision_function
    }

    /// The drift baseline: bins and counts of the training rows.
    pub fn drift_baseline(&self) -> &DriftBaseline {
        &self.document.drift_baseline
    }

    /// Forecasts the orders and spend of customers; `None` if there were too few orders at training.
    pub fn value(&self) -> Option<&ValueModel> {
        self.document.value.as_ref()
    }

    pub fn provenance(&self) -> &Provenance {
        &self.document.provenance
    }

    /// Scratch buffers sized for this model.
    pub fn scratch(&self) -> ScoringScratch {
        let mut scratch = ScoringScratch::default();
        // An empty row reads as all missing; placing it grows the buffers to full size.
        self.document.encode_row(&FeatureRow(Vec::new()), &mut scratch);
        scratch
    }

    /// Encodes `row` and finds its segment. Allocates only while `scratch` grows to this
    /// model's width.
    pub fn score(&self, row: &FeatureRow, scratch: &mut ScoringScratch) -> SegmentScore {
        self.document.score(row, scratch)
    }

    /// The encoded row, before any projection, of the last [`Self::score`] with `scratch`.
    pub(in crate::domain) fn encoded<'s>(&self, scratch: &'s ScoringScratch) -> &'s [f32] {
        scratch.encoded(self.encoder().width())
    }

    /// Distance of `row` from any segment of this model, the nearest or not. `segment` must
    /// be in range.
    pub fn distance_to_segment(
        &self,
        row: &FeatureRow,
        segment: usize,
        scratch: &mut ScoringScratch,
    ) -> SegmentDistance {
        let decision_function = self.decision_function();
        let own =
            decision_function.nearest_prototype_of(segment, self.decision_vector(row, scratch));
        SegmentDistance {
            distance: decision_function.power_to_distance(own.power),
            is_within_radius: own.reached,
        }
    }

    /// The encoded and projected vector of `row`, the input of the decision function.
    pub(in crate::domain) fn decision_vector<'s>(
        &self,
        row: &FeatureRow,
        scratch: &'s mut ScoringScratch,
    ) -> &'s [f32] {
        self.document.encode_row(row, scratch).1
    }

    /// The outlier reference, independent of the segments.
    pub fn outlier_reference(&self) -> &OutlierReference {
        &self.document.outlier_reference
    }

    /// The smallest [`SegmentScore::p_value`] that the model gives. No customer is an outlier at a
    /// smaller rate.
    pub fn smallest_p_value(&self) -> f64 {
        self.outlier_reference().smallest_p_value()
    }

    /// The kind of anomaly of a score, if any.
    pub fn anomaly_kind(&self, score: &SegmentScore, alpha: f64) -> Option<AnomalyKind> {
        if score.is_outlier(alpha) {
            return Some(AnomalyKind::GlobalOutlier);
        }
        (score.edge_p_value <= alpha).then_some(AnomalyKind::EdgeOfSegment)
    }

    /// The distance from the segment's prototype beyond which [`SegmentScore::edge_p_value`] is at
    /// most `alpha`. Infinite with too few held-out rows, and for an unknown segment.
    pub fn edge_distance_limit(&self, segment: usize, alpha: f64) -> f32 {
        if segment < self.segments().len() {
            self.document.limits.distance_limit(segment, alpha)
        } else {
            f32::INFINITY
        }
    }
}
