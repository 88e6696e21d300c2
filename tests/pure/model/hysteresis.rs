//! Hysteresis: a customer stays in a segment although another one is slightly nearer.

use proptest::prelude::*;
use segmentd::domain::feature::{FeatureRow, FeatureValue};
use segmentd::domain::hysteresis::{
    HysteresisPolicy, MoveDecision, PreviousSegment, ScoredRow, SegmentAssignment, SegmentDistances,
};
use segmentd::domain::model::{Model, ScoringScratch};
use segmentd::domain::stats::RandomStream;
use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};

use crate::model::decision_function::{feature_rows, found, parts, rows, trained};
use crate::model::support::{normal, shop_model, shoppers};

const NOW: Timestamp = Timestamp::from_millis(19_700 * MILLIS_PER_DAY);

fn policy(hysteresis: f64, stay_days: i64) -> HysteresisPolicy {
    HysteresisPolicy { hysteresis, minimum_stay_millis: stay_days * MILLIS_PER_DAY }
}

fn policies() -> impl Strategy<Value = HysteresisPolicy> {
    let hysteresis = prop_oneof![Just(0.0), 0.0..0.99_f64];
    (hysteresis, 0..3_i64).prop_map(|(hysteresis, days)| policy(hysteresis, days))
}

/// The input of one decision.
fn after(
    assignment: SegmentAssignment,
    before: Option<PreviousSegment>,
    now: Timestamp,
) -> Option<PreviousSegment> {
    let segment = assignment.segment?;
    Some(match before {
        Some(before) if before.segment == segment => before,
        Some(_) => PreviousSegment { segment, moved_at: Some(now) },
        None => PreviousSegment { segment, moved_at: None },
    })
}

/// Decisions of one model about consecutive customers.
struct Desk<'a> {
    model: &'a Model,
    policy: HysteresisPolicy,
    scratch: ScoringScratch,
}

impl Desk<'_> {
    fn stand(
        &mut self,
        row: &FeatureRow,
        before: Option<PreviousSegment>,
        now: Timestamp,
    ) -> SegmentAssignment {
        let score = self.model.score(row, &mut self.scratch);
        let scored = ScoredRow { model: self.model, row, score: &score };
        self.policy.assign_segment(scored, before, now, &mut self.scratch)
    }
}

const fn distances(nearest: f32, current: f32) -> SegmentDistances {
    SegmentDistances { nearest, current }
}

proptest! {
    #[test]
    fn a_move_needs_the_distance_and_the_time(
        policy in policies(),
        (near, more) in (0.0..9.0_f32, 0.0..9.0_f32),
        hours in prop::option::of(0..96_i64),
    ) {
        let moved_at = hours.map(|hours| NOW.plus_millis(-hours * MILLIS_PER_DAY / 24));
        let held = near + more;
        let is_nearer = f64::from(near) < (1.0 - policy.hysteresis) * f64::from(held);
        let ends = moved_at.map(|at| at.plus_millis(policy.minimum_stay_millis));
        let expected = match ends.filter(|ends| *ends > NOW) {
            _ if policy.hysteresis > 0.0 && !is_nearer => MoveDecision::Stays,
            Some(ends) => MoveDecision::StaysUntil(ends),
            None => MoveDecision::Moves,
        };
        let decision = policy.decide_move(distances(near, held), moved_at, NOW);
        prop_assert_eq!(decision, expected);
        // A customer that moves remains a move when it is nearer to the new segment,
        // farther from the old one, or later.
        if decision == MoveDecision::Moves {
            let later = NOW.plus_millis(MILLIS_PER_DAY);
            prop_assert_eq!(policy.decide_move(distances(near / 2.0, held), moved_at, later), MoveDecision::Moves);
            prop_assert_eq!(policy.decide_move(distances(near, 2.0 * held), moved_at, later), MoveDecision::Moves);
            let freer = HysteresisPolicy { hysteresis: policy.hysteresis / 2.0, ..policy };
            prop_assert_eq!(freer.decide_move(distances(near, held), moved_at, NOW), MoveDecision::Moves);
        }
    }

    #[test]
    fn hysteresis_holds_for_every_decision_function(parts in parts(), policy in policies(), seed in any::<u64>()) {
        let mut rng = RandomStream::new(seed, 0);
        let points = rows(200, 5, &mut rng);
        let Ok(trained) = trained(&points, found(parts, &points, &mut rng)) else { return Ok(()) };
        let model = &trained.model;
        let mut desk = Desk { model, policy, scratch: model.scratch() };
        let mut free = Desk { model, policy: HysteresisPolicy::NEAREST, scratch: model.scratch() };
        for row in &feature_rows(&points) {
            let score = model.score(row, &mut desk.scratch);
            let own = model.distance_to_segment(row, score.nearest, &mut desk.scratch);
            prop_assert_eq!((own.distance, own.is_within_radius), (score.distance, score.is_within_radius));
            if let Some(next) = score.runner_up {
                let next = model.distance_to_segment(row, next, &mut desk.scratch);
                prop_assert_eq!(next.distance, score.runner_up_distance);
            }
            let hours = i64::try_from(rng.uniform_below(96)).unwrap();
            let moved_at = Some(NOW.plus_millis(-hours * MILLIS_PER_DAY / 24));
            let segment = rng.uniform_below(model.segments().len());
            for before in [None, Some(PreviousSegment { segment, moved_at })] {
                let assignment = desk.stand(row, before, NOW);
                // Either retained, or assigned as without hysteresis.
                let nearest = free.stand(row, before, NOW);
                prop_assert_eq!(nearest.segment, score.segment());
                prop_assert_eq!(nearest.confidence, score.confidence());
                if assignment.is_retained_by_hysteresis {
                    let apart = model.distance_to_segment(row, segment, &mut desk.scratch);
                    prop_assert!(assignment.segment == Some(segment) && before.is_some());
                    prop_assert!(score.is_within_radius && apart.is_within_radius && segment != score.nearest);
                    prop_assert_eq!((assignment.distance, assignment.confidence), (apart.distance, 0.0));
                } else {
                    prop_assert_eq!(assignment, nearest);
                }
                // A repeated decision keeps the assignment.
                let again = desk.stand(row, after(assignment, before, NOW), NOW);
                prop_assert_eq!(again.segment, assignment.segment);
            }
        }
    }

    #[test]
    fn a_customer_within_the_hysteresis_band_never_moves(
        hysteresis in 0.05..0.9_f64,
        swings in prop::collection::vec(-0.99..0.99_f64, 1..60),
    ) {
        let mut rng = RandomStream::new(7, 0);
        let points = rows(200, 2, &mut rng);
        let parts = crate::model::decision_function::Parts {
            several: false, weights: false, offsets: false, reach: false, manhattan: false,
            projection: 0,
        };
        let trained = trained(&points, found(parts, &points, &mut rng)).unwrap();
        let model = &trained.model;
        let rows = model.decision_function().prototypes().rows();
        let places: Vec<Vec<f64>> =
            rows.map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect();
        let mut desk = Desk { model, policy: policy(hysteresis, 0), scratch: model.scratch() };
        // Between two prototypes, the nearer distance is (1 - h) of the farther one at (1 -
        // h) / (2 - h) of the path.
        let least = (1.0 - hysteresis) / (2.0 - hysteresis);
        let mut before = None;
        for swing in swings {
            let share = 0.5 + swing * (0.5 - least);
            let between = |i: usize| places[0][i] + share * (places[1][i] - places[0][i]);
            let row = FeatureRow(vec![FeatureValue::Number(between(0)), FeatureValue::Number(between(1))]);
            let score = model.score(&row, &mut desk.scratch);
            // Unless the third prototype is in between.
            prop_assume!(score.nearest < 2);
            let assignment = desk.stand(&row, before, NOW);
            let next = after(assignment, before, NOW);
            prop_assert!(before.is_none() || next == before, "{before:?} became {next:?}");
            before = next;
        }
    }
}

