//! Decision function of a model: a weighted power diagram over prototypes, whichever
//! algorithm found the segments.
//!
//! A customer x belongs to the segment of the prototype p with the least *power*
//! Σ wⱼ (xⱼ − pⱼ)² + offset, or Σ wⱼ |xⱼ − pⱼ| + offset with the Manhattan metric
//! (Aurenhammer 1987, *Power diagrams*). The weights w belong to the segment, the offset to
//! the prototype. Beyond the radius of the nearest segment a customer is in none. Plain
//! k-means has no weights, offsets or radii and uses the kernel directly.

use serde::{Deserialize, Serialize};

use crate::domain::encode::MAX_ENCODED;
use crate::domain::model::kernel::{
    NO_RUNNER_UP, NearestBatch, Prototypes, TwoNearest, squared_distance,
};

/// Upper bound of the number of prototypes of a model, over all segments.
pub const MAX_PROTOTYPES: usize = 4096;
/// Upper bound of weights, offsets and radii.
const MAX_PARAMETER: f32 = 1e18;
/// As in the kernel: independent partial sums in a fixed order, so that the compiler can
/// vectorise and every machine gets the same result.
const LANES: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistanceMetric {
    #[default]
    Euclidean,
    Manhattan,
}

/// Parameters of the decision function. Empty lists are omitted from the document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionFunction {
    pub(in crate::domain) prototypes: Prototypes,
    /// Segment of each prototype. Empty: prototype i represents segment i.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::domain) segment_of: Vec<usize>,
    /// Weights, segment by segment and one per column. Empty: all 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::domain) weights: Vec<f32>,
    /// Offset of each prototype; the least is 0. Empty: all 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::domain) offsets: Vec<f32>,
    /// Radius of each segment: the largest distance, without the offset, of a customer in
    /// it. Empty: no radius, every customer is in a segment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::domain) reach: Vec<f32>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(in crate::domain) metric: DistanceMetric,
}

/// The nearest segment and the runner-up; `DecisionFunction::power_to_distance` converts powers to
/// distances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NearestSegments {
    pub segment: usize,
    /// The nearest prototype of that segment.
    pub prototype: usize,
    /// The minimised quantity: the weighted squared distance (Manhattan: the distance) plus
    /// the offset.
    pub power: f32,
    /// Whether the customer is within the segment's radius.
    pub is_within_radius: bool,
    /// The second nearest segment; `None` in a model with one segment.
    pub runner_up: Option<usize>,
    /// Infinite in a model with one segment.
    pub runner_up_power: f32,
}

/// The nearest prototype of a given segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NearestPrototype {
    /// Index of the prototype.
    pub(super) prototype: usize,
    pub(super) power: f32,
    pub(super) reached: bool,
}

impl DecisionFunction {
    /// The decision function of k-means: one prototype per segment, Euclidean distance.
    pub fn from_centroids(prototypes: Prototypes) -> Self {
        Self {
            prototypes,
            segment_of: Vec::new(),
            weights: Vec::new(),
            offsets: Vec::new(),
            reach: Vec::new(),
            metric: DistanceMetric::Euclidean,
        }
    }

    pub fn prototypes(&self) -> &Prototypes {
        &self.prototypes
    }

    pub fn metric(&self) -> DistanceMetric {
        self.metric
    }

    /// Whether segments have a radius, so that a customer can be in none.
    pub fn has_radius(&self) -> bool {
        !self.reach.is_empty()
    }

    /// The segment of a prototype.
    pub fn segment_of(&self, prototype: usize) -> usize {
        self.segment_of.get(prototype).copied().unwrap_or(prototype)
    }

    /// A segment's weights; empty: all 1.
    pub(super) fn weights(&self, segment: usize) -> &[f32] {
        let width = self.prototypes.width();
        self.weights.get(segment * width..(segment + 1) * width).unwrap_or_default()
    }

    pub(super) fn offset(&self, prototype: usize) -> f32 {
        self.offsets.get(prototype).copied().unwrap_or_default()
    }

    /// The radius of a segment; infinite without radii.
    pub(super) fn reach(&self, segment: usize) -> f32 {
        self.reach.get(segment).copied().unwrap_or(f32::INFINITY)
    }

    /// Converts a power to a distance.
    pub(crate) fn power_to_distance(&self, power: f32) -> f32 {
        match self.metric {
            DistanceMetric::Euclidean => power.sqrt(),
            DistanceMetric::Manhattan => power,
        }
    }

    /// Converts a distance to a power.
    pub(super) fn distance_to_power(&self, distance: f64) -> f64 {
        match self.metric {
            DistanceMetric::Euclidean => distance * distance,
            DistanceMetric::Manhattan => distance,
        }
    }

    /// The two segments nearest to `vector`, in one pass. Ties go to the segment with the
    /// prototype of the lowest index. Never allocates.
    pub fn two_nearest(&self, vector: &[f32]) -> NearestSegments {
        let near = if self.is_plain() {
            let TwoNearest { nearest, nearest_squared, second, second_squared } =
                self.prototypes.two_nearest(vector);
            NearestSegments {
                segment: nearest,
                prototype: nearest,
                power: nearest_squared,
                is_within_radius: true,
                runner_up: second,
                runner_up_power: second_squared,
            }
        } else {
            self.scan(vector)
        };
        self.within_reach(near)
    }

