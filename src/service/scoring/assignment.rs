//! From customer state to stored assignment: score, apply hysteresis
//! (`domain::hysteresis`) to the previous assignment, and compute when time alone may
//! change the result.

use crate::domain::feature::CustomerState;
use crate::domain::model::Scratch;
use crate::domain::time::Timestamp;
use crate::service::scoring::deployment::Lineup;
use crate::service::scoring::observations::Tally;
use crate::store::customers::assignments::{Assignment, Held};

/// Maximum of customers to score on an async thread: more would block it for longer than
/// half a millisecond (some 10 µs each).
pub const CUSTOMERS_IN_PLACE: usize = 48;

/// Scores one customer for storage, with its previous assignment `held`. A score that a
/// response depends on is counted in `tally`.
///
/// The returned instant of the next rescore may be capped at `no_later`: rescoring too
/// early is harmless, and the cap saves the search for a later instant.
pub fn assign(
    lineup: &Lineup,
    tally: Option<&mut Tally>,
    (state, held): (&CustomerState, Option<&Held>),
    scratch: &mut Scratch,
    now: Timestamp,
    no_later: Option<Timestamp>,
) -> (Assignment, Option<Timestamp>) {
    let row = state.row(&lineup.features, now);
    let verdict = lineup.score(&row, scratch);
    if let Some(tally) = tally {
        lineup.note(tally, &row, &verdict);
    }
    let standing = lineup.stand(&row, &verdict, held, now, scratch);
    let segment = match standing {
        Some(standing) => lineup.key(&standing),
        None => verdict.segment,
    };
    let assignment = Assignment {
        model: verdict.model.cloned(),
        segment: segment.to_owned(),
        distance: standing.map(|standing| standing.distance),
        p_value: verdict.score.map(|score| score.p_value),
        confidence: standing.map(|standing| standing.confidence),
        outlier: verdict.outlier,
        held: standing.is_some_and(|standing| standing.is_held),
        generation: lineup.generation,
        assigned_at: now,
        moved_at: held.and_then(|held| {
            // The change from rule-based to model assignment is not a move.
            let moves = standing.is_some() && !held.fallback && held.segment != segment;
            if moves { Some(now) } else { held.moved_at }
        }),
    };
    (assignment, lineup.recheck_at((state, &row, standing), (now, no_later), scratch))
}
