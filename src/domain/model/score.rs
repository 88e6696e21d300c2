//! The answer for one customer: which segment, how sure, how unusual.

use crate::domain::model::bounds::Moved;

/// The key under which customers without a segment are told of and stored: a
/// word of its own, as null already means "never assigned". No segment is
/// called so.
pub const UNASSIGNED: &str = "unassigned";

/// Working memory of scoring. One a worker: it grows to the widest model it
/// has met and is never shrunk, so that scoring does not allocate.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    pub(super) vector: Vec<f32>,
    /// The vector's image, where the model has a projection.
    pub(super) image: Vec<f32>,
    /// One number a prototype each: see `hold`.
    pub(super) gaps: Vec<f64>,
    pub(super) shifts: Vec<f64>,
    pub(super) near_gaps: Vec<f64>,
    pub(super) near_shifts: Vec<f64>,
    pub(super) spans: Vec<Moved>,
    pub(super) images: Vec<Moved>,
}

impl Scratch {
    /// The vector that was encoded last, as wide as it was.
    pub(super) fn encoded(&self, width: usize) -> &[f32] {
        &self.vector[..width.min(self.vector.len())]
    }
}

/// The first `width` numbers, to be overwritten.
pub(super) fn sized(buffer: &mut Vec<f32>, width: usize) -> &mut [f32] {
    if buffer.len() < width {
        buffer.resize(width, 0.0);
    }
    &mut buffer[..width]
}

/// Where one feature row falls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Index into `Model::segments` of the nearest one.
    pub nearest: usize,
    /// Whether the customer is within the reach of `nearest`, and so in it.
    pub reached: bool,
    /// Distance to the prototype of `nearest`, in encoded units and by the
    /// model's own measure: Euclidean for k-means.
    pub distance: f32,
    /// The next nearest segment; `None` when the model has one segment.
    pub runner_up: Option<usize>,
    /// Infinite when the model has one segment.
    pub runner_up_distance: f32,
    /// The share of held-out customers at least as far from everything (split
    /// conformal, in (0, 1]): small means unusual. In a model without a measure
    /// of that, of format 1, it is `edge_p_value`.
    pub p_value: f64,
    /// The share of held-out customers of the nearest segment, or of the small
    /// segments together, at least as far from their prototype.
    pub edge_p_value: f64,
}

/// How far a customer is from one segment, whichever is the nearest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Apart {
    /// As [`Score::distance`].
    pub distance: f32,
    /// Whether the customer is within the reach of the segment.
    pub reached: bool,
}

/// The two ways of being unusual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusual {
    /// An outlier, whatever the segments.
    FarFromEverything,
    /// Like other customers, but hardly like those of the segment.
    EdgeOfSegment,
}

impl Unusual {
    pub const fn name(self) -> &'static str {
        match self {
            Self::FarFromEverything => "far_from_everything",
            Self::EdgeOfSegment => "edge_of_segment",
        }
    }
}

impl Score {
    /// Index into `Model::segments`; `None` is a customer in no segment.
    pub fn segment(&self) -> Option<usize> {
        self.reached.then_some(self.nearest)
    }

    /// How much farther the runner-up is; 0 on the border between two segments.
    pub fn margin(&self) -> f32 {
        self.runner_up_distance - self.distance
    }

    /// 1 - distance / runner-up distance: 0 on the border between two segments
    /// and in none, 1 on the prototype itself and where there is no other
    /// segment. This is the simplified silhouette of the customer (Vendramin et
    /// al. 2010), so its mean over customers is the model's silhouette. Not a
    /// probability.
    pub fn confidence(&self) -> f32 {
        if !self.reached || self.runner_up_distance <= 0.0 {
            return 0.0;
        }
        (1.0 - self.distance / self.runner_up_distance).clamp(0.0, 1.0)
    }

    /// Whether at most the share `alpha` of customers is this unusual: on
    /// unchanged data this flags `alpha` of them.
    pub fn is_outlier(&self, alpha: f64) -> bool {
        self.p_value <= alpha
    }
}
