//! The result of each event of a request: accepted with the customer's new assignment, or the
//! faults of the event.

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::customers::AssignmentBody;
use crate::api::customers::value::ValueSummaryBody;
use crate::api::error::{FaultBody, LOCKED, fault_bodies};
use crate::api::experiments::participation::ParticipationBody;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::wire::IngestionEndpoint;
use crate::service::ingestion::{IngestionOutcome, conflict_faults};

/// Counts, and one result for each event of the request, in order.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "accepted": 1, "duplicate": 0, "conflict": 0, "rejected": 0,
    "outcomes": [{
        "status": "accepted",
        "message_id": "order-1",
        "customer_id": "c0001",
        "score": {
            "model_id": "50d858e0985ecc7f60418aaf0cc5ab587f42c2570a884095a9e8ccacd0f6545c",
            "fallback": false, "generation": 2, "segment_id": "seg_5f2c8d10b7a94e36",
            "segment_name": "Loyal Customers", "distance": 2.618, "confidence": 0.03, "p_value": 0.63, "outlier": false,
            "retained_by_hysteresis": false, "assigned_at": "2026-03-01T09:30:00.000Z",
        },
        "value": {
            "reliable": true, "churn_probability": 0.08, "predicted_number_of_orders": 14.2,
            "predicted_clv": 604.1, "expected_date_of_next_order": "2026-03-14T20:10:00.000Z",
        },
    }],
}))]
pub(super) struct EventsResultBody<'o> {
    /// Events that were counted by this request.
    pub(super) accepted: usize,
    /// Events that were counted before.
    pub(super) duplicate: usize,
    /// Events that were not counted, because another event of the customer with the same
    /// `message_id` was. They are stored as failed events.
    pub(super) conflict: usize,
    /// Invalid events, which are stored as failed events.
    pub(super) rejected: usize,
    /// Valid events of a strict request that was rejected as a whole; left out for other
    /// requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_counted: Option<usize>,
    /// Events that were not counted, because another database session had locked their
    /// customer: send them again. Left out if 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) locked: usize,
    /// One result for each event, in order.
    pub(super) outcomes: Vec<EventResultBody<'o>>,
}

/// The result of one event.
#[derive(Serialize, ToSchema)]
pub(super) struct EventResultBody<'o> {
    /// Line number in a stream, from 1; left out elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub(super) line: Option<u64>,
    pub(super) status: EventStatusBody,
    /// Idempotency key of the event; left out if the event has no valid one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "order-1")]
    pub(super) message_id: Option<&'o str>,
    /// The surviving customer of an accepted event; left out otherwise, and in a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "c0001")]
    pub(super) customer_id: Option<&'o str>,
    /// The customer's assignment after an accepted event; left out otherwise, and in a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) score: Option<AssignmentBody<'o>>,
    /// Names of the audiences that the customer is in after an accepted event; left out otherwise,
    /// and in a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["vip_at_risk"]))]
    pub(super) audiences: Option<Vec<&'o str>>,
    /// The experiments that the customer takes part in after an accepted event. Left out while no
    /// experiment runs, while exposures cannot be read, and in a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) experiments: Option<Vec<ParticipationBody>>,
    /// Forecasts of the customer's orders and spend after an accepted event. Left out without an
    /// order, while the model has no model of customer value, and in a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<ValueSummaryBody>,
    /// Parts of an accepted event that were left out, such as a property that cannot be converted
    /// to its declared type. Left out if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<FaultBody>,
    /// Number of warnings that are not listed, because the response lists 1,000 faults already.
    /// Left out if all are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub(super) warnings_omitted: Option<usize>,
    /// Why the event was not counted. Left out if there is no reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) errors: Vec<FaultBody>,
    /// Number of errors that are not listed, because the response lists 1,000 faults already.
    /// Left out if all are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub(super) errors_omitted: Option<usize>,
}

/// The outcome of an event. `accepted`: counted by this request. `duplicate`: counted before.
/// `conflict`: not counted, because another event of the customer with the same `message_id` was.
/// `rejected`: not counted, because it is invalid. `not_counted`: valid, but another event of the
/// same strict request was rejected. `locked`: not counted, because another database session had
/// locked the customer; send the event again. `failed`: the end of a stream that broke off; events
/// without a result can be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum EventStatusBody {
    Accepted,
    Duplicate,
    Conflict,
    Rejected,
    NotCounted,
    Locked,
    Failed,
}

