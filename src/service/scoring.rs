//! What a customer's state becomes when it is stored: one assignment, and the
//! instant until which time alone does not change it.

use crate::domain::feature::CustomerState;
use crate::domain::model::Scratch;
use crate::domain::time::Timestamp;
use crate::service::live::Lineup;
use crate::service::observe::Tally;
use crate::store::assignments::Assignment;

/// With more customers than this the work takes longer than an async thread
/// may be held up (half a millisecond, some 10 µs each).
pub const CUSTOMERS_IN_PLACE: usize = 48;

/// Scores one customer for storing; where somebody is answered by it, it counts in
/// `tally`. Nobody needs the instant to be later than `no_later`: to look too soon
/// does no harm, and less need be found out.
pub fn assign<'l>(
    lineup: &'l Lineup,
    tally: Option<&mut Tally<'l>>,
    state: &CustomerState,
    scratch: &mut Scratch,
    now: Timestamp,
    no_later: Option<Timestamp>,
) -> (Assignment, Option<Timestamp>) {
    let row = state.row(&lineup.features, now);
    let verdict = lineup.score(&row, scratch);
    if let Some(tally) = tally {
        lineup.note(tally, &row, &verdict);
    }
    let assignment = Assignment {
        model: verdict.model.cloned(),
        segment: verdict.segment.to_owned(),
        distance: verdict.score.map(|score| score.distance),
        p_value: verdict.score.map(|score| score.p_value),
        confidence: verdict.score.map(|score| score.confidence()),
        outlier: verdict.outlier,
        generation: lineup.generation,
        assigned_at: now,
    };
    (assignment, lineup.recheck_at(state, &row, (now, no_later), scratch))
}
