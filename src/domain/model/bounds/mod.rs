//! Invariance bounds: proves by interval arithmetic that a score stays the same while the
//! encoded columns vary within a box.
//!
//! Rescoring uses this to skip customers if the passage of time cannot change their answer.
//! The segment is invariant in a box if every prototype of another segment is
//! farther than the customer's own prototype, everywhere in the box. With a projection, the
//! box is replaced by a box around its images: see [`projection`].
//!
//! With hysteresis of strength h, a customer leaves its segment for another at distance
//! d < (1 - h) · d(own). In powers that is a power below (1 - h)² times its own, or (1 - h)
//! times with the Manhattan metric; both powers include the offsets. So only a *share* of
//! the own power counts.

pub(crate) mod interval;
pub(crate) mod margin;
pub(crate) mod projection;

use crate::domain::feature::FeatureRow;
use crate::domain::model::bounds::interval::{ColumnInterval, UNIT_ROUNDING};
use crate::domain::model::bounds::margin::{MarginOrigin, PowerRange, PrototypeMargins};
use crate::domain::model::bounds::projection::project_intervals;
use crate::domain::model::{Model, ScoringScratch, SegmentScore};

pub(crate) use crate::domain::model::bounds::interval::ColumnSpan;

/// Previous assignment of a customer, with its hysteresis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RetainedSegment {
    /// The assigned segment, the nearest or not; `None`: unassigned.
    pub(crate) segment: Option<usize>,
    /// The customer leaves only if another segment is nearer than this share of the
    /// distance; 0: never.
    pub(crate) retention_share: f64,
}

/// Invariance check of one row's answer: its segment (or none) and its outlier flag.
#[derive(Debug)]
pub(crate) struct InvarianceCheck<'a> {
    model: &'a Model,
    /// The score whose answer may change.
    score: &'a SegmentScore,
    vector: &'a [f32],
    /// Input of the decision function: the vector, or its projection.
    decision_vector: &'a [f32],
    /// Power of each prototype at the decision vector.
    powers: &'a mut Vec<f64>,
    /// Margins from the assigned segment's prototype: could another segment win?
    own: PrototypeMargins<'a>,
    /// Margins from the nearest prototype, which matter with radii only.
    nearest: Option<PrototypeMargins<'a>>,
    intervals: &'a mut Vec<ColumnInterval>,
    projected: &'a mut Vec<ColumnInterval>,
    /// Hysteresis is total: no other segment can win.
    is_retained: bool,
    /// Relative rounding error of a computed power.
    rounding: f64,
    is_outlier: bool,
    outlier_alpha: f64,
}

impl Model {
    /// Prepares the invariance check of the answer for `row`, of which `score` is the score;
    /// `stay` is the previous assignment. Never allocates once `scratch` has grown.
    pub(crate) fn check_invariance<'a>(
        &'a self,
        row: &FeatureRow,
        score: &'a SegmentScore,
        stay: RetainedSegment,
        outlier_alpha: f64,
        scratch: &'a mut ScoringScratch,
    ) -> InvarianceCheck<'a> {
        self.document.encode_row(row, scratch);
        let (decision_function, projection, width) =
            (self.decision_function(), self.projection(), self.encoder().width());
        let ScoringScratch { vector, image, powers, own_shifts, nearest_shifts, .. } = scratch;
        let (intervals, projected) = (&mut scratch.intervals, &mut scratch.projected);
        let vector = &vector[..width];
        let decision_vector =
            projection.map_or(vector, |projection| &image[..projection.width(width)]);
        let (prototype, share) = match stay.segment {
            None => (score.prototype, 1.0),
            Some(segment) if segment == score.nearest => (score.prototype, stay.retention_share),
            Some(segment) => (
                decision_function.nearest_prototype_of(segment, decision_vector).prototype,
                stay.retention_share,
            ),
        };
        let own =
            MarginOrigin { prototype, power_share: decision_function.distance_to_power(share) };
        let nearest = MarginOrigin { prototype: score.prototype, power_share: 1.0 };
        decision_function.powers(decision_vector, powers);
        InvarianceCheck {
            model: self,
            score,
            vector,
            decision_vector,
            powers,
            own: PrototypeMargins::new(own, own_shifts),
            nearest: decision_function
                .has_radius()
                .then(|| PrototypeMargins::new(nearest, nearest_shifts)),
            intervals,
            projected,
            is_retained: share <= 0.0,
            // One roundoff per addition in each of eight lanes, and a margin of 18 for the
            // subtraction, the square, the weight, the offset and the sum of the lanes.
            rounding: (decision_vector.len() as f64 / 8.0 + 18.0) * UNIT_ROUNDING,
            is_outlier: score.is_outlier(outlier_alpha),
            outlier_alpha,
        }
    }
}