/// Budget of faults in one response, which must not be many times as large as its request.
/// `GET /v1/events/failed` lists the faults of every rejected event.
#[derive(Debug)]
pub(super) struct FaultBudget {
    faults_left: usize,
}

/// Most faults that one response lists.
const MAX_FAULTS: usize = 1000;

impl Default for FaultBudget {
    fn default() -> Self {
        Self { faults_left: MAX_FAULTS }
    }
}

impl FaultBudget {
    /// Takes the faults of one event, all or none. Returns them and the number omitted.
    pub(super) fn take(&mut self, faults: &[ValidationFault]) -> (Vec<FaultBody>, Option<usize>) {
        let count = faults.len();
        match self.faults_left.checked_sub(count) {
            Some(left) => {
                self.faults_left = left;
                (faults.iter().map(FaultBody::from).collect(), None)
            }
            None => (Vec::new(), Some(count)),
        }
    }
}

/// For `skip_serializing_if`, which passes a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

pub(super) fn count_status(results: &[EventResultBody<'_>], status: EventStatusBody) -> usize {
    results.iter().filter(|result| result.status == status).count()
}

impl EventResultBody<'static> {
    /// The last line of a stream that broke off; `line` is the first one without a result.
    pub(super) fn of_failed_stream(line: Option<u64>, why: &str) -> Self {
        let errors = fault_bodies(&ValidationFaults::single("stream", why));
        Self { line, errors, ..Self::blank(EventStatusBody::Failed) }
    }
}

impl<'o> EventResultBody<'o> {
    fn blank(status: EventStatusBody) -> Self {
        Self {
            line: None,
            status,
            message_id: None,
            customer_id: None,
            score: None,
            audiences: None,
            experiments: None,
            value: None,
            warnings: Vec::new(),
            warnings_omitted: None,
            errors: Vec::new(),
            errors_omitted: None,
        }
    }

    pub(super) fn new(outcome: &'o IngestionOutcome, fault_budget: &mut FaultBudget) -> Self {
        match outcome {
            IngestionOutcome::Accepted {
                message_id,
                customer,
                answer,
                warnings,
                experiments,
                ..
            } => {
                let (warnings, warnings_omitted) = fault_budget.take(warnings);
                Self {
                    message_id: Some(message_id),
                    customer_id: Some(customer.as_str()),
                    score: Some(AssignmentBody::new(&answer.assignment)),
                    audiences: Some(answer.audiences.names().collect()),
                    experiments: experiments
                        .as_ref()
                        .map(|found| found.iter().map(ParticipationBody::from).collect()),
                    value: answer.value.as_ref().map(ValueSummaryBody::from),
                    warnings,
                    warnings_omitted,
                    ..Self::blank(EventStatusBody::Accepted)
                }
            }
            IngestionOutcome::Duplicate { message_id } => {
                Self { message_id: Some(message_id), ..Self::blank(EventStatusBody::Duplicate) }
            }
            IngestionOutcome::Conflict { message_id, stored_at } => {
                let faults = conflict_faults(IngestionEndpoint::Events, *stored_at);
                let (errors, errors_omitted) = fault_budget.take(&faults.0);
                let message_id = Some(message_id.as_str());
                let blank = Self::blank(EventStatusBody::Conflict);
                Self { message_id, errors, errors_omitted, ..blank }
            }
            IngestionOutcome::NotCounted { message_id } => {
                Self { message_id: Some(message_id), ..Self::blank(EventStatusBody::NotCounted) }
            }
            IngestionOutcome::Locked { message_id } => Self {
                message_id: Some(message_id),
                errors: fault_bodies(&ValidationFaults::single("customer_id", LOCKED)),
                ..Self::blank(EventStatusBody::Locked)
            },
            IngestionOutcome::Rejected { faults } => {
                let (errors, errors_omitted) = fault_budget.take(&faults.0);
                Self { errors, errors_omitted, ..Self::blank(EventStatusBody::Rejected) }
            }
        }
    }
}
