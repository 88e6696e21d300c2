//! Whether a stored customer who is nearer to another segment goes there.
//!
//! Where two segments meet, customers would go to and fro with every event, and
//! whoever acts on it would act twice. So a customer stays in its segment until
//! another is nearer by a share h of the distance, the hysteresis:
//!
//!   it moves only if d(nearest) < (1 - h) · d(held)
//!
//! with d as in [`Score::distance`], the root of what `Form::two_nearest` compares,
//! offsets included (with the Manhattan metric that itself). So no segment is ever
//! left for a farther one, with h = 0 everybody is where the nearest is, and a
//! customer who has just moved is where the nearest is and stays. Who has moved
//! besides stays for a minimum time.
//!
//! Being in no segment is not a place to be kept in or out of: neither rule keeps
//! a customer in a segment while the nearest one does not reach it, nor in one
//! whose own reach it has left.

use crate::domain::feature::FeatureRow;
use crate::domain::model::{Model, Score, Scratch, Stay};
use crate::domain::time::Timestamp;

/// What a stored customer is kept in its segment by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// From 0, where the nearest segment is the one, to below 1.
    pub hysteresis: f64,
    /// 0: none.
    pub minimum_stay_millis: i64,
}

/// Where a customer stood before, in terms of the model that answers now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    pub segment: usize,
    /// When it came from another one; `None`: long ago, or never.
    pub moved_at: Option<Timestamp>,
}

/// What became of a customer to whom another segment is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Moves,
    /// The other one is not nearer by enough.
    Stays,
    /// It moves then, if it would still.
    StaysUntil(Timestamp),
}

/// Where a customer stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// `None`: in none.
    pub segment: Option<usize>,
    /// To the segment; where in none, to the nearest.
    pub distance: f32,
    /// As of [`Score::confidence`]; 0 where another segment is nearer.
    pub confidence: f32,
    /// Another segment is nearer.
    pub is_held: bool,
    /// It would be in the nearest segment, but for the minimum stay, which ends then.
    pub bound_until: Option<Timestamp>,
}

impl Policy {
    /// Everybody is in the nearest segment, at any time.
    pub const NEAREST: Self = Self { hysteresis: 0.0, minimum_stay_millis: 0 };

    /// What a customer does who is in a segment at the distance `held`, while
    /// another one is nearest, at the distance `nearest`.
    pub fn decide(
        self,
        (nearest, held): (f32, f32),
        moved_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Decision {
        let is_nearer = f64::from(nearest) < self.share() * f64::from(held);
        // Where two are equally near, the first of them is the nearest.
        if !is_nearer && self.hysteresis > 0.0 {
            return Decision::Stays;
        }
        // One who moved later than now did so by a clock that was wrong.
        let ends =
            moved_at.filter(|at| *at <= now).map(|at| at.plus_millis(self.minimum_stay_millis));
        ends.filter(|ends| now < *ends).map_or(Decision::Moves, Decision::StaysUntil)
    }

    /// Where the customer of `row` stands, of whom `model` says `score`. `before` is
    /// `None` for one who was in no segment, or in none of this model.
    pub fn stand(
        self,
        (model, row): (&Model, &FeatureRow),
        score: &Score,
        before: Option<Before>,
        now: Timestamp,
        scratch: &mut Scratch,
    ) -> Standing {
        let nearest = Standing {
            segment: score.segment(),
            distance: score.distance,
            confidence: score.confidence(),
            is_held: false,
            bound_until: None,
        };
        let Some(Before { segment, moved_at }) = before else { return nearest };
        if self == Self::NEAREST || segment == score.nearest || !score.reached {
            return nearest;
        }
        let held = model.apart(row, segment, scratch);
        if !held.reached {
            return nearest;
        }
        let bound_until = match self.decide((score.distance, held.distance), moved_at, now) {
            Decision::Moves => return nearest,
            Decision::Stays => None,
            Decision::StaysUntil(end) => Some(end),
        };
        Standing {
            segment: Some(segment),
            distance: held.distance,
            confidence: 0.0,
            is_held: true,
            bound_until,
        }
    }

    /// Where another segment is nearer than this share of the distance, it is nearer
    /// by enough.
    fn share(self) -> f64 {
        1.0 - self.hysteresis
    }
}

impl Standing {
    /// In the nearest segment, by the rules of `policy` from now on.
    pub(in crate::domain) fn stay(&self, policy: Policy) -> Stay {
        let share = if self.bound_until.is_some() { 0.0 } else { policy.share() };
        Stay { segment: self.segment, share }
    }
}
