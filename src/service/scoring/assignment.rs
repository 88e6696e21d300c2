//! From customer state to stored assignment, and to the answer of a request: score, apply hysteresis
//! (`domain::hysteresis`) to the previous assignment, and compute when time alone may
//! change the result.

use crate::domain::drift::CustomerBucket;
use crate::domain::feature::{CustomerState, FeatureRow};
use crate::domain::id::CustomerKey;
use crate::domain::model::ScoringScratch;
use crate::domain::time::Timestamp;
use crate::domain::value::ValueSummary;
use crate::service::scoring::deployment::{Deployment, RowScore, ScoredCustomer};
use crate::service::scoring::observations::BatchCounts;
use crate::store::customers::assignments::{PreviousAssignment, StoredAssignment};

/// Maximum of customers to score on an async thread: more would block it for longer than
/// half a millisecond (some 10 µs each).
pub(crate) const MAX_INLINE_CUSTOMERS: usize = 48;

/// A customer to score for storage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AssignmentInput<'c> {
    pub customer: &'c CustomerKey,
    pub state: &'c CustomerState,
    /// The previous assignment.
    pub previous: Option<&'c PreviousAssignment>,
    pub now: Timestamp,
    /// Cap of the next rescore. Rescoring too early is harmless, and the cap saves the search
    /// for a later instant.
    pub rescore_by: Option<Timestamp>,
}

/// A customer's answer at one instant.
#[derive(Debug)]
pub struct CustomerAnswer {
    pub assignment: StoredAssignment,
    /// `None` without a model of customer value, and without an order.
    pub value: Option<ValueSummary>,
}

/// Scores one customer for storage and for a response that depends on the score, which is counted in
/// `tally`. Returns the answer, and the instant of the next rescore.
pub(crate) fn answer_customer(
    deployment: &Deployment,
    input: AssignmentInput<'_>,
    tally: &mut BatchCounts,
    scratch: &mut ScoringScratch,
) -> (CustomerAnswer, Option<Timestamp>) {
    let (row, orders) = input.state.row_and_orders(&deployment.features, input.now);
    let row_score = deployment.score_row(&row, scratch);
    let bucket = CustomerBucket::of(input.customer);
    deployment.count_score(tally, &row, &row_score, Some(bucket));
    let (assignment, next_rescore_at) = assign_row(deployment, input, &row, &row_score, scratch);
    let value_model = deployment.active.as_ref().and_then(|model| model.value());
    let value = value_model.zip(orders.and_then(|orders| orders.history()));
    let value = value.map(|(model, purchases)| model.summarise(&purchases, input.now));
    (CustomerAnswer { assignment, value }, next_rescore_at)
}

/// Scores one customer for storage. Returns the assignment, and the instant of the next rescore.
pub(crate) fn assign_customer(
    deployment: &Deployment,
    input: AssignmentInput<'_>,
    scratch: &mut ScoringScratch,
) -> (StoredAssignment, Option<Timestamp>) {
    let row = input.state.feature_row(&deployment.features, input.now);
    let row_score = deployment.score_row(&row, scratch);
    assign_row(deployment, input, &row, &row_score, scratch)
}

/// Applies hysteresis to the score of the customer's `row`.
fn assign_row(
    deployment: &Deployment,
    input: AssignmentInput<'_>,
    row: &FeatureRow,
    row_score: &RowScore<'_>,
    scratch: &mut ScoringScratch,
) -> (StoredAssignment, Option<Timestamp>) {
    let AssignmentInput { state, previous, now, rescore_by, .. } = input;
    let assigned = deployment.apply_hysteresis(row, row_score, previous, now, scratch);
    let segment = match assigned {
        Some(assigned) => deployment.assigned_segment(&assigned),
        None => row_score.named_segment(),
    };
    let moved_at = previous.and_then(|previous| {
        // The change from rule-based to model assignment is not a move.
        let has_moved =
            assigned.is_some() && !previous.is_fallback && *previous.segment_id != *segment.id;
        if has_moved { Some(now) } else { previous.moved_at }
    });
    let assignment = StoredAssignment {
        model: row_score.model.cloned(),
        segment,
        distance: assigned.map(|assigned| assigned.distance),
        p_value: row_score.score.map(|score| score.p_value),
        confidence: assigned.map(|assigned| assigned.confidence),
        is_outlier: row_score.is_outlier,
        is_retained_by_hysteresis: assigned
            .is_some_and(|assigned| assigned.is_retained_by_hysteresis),
        generation: deployment.generation,
        assigned_at: now,
        moved_at,
    };
    let score = row_score.score;
    let scored = ScoredCustomer { state, row, score, assignment: assigned, now, rescore_by };
    (assignment, deployment.next_rescore_at(scored, scratch))
}
