//! How a model tells near from far, whatever algorithm found its segments.
//!
//! A customer is in the segment of the prototype p of least
//! Σ wⱼ (xⱼ − pⱼ)² + offset, or with the Manhattan metric of least
//! Σ wⱼ |xⱼ − pⱼ| + offset; w belongs to the segment, the offset to the
//! prototype. Beyond its segment's reach a customer is in none. Plain k-means
//! has none of this and goes straight through the kernel.

use serde::{Deserialize, Serialize};

use crate::domain::encode::MAX_ENCODED;
use crate::domain::model::kernel::{
    NO_RUNNER_UP, Places, Prototypes, TwoNearest, squared_distance,
};

/// The most prototypes a model may have, over all its segments.
pub const MAX_PROTOTYPES: usize = 4096;
/// Weights, offsets and reaches stay below this.
const MAX_PARAMETER: f32 = 1e18;
/// As in the kernel: partial sums side by side, in a fixed order.
const LANES: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    #[default]
    Euclidean,
    Manhattan,
}

/// Prototypes, and the measure by which one is nearest. What is empty is left
/// out of the document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Form {
    pub(in crate::domain) prototypes: Prototypes,
    /// One a prototype: the segment it stands for. Empty: prototype i stands for
    /// segment i.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::domain) segment_of: Vec<usize>,
    /// Segment by segment, one weight a column. Empty: all 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::domain) weights: Vec<f32>,
    /// One a prototype, the least of them 0. Empty: all 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::domain) offsets: Vec<f32>,
    /// One a segment: the distance, without the offset, beyond which nobody
    /// belongs to it. Empty: everybody belongs somewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::domain) reach: Vec<f32>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(in crate::domain) metric: Metric,
}

/// The nearest segment and the next; [`Form::distance`] makes distances of powers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Near {
    pub segment: usize,
    /// The prototype of that segment that is nearest.
    pub prototype: usize,
    /// What is least: a squared distance, or with the Manhattan metric a
    /// distance, and the offset.
    pub power: f32,
    /// Whether the customer is within the segment's reach.
    pub reached: bool,
    /// The next nearest segment; `None` when there is one segment only.
    pub runner_up: Option<usize>,
    /// Infinite when there is one segment only.
    pub runner_up_power: f32,
}

/// One segment, near or not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Own {
    /// The prototype of the segment that is nearest.
    pub(super) prototype: usize,
    pub(super) power: f32,
    pub(super) reached: bool,
}

impl Form {
    /// One prototype a segment and the Euclidean distance, as k-means has it.
    pub fn plain(prototypes: Prototypes) -> Self {
        Self {
            prototypes,
            segment_of: Vec::new(),
            weights: Vec::new(),
            offsets: Vec::new(),
            reach: Vec::new(),
            metric: Metric::Euclidean,
        }
    }

    pub fn prototypes(&self) -> &Prototypes {
        &self.prototypes
    }

    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Whether a customer can be in no segment.
    pub fn has_reach(&self) -> bool {
        !self.reach.is_empty()
    }

    /// The segment that a prototype stands for.
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

    /// Infinite where nobody is too far.
    pub(super) fn reach(&self, segment: usize) -> f32 {
        self.reach.get(segment).copied().unwrap_or(f32::INFINITY)
    }

    /// The distance that a power stands for.
    pub fn distance(&self, power: f32) -> f32 {
        match self.metric {
            Metric::Euclidean => power.sqrt(),
            Metric::Manhattan => power,
        }
    }

    /// The power that a distance stands for.
    pub(super) fn power_of(&self, distance: f64) -> f64 {
        match self.metric {
            Metric::Euclidean => distance * distance,
            Metric::Manhattan => distance,
        }
    }

    /// The two segments nearest to `vector`, in one pass; of equally near ones
    /// the one whose prototype comes first. Never allocates.
    pub fn two_nearest(&self, vector: &[f32]) -> Near {
        let near = if self.is_plain() {
            let TwoNearest { nearest, nearest_squared, second, second_squared } =
                self.prototypes.two_nearest(vector);
            Near {
                segment: nearest,
                prototype: nearest,
                power: nearest_squared,
                reached: true,
                runner_up: second,
                runner_up_power: second_squared,
            }
        } else {
            self.scan(vector)
        };
        self.within_reach(near)
    }

    /// [`Self::two_nearest`] of each of `vectors`, which lie row by row, to the last
    /// bit.
    pub fn two_nearest_of_each(&self, vectors: &[f32]) -> Vec<Near> {
        let rows = vectors.chunks_exact(self.prototypes.width().max(1));
        if !self.is_plain() {
            return rows.map(|row| self.two_nearest(row)).collect();
        }
        let mut places = Places::default();
        self.prototypes.prepare().place(vectors, &mut places);
        let found = places.nearest.iter().zip(&places.squared).zip(&places.runners_up);
        rows.zip(found)
            .map(|(row, ((nearest, squared), runner_up))| {
                let runner_up = (*runner_up != NO_RUNNER_UP).then_some(*runner_up as usize);
                self.within_reach(Near {
                    segment: *nearest as usize,
                    prototype: *nearest as usize,
                    power: *squared,
                    reached: true,
                    runner_up,
                    runner_up_power: runner_up.map_or(f32::INFINITY, |other| {
                        squared_distance(row, self.prototypes.row(other))
                    }),
                })
            })
            .collect()
    }