impl InvarianceCheck<'_> {
    /// Whether the answer is the same for all values within `spans`; columns without a span
    /// do not vary.
    pub(crate) fn is_invariant_within(&mut self, spans: impl Iterator<Item = ColumnSpan>) -> bool {
        let Self { intervals, vector, .. } = self;
        intervals.clear();
        intervals
            .extend(spans.filter_map(|span| ColumnInterval::widened(span, vector[span.column])));
        self.intervals.is_empty() || (self.outlier_flag_holds() && self.segment_holds())
    }

    fn outlier_flag_holds(&self) -> bool {
        let outlier_reference = self.model.outlier_reference();
        let limit = outlier_reference.limit(self.outlier_alpha);
        outlier_reference.stays(self.vector, self.intervals, self.is_outlier, limit)
    }

    fn segment_holds(&mut self) -> bool {
        let (model, decision_vector) = (self.model, self.decision_vector);
        let intervals = match model.projection() {
            None => &*self.intervals,
            Some(projection) => {
                if !project_intervals(projection, self.vector, self.intervals, self.projected) {
                    return false;
                }
                &*self.projected
            }
        };
        let decision_function = model.decision_function();
        self.own.set_box(decision_function, decision_vector, intervals);
        if let Some(nearest) = &mut self.nearest {
            nearest.set_box(decision_function, decision_vector, intervals);
        }
        let own_most = PowerRange::within(
            decision_function,
            decision_vector,
            self.own.origin.prototype,
            intervals,
        )
        .most;
        self.is_kept(own_most)
            && self.nearest.as_ref().is_none_or(|nearest| {
                self.is_on_its_side(nearest, intervals)
                    && self.stays_within_radius(own_most, intervals)
            })
    }

    /// Whether the customer stays in its segment: no other segment comes near enough, with
    /// rounding considered. The power of the own prototype is at most `most`.
    fn is_kept(&self, most: f64) -> bool {
        let decision_function = self.model.decision_function();
        let own_segment = decision_function.segment_of(self.own.origin.prototype);
        let slack = self.slack(most);
        self.is_retained
            || (0..decision_function.prototypes().count())
                .filter(|other| decision_function.segment_of(*other) != own_segment)
                .all(|other| self.own.least(decision_function, self.powers, other) > slack)
    }

    /// Whether the customer stays on its side of the radius of every segment that can become the
    /// nearest.
    fn is_on_its_side(&self, nearest: &PrototypeMargins<'_>, intervals: &[ColumnInterval]) -> bool {
        let decision_function = self.model.decision_function();
        let old_nearest = nearest.origin.prototype;
        let most =
            PowerRange::within(decision_function, self.decision_vector, old_nearest, intervals)
                .most;
        let slack = self.slack(most);
        (0..decision_function.prototypes().count())
            .filter(|other| nearest.least(decision_function, self.powers, *other) <= slack)
            .all(|other| {
                let mut power =
                    PowerRange::within(decision_function, self.decision_vector, other, intervals);
                // While `other` is the nearest, its power is at most that of the old nearest.
                power.most = power.most.min(most);
                self.keeps_radius(other, power, self.score.is_within_radius)
            })
    }

    /// Whether the customer stays within the radius of its assigned segment, the nearest or
    /// not. The power of the own prototype is at most `most`.
    fn stays_within_radius(&self, most: f64, intervals: &[ColumnInterval]) -> bool {
        let decision_function = self.model.decision_function();
        let own_segment = decision_function.segment_of(self.own.origin.prototype);
        // If the own segment is the nearest, `is_on_its_side` has checked its radius.
        if own_segment == self.score.nearest {
            return true;
        }
        let slack = self.slack(most);
        (0..decision_function.prototypes().count())
            .filter(|other| decision_function.segment_of(*other) == own_segment)
            .filter(|sibling| self.own.least(decision_function, self.powers, *sibling) <= slack)
            .all(|sibling| {
                let mut power =
                    PowerRange::within(decision_function, self.decision_vector, sibling, intervals);
                power.most = power.most.min(most);
                self.keeps_radius(sibling, power, true)
            })
    }

    fn keeps_radius(&self, prototype: usize, power: PowerRange, is_reached: bool) -> bool {
        let decision_function = self.model.decision_function();
        let radius = decision_function.distance_to_power(f64::from(
            decision_function.reach(decision_function.segment_of(prototype)),
        ));
        let offset = f64::from(decision_function.offset(prototype));
        let slack = self.slack_of_distance(power.most);
        if is_reached {
            power.most - offset + slack < radius || radius.is_infinite()
        } else {
            power.least - offset - slack > radius
        }
    }

    /// Bound of the rounding error in the difference of two powers of at most `most`.
    fn slack(&self, most: f64) -> f64 {
        3.0 * self.rounding * most + f64::from(f32::MIN_POSITIVE)
    }

    /// Bound of the rounding error in a power that scoring compares as a distance. Eight unit
    /// roundings cover the additional operations: the root, the division by the segment's
    /// scale, and the multiplication of the limit by that scale.
    fn slack_of_distance(&self, most: f64) -> f64 {
        (self.rounding + 8.0 * UNIT_ROUNDING) * most
    }
}