    /// [`Self::two_nearest`] of each of `vectors` (row-major), bit for bit the same.
    pub fn two_nearest_of_batch(&self, vectors: &[f32]) -> Vec<NearestSegments> {
        let rows = vectors.chunks_exact(self.prototypes.width().max(1));
        if !self.is_plain() {
            return rows.map(|row| self.two_nearest(row)).collect();
        }
        let mut places = NearestBatch::default();
        self.prototypes.prepare().find_nearest(vectors, &mut places);
        let found = places.nearest.iter().zip(&places.squared).zip(&places.runners_up);
        rows.zip(found)
            .map(|(row, ((nearest, squared), runner_up))| {
                let runner_up = (*runner_up != NO_RUNNER_UP).then_some(*runner_up as usize);
                self.within_reach(NearestSegments {
                    segment: *nearest as usize,
                    prototype: *nearest as usize,
                    power: *squared,
                    is_within_radius: true,
                    runner_up,
                    runner_up_power: runner_up.map_or(f32::INFINITY, |other| {
                        squared_distance(row, self.prototypes.row(other))
                    }),
                })
            })
            .collect()
    }

    /// Whether this is the decision function of plain k-means, possibly with radii.
    fn is_plain(&self) -> bool {
        self.metric == DistanceMetric::Euclidean
            && self.weights.is_empty()
            && self.offsets.is_empty()
            && self.segment_of.is_empty()
    }

    fn within_reach(&self, mut near: NearestSegments) -> NearestSegments {
        near.is_within_radius = self.is_reached(near.prototype, near.power);
        near
    }

    /// The nearest prototype of one segment, by the same arithmetic as
    /// [`Self::two_nearest`], so that both agree on the nearest segment. Never allocates.
    pub(super) fn nearest_prototype_of(&self, segment: usize, vector: &[f32]) -> NearestPrototype {
        let mut own = NearestPrototype { prototype: 0, power: f32::INFINITY, reached: false };
        for prototype in 0..self.prototypes.count() {
            if self.segment_of(prototype) == segment {
                let power = self.power(vector, prototype);
                if power < own.power {
                    own = NearestPrototype {
                        prototype,
                        power,
                        reached: self.is_reached(prototype, power),
                    };
                }
            }
        }
        own
    }

    fn is_reached(&self, prototype: usize, power: f32) -> bool {
        self.reach.is_empty() || {
            // The radius is a distance without the offset. Rounding may make the difference
            // slightly negative, and its root NaN.
            let own = (power - self.offset(prototype)).max(0.0);
            self.power_to_distance(own) <= self.reach(self.segment_of(prototype))
        }
    }

    /// Power of one prototype.
    #[inline]
    fn power(&self, vector: &[f32], index: usize) -> f32 {
        let prototype = self.prototypes.row(index);
        let weights = self.weights(self.segment_of(index));
        let measured = match self.metric {
            DistanceMetric::Euclidean if weights.is_empty() => squared_distance(vector, prototype),
            DistanceMetric::Euclidean => weighted(vector, prototype, weights, |d| d * d),
            DistanceMetric::Manhattan if weights.is_empty() => manhattan(vector, prototype),
            DistanceMetric::Manhattan => weighted(vector, prototype, weights, f32::abs),
        };
        // Large weights on distant columns overflow to infinity: use the largest finite
        // number, so that no difference of two distances becomes NaN.
        (measured + self.offset(index)).min(f32::MAX)
    }

    /// Power of each prototype in `f64`, into `powers`. Never allocates once the buffer has grown.
    pub(super) fn powers(&self, vector: &[f32], powers: &mut Vec<f64>) {
        powers.clear();
        powers.extend((0..self.prototypes.count()).map(|prototype| {
            let values = self.prototypes.row(prototype);
            let weights = self.weights(self.segment_of(prototype));
            let measured = match self.metric {
                DistanceMetric::Euclidean => sum_of_differences(vector, values, weights, |d| d * d),
                DistanceMetric::Manhattan => sum_of_differences(vector, values, weights, f64::abs),
            };
            measured + f64::from(self.offset(prototype))
        }));
    }

    fn scan(&self, vector: &[f32]) -> NearestSegments {
        let mut near = NearestSegments {
            segment: self.segment_of(0),
            prototype: 0,
            power: f32::INFINITY,
            is_within_radius: true,
            runner_up: None,
            runner_up_power: f32::INFINITY,
        };
        for index in 0..self.prototypes.count() {
            let segment = self.segment_of(index);
            let power = self.power(vector, index);
            if power < near.power {
                // The runner-up is the nearest prototype of *another* segment: a nearer
                // prototype of the same segment leaves it unchanged.
                if segment != near.segment {
                    near.runner_up = Some(near.segment);
                    near.runner_up_power = near.power;
                }
                near.segment = segment;
                near.prototype = index;
                near.power = power;
            } else if segment != near.segment
                && (near.runner_up.is_none() || power < near.runner_up_power)
            {
                near.runner_up = Some(segment);
                near.runner_up_power = power;
            }
        }
        near
    }

