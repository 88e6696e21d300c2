//! From customer state to stored assignment, and to the answer of a request: score, apply hysteresis
//! (`domain::hysteresis`) to the previous assignment, evaluate the audiences, and compute when time
//! alone may change the result.

use std::sync::Arc;

use crate::domain::audience::{
    AudienceInputs, AudienceSet, CustomerAudiences, ForecastSource, StoredAudiences,
};
use crate::domain::drift::CustomerBucket;
use crate::domain::feature::{CustomerState, FeatureRow, KnownOrders};
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

/// Time until the rescore of a customer whose audiences were evaluated with later definitions than this
/// replica has: a replica learns of new definitions within seconds.
const OUTDATED_RESCORE_MILLIS: i64 = 60_000;

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
    pub audiences: CustomerAudiences,
    /// `None` without a model of customer value, and without an order.
    pub value: Option<ValueSummary>,
}

/// The score of one customer, to store.
#[derive(Debug)]
pub(crate) struct StorableScore {
    pub assignment: StoredAssignment,
    pub audiences: CustomerAudiences,
    /// The instant of the next rescore.
    pub next_rescore_at: Option<Timestamp>,
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
    let forecast = CustomerForecast::new(deployment, orders, input.now);
    let scored = ScoredRow { row: &row, score: &row_score, forecast: forecast.as_ref() };
    let StorableScore { assignment, audiences, next_rescore_at } =
        assign_row(deployment, input, scored, scratch);
    let value = forecast.map(|forecast| forecast.summary);
    (CustomerAnswer { assignment, audiences, value }, next_rescore_at)
}

/// Scores one customer for storage.
pub(crate) fn assign_customer(
    deployment: &Deployment,
    input: AssignmentInput<'_>,
    scratch: &mut ScoringScratch,
) -> StorableScore {
    let (row, forecast) = if deployment.audiences.reads_value() {
        let (row, orders) = input.state.row_and_orders(&deployment.features, input.now);
        (row, CustomerForecast::new(deployment, orders, input.now))
    } else {
        (input.state.feature_row(&deployment.features, input.now), None)
    };
    let row_score = deployment.score_row(&row, scratch);
    let scored = ScoredRow { row: &row, score: &row_score, forecast: forecast.as_ref() };
    assign_row(deployment, input, scored, scratch)
}

/// Evaluates other audiences than those of the deployment for one customer, with the segment of
/// its score, without hysteresis.
pub(crate) fn evaluate_audiences(
    deployment: &Deployment,
    audiences: &Arc<AudienceSet>,
    state: &CustomerState,
    now: Timestamp,
    scratch: &mut ScoringScratch,
) -> CustomerAudiences {
    let (row, orders) = state.row_and_orders(&deployment.features, now);
    let forecast = CustomerForecast::new(deployment, orders, now);
    let scored = deployment.score_row(&row, scratch);
    let assigned = deployment.apply_hysteresis(&row, &scored, None, now, scratch);
    let read = AudienceInputs {
        row: &row,
        segment_id: scored.segment_id,
        confidence: assigned.map(|assigned| assigned.confidence),
        p_value: scored.score.map(|score| score.p_value),
        is_outlier: scored.is_outlier,
        value: forecast.as_ref().map(|forecast| &forecast.summary),
    };
    audiences.evaluate(&read, StoredAudiences::default())
}

/// Evaluates the audiences of the deployment for a row without a stored customer: without forecasts.
pub(crate) fn evaluate_row_audiences(
    deployment: &Deployment,
    row: &FeatureRow,
    scored: &RowScore<'_>,
) -> CustomerAudiences {
    let read = AudienceInputs {
        row,
        segment_id: scored.segment_id,
        confidence: scored.score.map(|score| score.confidence()),
        p_value: scored.score.map(|score| score.p_value),
        is_outlier: scored.is_outlier,
        value: None,
    };
    deployment.audiences.evaluate(&read, StoredAudiences::default())
}

/// The forecasts of a customer, with what they are computed from.
#[derive(Debug)]
struct CustomerForecast<'d> {
    source: ForecastSource<'d>,
    summary: ValueSummary,
}

impl<'d> CustomerForecast<'d> {
    /// `None` without a model of customer value, and without an order.
    fn new(
        deployment: &'d Deployment,
        orders: Option<KnownOrders>,
        now: Timestamp,
    ) -> Option<Self> {
        let model = deployment.active.as_ref()?.value()?;
        let history = orders?.history()?;
        let summary = model.summarise(&history, now);
        Some(Self { source: ForecastSource { model, history }, summary })
    }
}

/// A feature row with its score and forecasts.
#[derive(Clone, Copy)]
struct ScoredRow<'r, 'd> {
    row: &'r FeatureRow,
    score: &'r RowScore<'d>,
    forecast: Option<&'r CustomerForecast<'d>>,
}

/// Applies hysteresis to the score of the customer's row, and evaluates the audiences.
fn assign_row(
    deployment: &Deployment,
    input: AssignmentInput<'_>,
    scored: ScoredRow<'_, '_>,
    scratch: &mut ScoringScratch,
) -> StorableScore {
    let AssignmentInput { state, previous, now, rescore_by, .. } = input;
    let ScoredRow { row, score: row_score, forecast } = scored;
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
    let read = AudienceInputs {
        row,
        segment_id: &assignment.segment.id,
        confidence: assignment.confidence,
        p_value: assignment.p_value,
        is_outlier: assignment.is_outlier,
        value: forecast.map(|forecast| &forecast.summary),
    };
    let before = previous.map(|previous| StoredAudiences {
        ids: &previous.audiences,
        version: previous.audience_version,
    });
    let before = before.unwrap_or_default();
    let audiences = deployment.audiences.evaluate(&read, before);
    let score = row_score.score;
    let forecast = forecast.map(|forecast| forecast.source);
    let scored =
        ScoredCustomer { state, row, score, assignment: assigned, forecast, now, rescore_by };
    let mut next_rescore_at = deployment.next_rescore_at(scored, scratch);
    if before.version > deployment.audiences.version() {
        // The memberships of later definitions are kept as they are. Once this replica has these
        // definitions too, the customer is evaluated again.
        let soon = now.plus_millis(OUTDATED_RESCORE_MILLIS);
        next_rescore_at = Some(next_rescore_at.map_or(soon, |at| at.min(soon)));
    }
    StorableScore { assignment, audiences, next_rescore_at }
}
