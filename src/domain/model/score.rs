//! Score of one customer: segment, distance, margin, confidence and outlier p-value.

use crate::domain::model::bounds::interval::ColumnInterval;

/// Reserved key of customers in no segment, in responses and in the database. Null is not
/// available: it means "never assigned". No segment may have this key.
pub const UNASSIGNED: &str = "unassigned";

/// Scratch buffers of scoring, one per worker. They grow to the widest model scored and
/// never shrink, so that scoring does not allocate.
#[derive(Debug, Clone, Default)]
pub struct ScoringScratch {
    pub(super) vector: Vec<f32>,
    /// The projected vector, if the model has a projection.
    pub(super) image: Vec<f32>,
    // Buffers of the invariance check, see `bounds`.
    pub(super) powers: Vec<f64>,
    pub(super) own_shifts: Vec<f64>,
    pub(super) nearest_shifts: Vec<f64>,
    pub(super) intervals: Vec<ColumnInterval>,
    pub(super) projected: Vec<ColumnInterval>,
}

impl ScoringScratch {
    /// The last encoded vector; `width` is the width of the model's encoder.
    pub(super) fn encoded(&self, width: usize) -> &[f32] {
        &self.vector[..width.min(self.vector.len())]
    }
}

/// The first `width` numbers of a buffer, which grows if needed. Their values are stale.
pub(super) fn sized(buffer: &mut Vec<f32>, width: usize) -> &mut [f32] {
    if buffer.len() < width {
        buffer.resize(width, 0.0);
    }
    &mut buffer[..width]
}

/// The result of scoring one feature row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentScore {
    /// Index into `Model::segments` of the nearest segment.
    pub nearest: usize,
    /// Index of its nearest prototype.
    pub prototype: usize,
    /// Whether the customer is within the radius of `nearest`, and so assigned to it.
    pub is_within_radius: bool,
    /// Distance to the prototype of `nearest`, in encoded units and by the metric of the
    /// decision function: Euclidean for k-means.
    pub distance: f32,
    /// The second nearest segment; `None` in a model with one segment.
    pub runner_up: Option<usize>,
    /// Infinite in a model with one segment.
    pub runner_up_distance: f32,
    /// Conformal p-value of the outlier measure, in (0, 1]: the share of calibrating customers
    /// that are at least as unusual.
    pub p_value: f64,
    /// Split-conformal p-value of the distance within the nearest segment: the share of its
    /// held-out customers at least as far from their prototype. Small segments are pooled.
    pub edge_p_value: f64,
}

/// Distance of a customer from one segment, the nearest or not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentDistance {
    /// As [`SegmentScore::distance`].
    pub distance: f32,
    /// Whether the customer is within the radius of the segment.
    pub is_within_radius: bool,
}

/// Kind of anomaly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnomalyKind {
    /// Global outlier: unusual among all customers.
    GlobalOutlier,
    /// Common among all customers, but far from the centre of its segment.
    EdgeOfSegment,
}

impl SegmentScore {
    /// Index into `Model::segments` of the assigned segment; `None`: unassigned.
    pub fn segment(&self) -> Option<usize> {
        self.is_within_radius.then_some(self.nearest)
    }

    /// Distance to the runner-up minus distance to the nearest segment; 0 on the border
    /// between both.
    pub fn margin(&self) -> f32 {
        self.runner_up_distance - self.distance
    }

    /// Simplified silhouette of the customer (Vendramin et al. 2010): 1 - distance /
    /// runner-up distance.
    ///
    /// It is 0 on the border between two segments and for unassigned customers. It is 1 on
    /// the prototype itself, and in a model with one segment. Its mean over customers is the
    /// silhouette of the model. It is not a probability.
    pub fn confidence(&self) -> f32 {
        if !self.is_within_radius || self.runner_up_distance <= 0.0 {
            return 0.0;
        }
        (1.0 - self.distance / self.runner_up_distance).clamp(0.0, 1.0)
    }

    /// Whether the customer is an outlier at the rate `alpha`: on unchanged data the share
    /// `alpha` of customers is flagged.
    pub fn is_outlier(&self, alpha: f64) -> bool {
        self.p_value <= alpha
    }
}
