//! `POST /v1/events`: ingestion of one event or an array of events.

pub(crate) mod bulk;
pub(crate) mod failed_events;
pub(crate) mod segment;
pub(crate) mod sources;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::api::customers::AssignmentBody;
use crate::api::error::{FaultBody, LOCKED, fault_bodies};
use crate::api::request::heavy_work::HEAVY_BODY_BYTES;
use crate::api::request::{AuthorizedCaller, Ingest, QueryParameters, RequestBody, heavy_work};
use crate::api::request_layer::RouteKind;
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState};
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::json::{RawJson, scan};
use crate::domain::time::Timestamp;
use crate::domain::wire::elements::{self, ArrayPosition, ElementsError, JsonElement};
use crate::domain::wire::{IngestionEndpoint, ParsedMessage};
use crate::service::ServiceError;
use crate::service::failed_events::{EventSource, RejectedEvent};
use crate::service::ingestion::{
    FullQueuePolicy, IngestionOutcome, ReceivedMessages, conflict_faults,
};
use crate::service::limits::heavy::Cancellation;
use crate::service::limits::memory;
use crate::service::limits::memory::{EVENT_EXPANSION, MemoryReservation};
use crate::telemetry::labels::RefusingLimit;
use axum::routing::{get, post};

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::undescribed("/v1/events", &["POST"], post(post_events), RouteKind::Ingest),
        ApiRoute::undescribed(
            "/v1/events/bulk",
            &["POST"],
            post(bulk::post_bulk),
            RouteKind::Stream,
        ),
        ApiRoute::undescribed(
            "/v1/events/failed",
            &["GET"],
            get(failed_events::get_failed),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/events/failed/summary",
            &["GET"],
            get(failed_events::get_summary),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/events/failed/replay",
            &["POST"],
            post(failed_events::post_replay),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/sources",
            &["GET"],
            get(sources::get_sources),
            RouteKind::Manage,
        ),
    ]
}

/// The response: counts, and one result for each event, in order.
#[derive(Serialize)]
struct EventsBody<'o> {
    accepted: usize,
    duplicate: usize,
    /// Events with the id of another event, which was counted.
    conflict: usize,
    rejected: usize,
    /// Valid events of a strict request that was rejected as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_counted: Option<usize>,
    /// Events that were not counted, as another database session had locked their customer.
    /// The client should send them again.
    #[serde(skip_serializing_if = "is_zero")]
    locked: usize,
    outcomes: Vec<EventResultBody<'o>>,
}

#[derive(Serialize)]
pub(crate) struct EventResultBody<'o> {
    /// Line number in a bulk upload, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    pub(crate) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message_id: Option<&'o str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) customer_id: Option<&'o str>,
    /// The customer's assignment after the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) score: Option<AssignmentBody<'o>>,
    /// Parts of an accepted event that were left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<FaultBody>,
    /// Number of warnings that are omitted, as the response already lists the maximum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warnings_omitted: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<FaultBody>,
    /// Number of faults that are omitted, as the response already lists the maximum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) errors_omitted: Option<usize>,
}