    /// Whether it is all prototypes of segments of their own, by the Euclidean
    /// distance alone.
    fn is_plain(&self) -> bool {
        self.metric == Metric::Euclidean
            && self.weights.is_empty()
            && self.offsets.is_empty()
            && self.segment_of.is_empty()
    }

    fn within_reach(&self, mut near: Near) -> Near {
        near.reached = self.is_reached(near.prototype, near.power);
        near
    }

    /// The prototype of one segment that is nearest to `vector`, by the same
    /// measure: no other segment is nearer than the one that [`Self::two_nearest`]
    /// finds. Never allocates.
    pub(super) fn nearest_of(&self, segment: usize, vector: &[f32]) -> Own {
        let mut own = Own { prototype: 0, power: f32::INFINITY, reached: false };
        for prototype in 0..self.prototypes.count() {
            if self.segment_of(prototype) == segment {
                let power = self.power(vector, prototype);
                if power < own.power {
                    own = Own { prototype, power, reached: self.is_reached(prototype, power) };
                }
            }
        }
        own
    }

    fn is_reached(&self, prototype: usize, power: f32) -> bool {
        self.reach.is_empty() || {
            let own = (power - self.offset(prototype)).max(0.0);
            self.distance(own) <= self.reach(self.segment_of(prototype))
        }
    }

    /// What is least for the nearest prototype.
    fn power(&self, vector: &[f32], index: usize) -> f32 {
        let prototype = self.prototypes.row(index);
        let weights = self.weights(self.segment_of(index));
        let measured = match self.metric {
            Metric::Euclidean if weights.is_empty() => squared_distance(vector, prototype),
            Metric::Euclidean => weighted(vector, prototype, weights, |d| d * d),
            Metric::Manhattan if weights.is_empty() => manhattan(vector, prototype),
            Metric::Manhattan => weighted(vector, prototype, weights, f32::abs),
        };
        // Heavy weights on far columns overflow: as far as can be told.
        (measured + self.offset(index)).min(f32::MAX)
    }

    fn scan(&self, vector: &[f32]) -> Near {
        let mut near = Near {
            segment: self.segment_of(0),
            prototype: 0,
            power: f32::INFINITY,
            reached: true,
            runner_up: None,
            runner_up_power: f32::INFINITY,
        };
        for index in 0..self.prototypes.count() {
            let segment = self.segment_of(index);
            let power = self.power(vector, index);
            if power < near.power {
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

    /// Each column's part in the distance from `vector` to a prototype.
    pub(super) fn parts(&self, vector: &[f32], prototype: usize) -> impl Iterator<Item = f64> {
        let weights = self.weights(self.segment_of(prototype));
        vector.iter().zip(self.prototypes.row(prototype)).enumerate().map(
            move |(column, (x, p))| {
                let weight = weights.get(column).map_or(1.0, |weight| f64::from(*weight));
                let difference = f64::from(*x) - f64::from(*p);
                weight
                    * match self.metric {
                        Metric::Euclidean => difference * difference,
                        Metric::Manhattan => difference.abs(),
                    }
            },
        )
    }

    /// What is wrong with a form read from outside.
    pub(super) fn check(&self, segments: usize, width: usize) -> Result<(), &'static str> {
        if !self.prototypes.is_whole() || self.prototypes.width() != width {
            return Err("the prototypes must be as wide as the encoded vector");
        }
        let count = self.prototypes.count();
        if count > MAX_PROTOTYPES {
            return Err("there are more than 4096 prototypes");
        }
        if !self.prototypes.is_within(MAX_ENCODED) {
            return Err("a prototype is out of range");
        }
        if self.segment_of.is_empty() && count != segments {
            return Err("there must be one prototype a segment, or `segment_of`");
        }
        if !self.segment_of.is_empty() {
            let mut has_prototype = vec![false; segments];
            for segment in &self.segment_of {
                let Some(seen) = has_prototype.get_mut(*segment) else {
                    return Err("a prototype stands for a segment that does not exist");
                };
                *seen = true;
            }
            if self.segment_of.len() != count || has_prototype.contains(&false) {
                return Err("every prototype must stand for a segment, and every segment have one");
            }
        }
        let are = |values: &[f32], length: usize, least: f32| {
            (values.is_empty() || values.len() == length)
                && values.iter().all(|x| (least..=MAX_PARAMETER).contains(x))
        };
        if !are(&self.weights, segments * width, f32::MIN_POSITIVE) {
            return Err("there must be one positive weight a segment and column, or none");
        }
        if !are(&self.offsets, count, 0.0) {
            return Err("there must be one offset a prototype, not negative, or none");
        }
        if !are(&self.reach, segments, 0.0) {
            return Err("there must be one reach a segment, not negative, or none");
        }
        Ok(())
    }
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_default(metric: &Metric) -> bool {
    *metric == Metric::default()
}
