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
use serde_json::value::RawValue;

use crate::api::customers::StandingBody;
use crate::api::error::{FaultBody, LOCKED, fault_bodies};
use crate::api::request::heavy_work::HEAVY_BODY_BYTES;
use crate::api::request::{Asked, Caller, Ingest, Payload, heavy_work};
use crate::api::{ApiError, ApiState};
use crate::domain::fault::Faults;
use crate::domain::time::Timestamp;
use crate::domain::wire::bounded::{self, ArrayError};
use crate::domain::wire::{Door, Message};
use crate::service::ServiceError;
use crate::service::failed_events::{Refused, Source};
use crate::service::ingestion::{Outcome, Received, WhenFull};
use crate::service::limits::heavy::Cancellation;
use crate::service::limits::memory;
use crate::service::limits::memory::{EVENT_EXPANSION, Reservation};
use crate::telemetry::labels::Limit;

/// The response: counts, and one verdict for each event, in order.
#[derive(Serialize)]
struct EventsBody<'o> {
    accepted: usize,
    duplicate: usize,
    rejected: usize,
    /// Valid events of a strict request that was rejected as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_counted: Option<usize>,
    /// Events that were not counted, as another database session had locked their customer.
    /// The client should send them again.
    #[serde(skip_serializing_if = "is_zero")]
    locked: usize,
    outcomes: Vec<VerdictBody<'o>>,
}

#[derive(Serialize)]
pub(crate) struct VerdictBody<'o> {
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
    pub(crate) score: Option<StandingBody<'o>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<FaultBody>,
    /// Number of faults that are omitted, as the response already lists the maximum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) errors_omitted: Option<usize>,
}

/// Budget of faults in one response, which must not be many times as large as its request.
/// `GET /v1/events/failed` lists the faults of every rejected event.
#[derive(Debug)]
pub(crate) struct Detail {
    faults_left: usize,
}

/// Most faults that one response lists.
const MAX_FAULTS: usize = 1000;

impl Default for Detail {
    fn default() -> Self {
        Self { faults_left: MAX_FAULTS }
    }
}