    /// Contribution of each column to the distance from `vector` to a prototype, in `f64`.
    pub(super) fn distance_terms(
        &self,
        vector: &[f32],
        prototype: usize,
    ) -> impl Iterator<Item = f64> {
        let weights = self.weights(self.segment_of(prototype));
        vector.iter().zip(self.prototypes.row(prototype)).enumerate().map(
            move |(column, (x, p))| {
                let weight = weights.get(column).map_or(1.0, |weight| f64::from(*weight));
                let difference = f64::from(*x) - f64::from(*p);
                weight
                    * match self.metric {
                        DistanceMetric::Euclidean => difference * difference,
                        DistanceMetric::Manhattan => difference.abs(),
                    }
            },
        )
    }

    /// Validates a decision function that was read from a document.
    pub(super) fn check(&self, segments: usize, width: usize) -> Result<(), &'static str> {
        if !self.prototypes.is_whole() || self.prototypes.width() != width {
            return Err("the width of the prototypes must be that of the encoded vector");
        }
        let count = self.prototypes.count();
        if count > MAX_PROTOTYPES {
            return Err("there are more than 4096 prototypes");
        }
        if !self.prototypes.is_within(MAX_ENCODED) {
            return Err("a prototype is out of range");
        }
        if self.segment_of.is_empty() && count != segments {
            return Err("there must be one prototype per segment, or `segment_of`");
        }
        if !self.segment_of.is_empty() {
            let mut has_prototype = vec![false; segments];
            for segment in &self.segment_of {
                let Some(seen) = has_prototype.get_mut(*segment) else {
                    return Err("a prototype belongs to a segment that does not exist");
                };
                *seen = true;
            }
            if self.segment_of.len() != count || has_prototype.contains(&false) {
                return Err("every prototype must have a segment, and every segment a prototype");
            }
        }
        // Positive and not subnormal: products with a subnormal weight lose their digits.
        if !are_parameters(&self.weights, segments * width, f32::MIN_POSITIVE) {
            return Err("there must be one positive weight per segment and column, or none");
        }
        if !are_parameters(&self.offsets, count, 0.0) {
            return Err("there must be one non-negative offset per prototype, or none");
        }
        if !are_parameters(&self.reach, segments, 0.0) {
            return Err("there must be one non-negative reach per segment, or none");
        }
        Ok(())
    }
}

/// Whether a list is empty, or has `length` values from `least` to [`MAX_PARAMETER`].
fn are_parameters(values: &[f32], length: usize, least: f32) -> bool {
    (values.is_empty() || values.len() == length)
        && values.iter().all(|x| (least..=MAX_PARAMETER).contains(x))
}

fn manhattan(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a_lanes, b_lanes) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_lanes.remainder().iter().zip(b_lanes.remainder());
    let rest: f32 = rest.map(|(x, y)| (x - y).abs()).sum();
    for (x, y) in a_lanes.zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += (x[lane] - y[lane]).abs();
        }
    }
    sums.iter().sum::<f32>() + rest
}

fn weighted(a: &[f32], b: &[f32], weights: &[f32], measure: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let lanes = (a.chunks_exact(LANES), b.chunks_exact(LANES), weights.chunks_exact(LANES));
    let rest = lanes.0.remainder().iter().zip(lanes.1.remainder()).zip(lanes.2.remainder());
    let rest: f32 = rest.map(|((x, y), weight)| weight * measure(x - y)).sum();
    for ((x, y), weight) in lanes.0.zip(lanes.1).zip(lanes.2) {
        for lane in 0..LANES {
            sums[lane] += weight[lane] * measure(x[lane] - y[lane]);
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Sum of the weighted measures of the differences, in `f64`; without weights they are 1.
fn sum_of_differences(a: &[f32], b: &[f32], weights: &[f32], measure: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0.0_f64; LANES];
    let difference = |x: f32, y: f32| measure(f64::from(x) - f64::from(y));
    let lanes = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = lanes.0.remainder().iter().zip(lanes.1.remainder());
    if weights.is_empty() {
        let rest: f64 = rest.map(|(x, y)| difference(*x, *y)).sum();
        for (x, y) in lanes.0.zip(lanes.1) {
            for lane in 0..LANES {
                sums[lane] += difference(x[lane], y[lane]);
            }
        }
        return sums.iter().sum::<f64>() + rest;
    }
    let weights = weights.chunks_exact(LANES);
    let rest = rest.zip(weights.remainder());
    let rest: f64 = rest.map(|((x, y), weight)| f64::from(*weight) * difference(*x, *y)).sum();
    for ((x, y), weight) in lanes.0.zip(lanes.1).zip(weights) {
        for lane in 0..LANES {
            sums[lane] += f64::from(weight[lane]) * difference(x[lane], y[lane]);
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_default(metric: &DistanceMetric) -> bool {
    *metric == DistanceMetric::default()
}
