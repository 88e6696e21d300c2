//! Hysteresis: when a stored customer moves to a nearer segment.
//!
//! At the border of two segments, each event could move a customer back and forth, and every
//! subscriber would act each time. So a customer keeps its segment until another one is nearer
//! by a share h of the distance, the hysteresis:
//!
//!   it moves only if d(nearest) < (1 - h) · d(current)
//!
//! d is the distance of a score, the root of the value that `DecisionFunction::two_nearest`
//! compares, offsets included (with the Manhattan metric, the value itself). It follows that a
//! segment is never left for a farther one, that h = 0 always assigns the nearest segment, and
//! that a customer who has just moved is in the nearest segment and remains there. After a move, a
//! customer also remains for a minimum time.
//!
//! Both rules apply only between two segments. Neither retains a customer in a segment while
//! the nearest one does not contain it, nor in a segment whose own radius it has left.

use crate::domain::feature::FeatureRow;
use crate::domain::model::{Model, RetainedSegment, ScoringScratch, SegmentScore};
use crate::domain::time::Timestamp;

/// Hysteresis settings of a deployment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HysteresisPolicy {
    /// Required relative distance advantage: from 0 (always the nearest segment) to below 1.
    pub hysteresis: f64,
    /// Minimum time in a segment after a move; 0 for none.
    pub minimum_stay_millis: i64,
}

/// The previous assignment, in terms of the model that scores now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviousSegment {
    pub segment: usize,
    /// Time of the last move from another segment; `None` if that is long ago or never
    /// happened.
    pub moved_at: Option<Timestamp>,
}

/// Distances of a customer to the nearest segment and to its current one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentDistances {
    pub nearest: f32,
    pub current: f32,
}

/// A feature row with its score and the model that gave it.
#[derive(Debug, Clone, Copy)]
pub struct ScoredRow<'a> {
    pub model: &'a Model,
    pub row: &'a FeatureRow,
    pub score: &'a SegmentScore,
}

/// Outcome of the hysteresis rules for a customer with a nearer segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveDecision {
    Moves,
    /// The nearer segment is not nearer by the required share.
    Stays,
    /// The minimum stay ends at this instant. The customer moves then if the nearer segment is
    /// still nearer by enough.
    StaysUntil(Timestamp),
}

/// An assignment: the segment of a customer after hysteresis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentAssignment {
    /// `None` for a customer in no segment.
    pub segment: Option<usize>,
    /// Distance to the assigned segment; for a customer in none, to the nearest.
    pub distance: f32,
    /// Confidence of the score; 0 where another segment is nearer.
    pub confidence: f32,
    /// Retained by hysteresis or minimum stay: another segment is nearer.
    pub is_retained_by_hysteresis: bool,
    /// End of the minimum stay, if the stay alone keeps the customer from moving to the nearest
    /// segment.
    pub minimum_stay_ends_at: Option<Timestamp>,
}

impl HysteresisPolicy {
    /// No hysteresis: every customer is always in the nearest segment.
    pub const NEAREST: Self = Self { hysteresis: 0.0, minimum_stay_millis: 0 };

    /// Decides between the customer's current segment and a nearer one.
    pub fn decide_move(
        self,
        distances: SegmentDistances,
        moved_at: Option<Timestamp>,
        now: Timestamp,
    ) -> MoveDecision {
        let SegmentDistances { nearest, current } = distances;
        let is_nearer = f64::from(nearest) < self.share() * f64::from(current);
        // Of two segments at equal distance, the one with the lower index counts as nearest. So
        // h = 0 must not compare distances here: the customer would remain in the other one.
        if !is_nearer && self.hysteresis > 0.0 {
            return MoveDecision::Stays;
        }
        // A move later than `now` was written by a wrong clock, and starts no minimum stay.
        let ends =
            moved_at.filter(|at| *at <= now).map(|at| at.plus_millis(self.minimum_stay_millis));
        ends.filter(|ends| now < *ends).map_or(MoveDecision::Moves, MoveDecision::StaysUntil)
    }

    /// Applies the hysteresis rules to a score. `before` is `None` for a customer who was in no
    /// segment, or in none of this model.
    pub fn assign_segment(
        self,
        scored: ScoredRow<'_>,
        before: Option<PreviousSegment>,
        now: Timestamp,
        scratch: &mut ScoringScratch,
    ) -> SegmentAssignment {
        let ScoredRow { model, row, score } = scored;
        let nearest = SegmentAssignment {
            segment: score.segment(),
            distance: score.distance,
            confidence: score.confidence(),
            is_retained_by_hysteresis: false,
            minimum_stay_ends_at: None,
        };
        let Some(PreviousSegment { segment, moved_at }) = before else { return nearest };
        if self == Self::NEAREST || segment == score.nearest || !score.is_within_radius {
            return nearest;
        }
        let current = model.distance_to_segment(row, segment, scratch);
        if !current.is_within_radius {
            return nearest;
        }
        let distances = SegmentDistances { nearest: score.distance, current: current.distance };
        let bound_until = match self.decide_move(distances, moved_at, now) {
            MoveDecision::Moves => return nearest,
            MoveDecision::Stays => None,
            MoveDecision::StaysUntil(end) => Some(end),
        };
        SegmentAssignment {
            segment: Some(segment),
            distance: current.distance,
            confidence: 0.0,
            is_retained_by_hysteresis: true,
            minimum_stay_ends_at: bound_until,
        }
    }

    /// The factor on the current distance below which another segment is near enough to move
    /// to.
    fn share(self) -> f64 {
        1.0 - self.hysteresis
    }
}

impl SegmentAssignment {
    /// The condition under which this assignment remains the same by the rules of `policy`.
    pub(in crate::domain) fn invariance_condition(
        &self,
        policy: HysteresisPolicy,
    ) -> RetainedSegment {
        let share = if self.minimum_stay_ends_at.is_some() { 0.0 } else { policy.share() };
        RetainedSegment { segment: self.segment, retention_share: share }
    }
}