/// Budget of faults in one response, which must not be many times as large as its request.
/// `GET /v1/events/failed` lists the faults of every rejected event.
#[derive(Debug)]
pub(crate) struct FaultBudget {
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
    pub(crate) fn take(&mut self, faults: &[ValidationFault]) -> (Vec<FaultBody>, Option<usize>) {
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IngestQuery {
    /// All-or-nothing: one rejected event rejects the whole request.
    #[serde(default)]
    strict: bool,
}

/// For `skip_serializing_if`, which passes a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Ingests events. Answers 200 if every event was accepted or a duplicate, 207 if some were
/// rejected, in conflict or locked, 422 if all were rejected or in conflict, 503 if another database session had locked
/// the customers of all. Strict: 200, or 422 and no event was counted.
pub(crate) async fn post_events(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Ingest>,
    QueryParameters(IngestQuery { strict }): QueryParameters<IngestQuery>,
    body: RequestBody,
) -> Result<Response, ApiError> {
    let received_at = state.ingestion.now();
    let RequestBody { bytes, memory, user } = body;
    let text_bytes = bytes.len();
    let is_heavy = text_bytes > HEAVY_BODY_BYTES;
    let reading = state.clone();
    let read = heavy_work::run(&state, user, is_heavy, move |cancellation| {
        read_events(&reading, &bytes, memory, received_at, cancellation)
    });
    let (items, mut memory) = read.await?;
    let source = EventSource {
        endpoint: IngestionEndpoint::Events,
        key_id: &caller.principal.key_id,
        is_public: false,
    };
    let outcomes = if strict {
        state.ingestion.accept_all_or_none(items, source, received_at).await
    } else {
        let queued = memory.split(text_bytes.saturating_mul(EVENT_EXPANSION));
        let received = ReceivedMessages { messages: items, reservation: Some(queued) };
        state.ingestion.accept_events(received, source, received_at, FullQueuePolicy::Refuse).await
    };
    let outcomes = outcomes.map_err(ApiError::from_ingestion)?;
    state.sources.count_events(source, received_at, &outcomes);
    let is_heavy = outcomes.len() > HEAVY_ANSWER_EVENTS;
    let written =
        heavy_work::run(&state, user, is_heavy, move |_| write_response(&outcomes, strict, memory));
    let (status, json) = written.await?;
    Ok((status, [(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// Number of results that are serialised in about half a millisecond.
const HEAVY_ANSWER_EVENTS: usize = 100;

/// Validates every event of a body and reserves their memory.
fn read_events(
    state: &ApiState,
    bytes: &Bytes,
    mut memory: MemoryReservation,
    received_at: Timestamp,
    cancellation: &Cancellation,
) -> Result<(Vec<Result<ParsedMessage, RejectedEvent>>, MemoryReservation), ApiError> {
    let events = split_events(bytes, state.ingestion.events_per_request()).inspect_err(|error| {
        if matches!(error, ElementsError::TooMany(_)) {
            state.metrics.limits.refusals.add(RefusingLimit::EventsPerRequest, 1);
        }
    });
    let events = events.map_err(ApiError::from_elements_error)?;
    memory.grow_to(bytes.len() + memory::event_memory_bytes(events.len(), bytes.len()))?;
    let mut items = Vec::with_capacity(events.len());
    for event in events {
        if cancellation.is_cancelled() {
            return Err(ApiError::cancelled());
        }
        items.push(state.ingestion.read(event, received_at));
    }
    // The caller drops the body next.
    memory.shrink_to(memory::event_memory_bytes(items.len(), bytes.len()));
    Ok((items, memory))
}

/// The status of the response, and its JSON with the memory reservation.
fn write_response(
    outcomes: &[IngestionOutcome],
    strict: bool,
    mut memory: MemoryReservation,
) -> Result<(StatusCode, Bytes), ApiError> {
    let mut fault_budget = FaultBudget::default();
    let outcomes: Vec<_> =
        outcomes.iter().map(|outcome| event_result(outcome, None, &mut fault_budget)).collect();
    let rejected = count_status(&outcomes, "rejected");
    let conflict = count_status(&outcomes, "conflict");
    let locked = count_status(&outcomes, "locked");
    if locked > 0 && locked == outcomes.len() {
        return Err(ApiError::locked());
    }
    let body = EventsBody {
        accepted: count_status(&outcomes, "accepted"),
        duplicate: count_status(&outcomes, "duplicate"),
        conflict,
        rejected,
        not_counted: (strict && rejected + conflict > 0)
            .then(|| count_status(&outcomes, "not_counted")),
        locked,
        outcomes,
    };
    let status = match (rejected + conflict + locked, body.outcomes.len()) {
        (0, _) => StatusCode::OK,
        (_, all) if strict || rejected + conflict == all => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::MULTI_STATUS,
    };
    let json = serde_json::to_vec(&body).map_err(ServiceError::internal)?;
    drop(body);
    memory.shrink_to(json.capacity());
    Ok((status, memory.attach_to(json)))
}

fn count_status(results: &[EventResultBody<'_>], status: &str) -> usize {
    results.iter().filter(|result| result.status == status).count()
}

/// Splits a body into its events: one object, or the elements of an array. An element that is
/// not valid JSON costs no other.
fn split_events(body: &[u8], max_events: usize) -> Result<Vec<JsonElement<'_>>, ElementsError> {
    let start = scan::skip_blanks(body, 0);
    if body.get(start) == Some(&b'[') {
        let split = elements::split_array(body, start, ArrayPosition::WholeBody, max_events)?;
        Ok(split.elements)
    } else {
        Ok(vec![JsonElement::Valid(RawJson::parse(body)?)])
    }
}

/// The result of one event; `line` for a bulk upload.
pub(crate) fn event_result<'o>(
    outcome: &'o IngestionOutcome,
    line: Option<u64>,
    fault_budget: &mut FaultBudget,
) -> EventResultBody<'o> {
    let blank = EventResultBody {
        line,
        status: "rejected",
        message_id: None,
        customer_id: None,
        score: None,
        warnings: Vec::new(),
        warnings_omitted: None,
        errors: Vec::new(),
        errors_omitted: None,
    };
    match outcome {
        IngestionOutcome::Accepted { message_id, customer, assignment, warnings, .. } => {
            let (warnings, warnings_omitted) = fault_budget.take(warnings);
            EventResultBody {
                status: "accepted",
                message_id: Some(message_id),
                customer_id: Some(customer.as_str()),
                score: Some(AssignmentBody::new(assignment)),
                warnings,
                warnings_omitted,
                ..blank
            }
        }
        IngestionOutcome::Duplicate { message_id } => {
            EventResultBody { status: "duplicate", message_id: Some(message_id), ..blank }
        }
        IngestionOutcome::Conflict { message_id, stored_at } => {
            let faults = conflict_faults(IngestionEndpoint::Events, *stored_at);
            let (errors, errors_omitted) = fault_budget.take(&faults.0);
            let message_id = Some(message_id.as_str());
            EventResultBody { status: "conflict", message_id, errors, errors_omitted, ..blank }
        }
        IngestionOutcome::NotCounted { message_id } => {
            EventResultBody { status: "not_counted", message_id: Some(message_id), ..blank }
        }
        IngestionOutcome::Locked { message_id } => EventResultBody {
            status: "locked",
            message_id: Some(message_id),
            errors: fault_bodies(&ValidationFaults::single("customer_id", LOCKED)),
            ..blank
        },
        IngestionOutcome::Rejected { faults } => {
            let (errors, errors_omitted) = fault_budget.take(&faults.0);
            EventResultBody { errors, errors_omitted, ..blank }
        }
    }
}
