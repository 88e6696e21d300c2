//! `POST /v1/events` (one or an array) and `/v1/events/bulk` (NDJSON, streamed).

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::api::blocking::{self, HEAVY_BODY_BYTES};
use crate::api::customers::StandingBody;
use crate::api::error::{FaultBody, LOCKED, fault_bodies};
use crate::api::extract::{Asked, Body, Caller, Ingest};
use crate::api::{ApiError, ApiState};
use crate::domain::access::Principal;
use crate::domain::fault::Faults;
use crate::domain::wire::lines::{Line, LineLimits, LineSplitter};
use crate::domain::wire::{Door, Message};
use crate::service::failed::{HEAD_BYTES, Refused, Source};
use crate::service::intake::{Outcome, WhenFull};

/// The answer: counts, and one verdict an event, in order.
#[derive(Serialize)]
struct EventsBody<'o> {
    accepted: usize,
    duplicate: usize,
    rejected: usize,
    /// Of a strict request that was refused: those that were right.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_counted: Option<usize>,
    /// Not counted, as another session of the database had their customer locked: to be
    /// sent again.
    #[serde(skip_serializing_if = "is_zero")]
    locked: usize,
    outcomes: Vec<VerdictBody<'o>>,
}

#[derive(Serialize)]
struct VerdictBody<'o> {
    /// Of a bulk upload, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'o str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<&'o str>,
    /// Where the customer stands after the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<StandingBody<'o>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FaultBody>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HowToTake {
    /// All of the events or none.
    #[serde(default)]
    strict: bool,
}

/// For serde, which gives a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// 503 when the customers of all were locked by another session; else
/// 200 when every event was accepted or a duplicate, 207 when some were
/// rejected, 422 when all were. Strict: 200, or 422 and nothing was counted.
pub(super) async fn post_events(
    State(state): State<ApiState>,
    caller: Caller<Ingest>,
    Asked(HowToTake { strict }): Asked<HowToTake>,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let received_at = state.intake.now();
    let heavy = body.len() > HEAVY_BODY_BYTES;
    let reading = state.clone();
    let read = move || {
        let events = events(&body).map_err(|error| ApiError::json(&error))?;
        let read = |raw: &RawValue| reading.intake.read(raw.get().as_bytes(), received_at);
        Ok(events.into_iter().map(read).collect())
    };
    let events: Vec<_> = blocking::run(heavy, read).await?;
    let source = Source { door: Door::Events, key_id: &caller.principal.key_id, is_public: false };
    let outcomes = if strict {
        state.intake.accept_strict(events, received_at).await
    } else {
        state.intake.accept(events, source, received_at, WhenFull::Refuse).await
    };
    let outcomes = outcomes.map_err(ApiError::of_events)?;
    state.sources.count(source, received_at, &outcomes);
    let outcomes: Vec<_> = outcomes.iter().map(|outcome| verdict(outcome, None)).collect();
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
    Ok((status, Json(body)).into_response())
}

/// The events of a body as they stand in it: one, or those of an array.
fn events(body: &[u8]) -> serde_json::Result<Vec<&RawValue>> {
    if body.trim_ascii_start().first() == Some(&b'[') {
        serde_json::from_slice(body)
    } else {
        Ok(vec![serde_json::from_slice(body)?])
    }
}