impl Detail {
    /// Takes the faults of one event, all or none. Returns them and the number omitted.
    pub(crate) fn take(&mut self, faults: &Faults) -> (Vec<FaultBody>, Option<usize>) {
        let count = faults.0.len();
        match self.faults_left.checked_sub(count) {
            Some(left) => {
                self.faults_left = left;
                (fault_bodies(faults), None)
            }
            None => (Vec::new(), Some(count)),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HowToTake {
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
/// rejected or locked, 422 if all were rejected, 503 if another database session had locked
/// the customers of all. Strict: 200, or 422 and no event was counted.
pub(crate) async fn post_events(
    State(state): State<ApiState>,
    caller: Caller<Ingest>,
    Asked(HowToTake { strict }): Asked<HowToTake>,
    payload: Payload,
) -> Result<Response, ApiError> {
    let received_at = state.intake.now();
    let Payload { bytes, memory, user } = payload;
    let text_bytes = bytes.len();
    let heavy = text_bytes > HEAVY_BODY_BYTES;
    let reading = state.clone();
    let read = move |cancellation: &Cancellation| {
        read(&reading, &bytes, memory, received_at, cancellation)
    };
    let (items, mut memory) = heavy_work::run(&state, user, heavy, read).await?;
    let source = Source { door: Door::Events, key_id: &caller.principal.key_id, is_public: false };
    let outcomes = if strict {
        state.intake.accept_strict(items, source, received_at).await
    } else {
        let queued = memory.split(text_bytes.saturating_mul(EVENT_EXPANSION));
        let received = Received { items, memory: Some(queued) };
        state.intake.accept(received, source, received_at, WhenFull::Refuse).await
    };
    let outcomes = outcomes.map_err(ApiError::of_events)?;
    state.sources.count(source, received_at, &outcomes);
    let heavy = outcomes.len() > HEAVY_ANSWER_EVENTS;
    let write = move |_: &Cancellation| answer(&outcomes, strict, memory);
    let (status, json) = heavy_work::run(&state, user, heavy, write).await?;
    Ok((status, [(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// Verdicts that are serialised in about half a millisecond.
const HEAVY_ANSWER_EVENTS: usize = 100;

/// Validates every event of a body and reserves their memory.
fn read(
    state: &ApiState,
    bytes: &Bytes,
    mut memory: Reservation,
    received_at: Timestamp,
    cancellation: &Cancellation,
) -> Result<(Vec<Result<Message, Refused>>, Reservation), ApiError> {
    let events = events(bytes, state.intake.events_per_request()).inspect_err(|error| {
        if matches!(error, ArrayError::TooMany(_)) {
            state.metrics.limits.refusals.add(Limit::EventsPerRequest, 1);
        }
    });
    let events = events.map_err(ApiError::events)?;
    memory.cover(bytes.len() + memory::of_events(events.len(), bytes.len()))?;
    let mut items = Vec::with_capacity(events.len());
    for raw in events {
        if cancellation.is_cancelled() {
            return Err(ApiError::given_up());
        }
        items.push(state.intake.read(raw.get().as_bytes(), received_at));
    }
    // The caller drops the body next.
    memory.shrink_to(memory::of_events(items.len(), bytes.len()));
    Ok((items, memory))
}

/// The status of the response, and its JSON with the memory reservation.
fn answer(
    outcomes: &[Outcome],
    strict: bool,
    mut memory: Reservation,
) -> Result<(StatusCode, Bytes), ApiError> {
    let mut detail = Detail::default();
    let outcomes: Vec<_> =
        outcomes.iter().map(|outcome| verdict(outcome, None, &mut detail)).collect();
    let count = |status| outcomes.iter().filter(|verdict| verdict.status == status).count();
    let (rejected, locked) = (count("rejected"), count("locked"));
    if locked > 0 && locked == outcomes.len() {
        return Err(ApiError::locked());
    }
    let body = EventsBody {
        accepted: count("accepted"),
        duplicate: count("duplicate"),
        rejected,
        not_counted: (strict && rejected > 0).then(|| count("not_counted")),
        locked,
        outcomes,
    };
    let status = match (body.rejected + locked, body.outcomes.len()) {
        (0, _) => StatusCode::OK,
        (_, all) if strict || rejected == all => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::MULTI_STATUS,
    };
    let json = serde_json::to_vec(&body).map_err(ServiceError::internal)?;
    drop(body);
    memory.shrink_to(json.capacity());
    Ok((status, memory.hold(json)))
}

/// Splits a body into the raw JSON of its events: one object, or the elements of an array.
fn events(body: &[u8], most: usize) -> Result<Vec<&RawValue>, ArrayError> {
    if body.trim_ascii_start().first() == Some(&b'[') {
        bounded::elements(body, most)
    } else {
        Ok(vec![serde_json::from_slice(body)?])
    }
}

pub(crate) fn verdict<'o>(
    outcome: &'o Outcome,
    line: Option<u64>,
    detail: &mut Detail,
) -> VerdictBody<'o> {
    let blank = VerdictBody {
        line,
        status: "rejected",
        message_id: None,
        customer_id: None,
        score: None,
        errors: Vec::new(),
        errors_omitted: None,
    };
    match outcome {
        Outcome::Accepted { message_id, customer, standing } => VerdictBody {
            status: "accepted",
            message_id: Some(message_id),
            customer_id: Some(customer.as_str()),
            score: Some(StandingBody::new(standing)),
            ..blank
        },
        Outcome::Duplicate { message_id } => {
            VerdictBody { status: "duplicate", message_id: Some(message_id), ..blank }
        }
        Outcome::NotCounted { message_id } => {
            VerdictBody { status: "not_counted", message_id: Some(message_id), ..blank }
        }
        Outcome::Locked { message_id } => VerdictBody {
            status: "locked",
            message_id: Some(message_id),
            errors: fault_bodies(&Faults::one("customer_id", LOCKED)),
            ..blank
        },
        Outcome::Rejected { faults } => {
            let (errors, errors_omitted) = detail.take(faults);
            VerdictBody { errors, errors_omitted, ..blank }
        }
    }
}
