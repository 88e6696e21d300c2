//! The answer for one customer: which segment, how sure, how unusual.

/// Working memory of scoring. One a worker: it grows to the widest model it
/// has met and is never shrunk, so that scoring does not allocate.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    pub(super) vector: Vec<f32>,
    /// One number a prototype each: see `hold`.
    pub(super) gaps: Vec<f64>,
    pub(super) shifts: Vec<f64>,
}

impl Scratch {
    /// The first `width` numbers, to be overwritten.
    pub(super) fn vector(&mut self, width: usize) -> &mut [f32] {
        if self.vector.len() < width {
            self.vector.resize(width, 0.0);
        }
        &mut self.vector[..width]
    }
}

/// Where one feature row falls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Index into `Model::segments`.
    pub segment: usize,
    /// Euclidean distance to the segment's prototype, in encoded units.
    pub distance: f32,
    /// The next nearest segment; `None` when the model has one segment.
    pub runner_up: Option<usize>,
    /// Infinite when the model has one segment.
    pub runner_up_distance: f32,
    /// The share of held-out customers of this kind at least as far from their
    /// prototype (split conformal, in (0, 1]): small means unusual.
    pub p_value: f64,
}

impl Score {
    /// How much farther the runner-up is; 0 on the border between two segments.
    pub fn margin(&self) -> f32 {
        self.runner_up_distance - self.distance
    }

    /// 1 - distance / runner-up distance: 0 on the border between two segments,
    /// 1 on the prototype itself and where there is no other segment. This is
    /// the simplified silhouette of the customer (Vendramin et al. 2010), so
    /// its mean over customers is the model's silhouette. Not a probability.
    pub fn confidence(&self) -> f32 {
        if self.runner_up_distance <= 0.0 {
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