/// The number of moves, and of those that are reverted within a week.
#[derive(Debug, Default)]
struct Moves {
    all: u32,
    returns: u32,
}

/// Sixty days of customers near a border, whose features drift a little and vary
/// from day to day.
fn sixty_days(model: &Model, customers: &[FeatureRow], policy: HysteresisPolicy) -> Moves {
    let mut desk = Desk { model, policy, scratch: model.scratch() };
    let mut moves = Moves::default();
    for (number, row) in customers.iter().enumerate() {
        let mut rng = RandomStream::new(60, number as u64);
        let mut drift = (0.0, 0.0);
        let mut before: Option<PreviousSegment> = None;
        let mut left: Option<(usize, Timestamp)> = None;
        for day in 0..60 {
            let now = NOW.plus_millis(day * MILLIS_PER_DAY);
            drift = (drift.0 + 0.02 * normal(&mut rng), drift.1 + 0.2 * normal(&mut rng));
            let [spend, recency] = [0, 1].map(|at| match row.0[at] {
                FeatureValue::Number(x) => x,
                _ => unreachable!("spend and recency are known"),
            });
            let mut today = row.clone();
            today.0[0] = FeatureValue::Number(spend * (drift.0 + 0.05 * normal(&mut rng)).exp());
            today.0[1] = FeatureValue::Number(recency + drift.1 + 0.5 * normal(&mut rng));
            let next = after(desk.stand(&today, before, now), before, now);
            if let (Some(from), Some(to)) = (before, next)
                && from.segment != to.segment
            {
                moves.all += 1;
                let week = 7 * MILLIS_PER_DAY;
                let is_back = left.is_some_and(|(segment, at)| {
                    segment == to.segment && now.millis() - at.millis() < week
                });
                moves.returns += u32::from(is_back);
                left = Some((from.segment, now));
            }
            before = next;
        }
    }
    moves
}

#[test]
#[expect(clippy::print_stdout, reason = "figures for tests/bench/README.md")]
fn customers_at_a_border_stop_flapping() {
    let model = shop_model().model;
    let mut scratch = model.scratch();
    let mut near = shoppers(6000, 2);
    near.retain(|row| model.score(row, &mut scratch).confidence() < 0.1);
    let of = |hysteresis, days| sixty_days(&model, &near, policy(hysteresis, days));
    let (free, held) = (of(0.0, 0), of(0.1, 0));
    let (stayed, both) = (of(0.0, 7), of(0.1, 7));
    println!("{} customers near a border, 60 days", near.len());
    println!("free {free:?}, h = 0.1 {held:?}, a week's stay {stayed:?}, both {both:?}");
    assert!(near.len() >= 100 && free.returns as usize > near.len(), "{free:?}");
    assert!(5 * held.returns < free.returns && 3 * held.all < free.all, "{free:?} {held:?}");
    // With a minimum stay of a week no move is reverted within a week.
    assert!(stayed.returns == 0 && both.returns == 0);
    assert!(stayed.all < free.all && both.all <= held.all, "{stayed:?} {both:?}");
}
