//! `POST /v1/events`: ingestion of one event or an array of events.

pub(crate) mod bulk;
pub(crate) mod event_body;
mod event_result;
pub(crate) mod failed_events;
pub(crate) mod segment;
pub(crate) mod sources;
pub(crate) mod unused_events;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::routes;

use crate::api::request::heavy_work::HEAVY_BODY_BYTES;
use crate::api::request::{AuthorizedCaller, Ingest, QueryParameters, RequestBody, heavy_work};
use crate::api::request_layer::RouteKind;
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState};
use crate::domain::json::{RawJson, scan};
use crate::domain::time::Timestamp;
use crate::domain::wire::elements::{self, ArrayPosition, ElementsError, JsonElement};
use crate::domain::wire::{IngestionEndpoint, ParsedMessage};
use crate::service::ServiceError;
use crate::service::failed_events::{EventSource, RejectedEvent};
use crate::service::ingestion::{FullQueuePolicy, IngestionOutcome, ReceivedMessages};
use crate::service::limits::heavy::Cancellation;
use crate::service::limits::memory;
use crate::service::limits::memory::{EVENT_EXPANSION, MemoryReservation};
use crate::telemetry::labels::RefusingLimit;

use event_body::EventsRequestBody;
use event_result::{EventResultBody, EventStatusBody, EventsResultBody, FaultBudget, count_status};

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::new(routes!(ingest_events), RouteKind::Ingest),
        ApiRoute::new(routes!(bulk::ingest_event_stream), RouteKind::Stream),
        ApiRoute::new(routes!(failed_events::list_failed_events), RouteKind::Manage),
        ApiRoute::new(routes!(failed_events::summarize_failed_events), RouteKind::Manage),
        ApiRoute::new(routes!(failed_events::replay_failed_events), RouteKind::Manage),
        ApiRoute::new(routes!(unused_events::list_unused_events), RouteKind::Manage),
        ApiRoute::new(routes!(sources::list_sources), RouteKind::Manage),
    ]
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct IngestQuery {
    /// Count all events of the request or none, in one transaction: one event that is rejected or
    /// in conflict rejects all.
    #[serde(default)]
    strict: bool,
}

/// Send one event or an array of events.
///
/// Each event has its own result, with the customer's new assignment. An element that is not valid
/// JSON is rejected alone. An acknowledged event is committed. At most
/// `limits.events_per_request` events.
///
/// An event with the `message_id` of an earlier event of its customer is a duplicate if both have
/// the same content, otherwise a conflict. Rejected events and conflicts are stored as failed
/// events, unless the request is strict. If another database session had the customers of all
/// events locked for `ingestion.max_lock_wait_seconds`, the response is 503.
#[utoipa::path(
    post,
    path = "/v1/events",
    tag = "Events",
    security(("key" = ["ingest"])),
    params(IngestQuery),
    request_body = EventsRequestBody,
    responses(
        (status = 200, body = EventsResultBody<'_>, description = "Every event is accepted or a duplicate"),
        (
            status = 207,
            body = EventsResultBody<'_>,
            description = "Some events are rejected, in conflict or locked; the others count",
        ),
        (
            status = 422,
            body = EventsResultBody<'_>,
            description = "Every event is rejected or in conflict; with `strict`, at least one. No \
                           event was counted by this request",
        ),
    )
)]
pub(crate) async fn ingest_events(
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
        outcomes.iter().map(|outcome| EventResultBody::new(outcome, &mut fault_budget)).collect();
    let rejected = count_status(&outcomes, EventStatusBody::Rejected);
    let conflict = count_status(&outcomes, EventStatusBody::Conflict);
    let locked = count_status(&outcomes, EventStatusBody::Locked);
    if locked > 0 && locked == outcomes.len() {
        return Err(ApiError::locked());
    }
    let body = EventsResultBody {
        accepted: count_status(&outcomes, EventStatusBody::Accepted),
        duplicate: count_status(&outcomes, EventStatusBody::Duplicate),
        conflict,
        rejected,
        not_counted: (strict && rejected + conflict > 0)
            .then(|| count_status(&outcomes, EventStatusBody::NotCounted)),
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
