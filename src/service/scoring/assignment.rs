//! What a customer's state becomes when it is stored: one assignment, by the rules
//! of `domain::assign` from where the customer stood, and the instant until which
//! time alone does not change it.

use crate::domain::feature::CustomerState;
use crate::domain::model::Scratch;
use crate::domain::time::Timestamp;
use crate::service::scoring::deployment::Lineup;
use crate::service::scoring::observations::Tally;
use crate::store::customers::assignments::{Assignment, Held};

/// With more customers than this the work takes longer than an async thread
/// may be held up (half a millisecond, some 10 µs each).
pub const CUSTOMERS_IN_PLACE: usize = 48;

/// Scores one customer for storing, who stood at `held` before; where somebody is
/// answered by it, it counts in `tally`. Nobody needs the instant to be later than
/// `no_later`: to look too soon does no harm, and less need be found out.
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
            // From rules to a model is no move.
            let moves = standing.is_some() && !held.fallback && held.segment != segment;
            if moves { Some(now) } else { held.moved_at }
        }),
    };
    (assignment, lineup.recheck_at((state, &row, standing), (now, no_later), scratch))
}