/// Reads lines as they come and answers each line with a verdict as soon as its
/// batch has committed: memory stays flat. A sender must read while it writes.
/// When the database goes away the answer ends with a line of status `failed`;
/// lines without a verdict were not counted and can be sent again.
pub(super) async fn post_bulk(
    State(state): State<ApiState>,
    caller: Caller<Ingest>,
    request: Request,
) -> Response {
    let lines = Lines::new(request.into_body(), state.max_line_bytes);
    let work = (state, caller.principal, lines);
    let batches = stream::unfold(Some(work), |work| async move {
        let (state, sender, mut lines) = work?;
        let (verdicts, more) = next_batch(&state, &sender, &mut lines).await;
        Some((Ok::<_, std::convert::Infallible>(verdicts), more.then_some((state, sender, lines))))
    });
    let body = HttpBody::from_stream(batches);
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// Verdicts of one batch as NDJSON, and whether there may be more.
async fn next_batch(state: &ApiState, sender: &Principal, lines: &mut Lines) -> (Bytes, bool) {
    let mut numbers = Vec::new();
    let mut events: Vec<Result<Message, Refused>> = Vec::new();
    let received_at = state.intake.now();
    let mut ended = None;
    while events.len() < state.intake.max_batch_events() {
        match lines.next().await {
            Next::Line(Line::Text(text)) if text.trim_ascii().is_empty() => {}
            Next::Line(Line::Text(text)) => {
                numbers.push(lines.splitter.number());
                events.push(state.intake.read(&text, received_at));
            }
            Next::Line(Line::TooLong(head)) => {
                numbers.push(lines.splitter.number());
                events.push(Err(state.intake.too_large(&head)));
            }
            Next::End => {
                ended = Some(None);
                break;
            }
            Next::Broken(why) => {
                ended = Some(Some(why));
                break;
            }
        }
    }
    let first = numbers.first().copied();
    let mut out = Vec::new();
    let source = Source { door: Door::Bulk, key_id: &sender.key_id, is_public: false };
    match state.intake.accept(events, source, received_at, WhenFull::Wait).await {
        Ok(outcomes) => {
            state.sources.count(source, received_at, &outcomes);
            for (line, outcome) in numbers.into_iter().zip(&outcomes) {
                let mut verdict = verdict(outcome, Some(line));
                verdict.score = None;
                verdict.customer_id = None;
                put(&mut out, &verdict);
            }
        }
        Err(error) => {
            let error = ApiError::from(error);
            if let Some(cause) = error.cause() {
                cause.log("/v1/events/bulk", "");
            }
            put(&mut out, &failed(first, error.detail()));
            return (out.into(), false);
        }
    }
    if let Some(Some(why)) = &ended {
        put(&mut out, &failed(None, why));
    }
    (out.into(), ended.is_none())
}

fn verdict(outcome: &Outcome, line: Option<u64>) -> VerdictBody<'_> {
    let blank = VerdictBody {
        line,
        status: "rejected",
        message_id: None,
        customer_id: None,
        score: None,
        errors: Vec::new(),
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
        Outcome::Rejected { faults } => VerdictBody { errors: fault_bodies(faults), ..blank },
    }
}

fn failed(line: Option<u64>, why: &str) -> VerdictBody<'static> {
    VerdictBody {
        line,
        status: "failed",
        message_id: None,
        customer_id: None,
        score: None,
        errors: fault_bodies(&Faults::one("stream", why)),
    }
}

fn put(out: &mut Vec<u8>, verdict: &VerdictBody<'_>) {
    // A verdict is text and numbers: it always serialises into memory.
    if serde_json::to_writer(&mut *out, verdict).is_ok() {
        out.push(b'\n');
    }
}

/// Lines of a body as it arrives; holds one line and one chunk at most.
struct Lines {
    chunks: axum::body::BodyDataStream,
    splitter: LineSplitter,
}

enum Next {
    Line(Line),
    End,
    Broken(String),
}

impl Lines {
    fn new(body: HttpBody, max_line_bytes: usize) -> Self {
        let limits = LineLimits { max_line_bytes, head_bytes: HEAD_BYTES };
        Self { chunks: body.into_data_stream(), splitter: LineSplitter::new(limits) }
    }

    async fn next(&mut self) -> Next {
        loop {
            if let Some(line) = self.splitter.take_line() {
                return Next::Line(line);
            }
            if self.splitter.is_at_end() {
                return Next::End;
            }
            match self.chunks.next().await {
                Some(Ok(chunk)) => self.splitter.push(&chunk),
                Some(Err(error)) => return Next::Broken(format!("the body ended early: {error}")),
                None => self.splitter.end(),
            }
        }
    }
}
