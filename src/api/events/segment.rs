//! Segment's HTTP Tracking API, compatible with its unmodified libraries: clients change
//! only the host.
//!
//! The libraries discard a message after most 4xx responses, and treat a redirect as
//! delivered. So 4xx is only for permanent errors, temporary errors are 503 or 429 with
//! `Retry-After`, and 3xx is never used. As with Segment, a batch gets 200 even if some of
//! its events are invalid; the response lists the rejected ones with reasons.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde::Serialize;
use serde_json::{Value, json};
use tower::util::MapResponseLayer;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use crate::api::error::{self, FaultBody};
use crate::api::events::FaultBudget;
use crate::api::request::heavy_work::HEAVY_BODY_BYTES;
use crate::api::request::{AuthorizedCaller, PathParameters, RequestBody, Track, body, heavy_work};
use crate::api::request_layer::{
    RATE_LIMIT, RATE_LIMIT_POLICY, RouteKind, RouteLayer, UnidentifiedRequest, without_sniffing,
};
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState};
use crate::domain::access::Principal;
use crate::domain::event::EventKind;
use crate::domain::time::Timestamp;
use crate::domain::wire::elements::ElementsError;
use crate::domain::wire::segment::{self, RequestForm};
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

/// The retry delay in seconds, in the header that Segment's browser library reads.
const RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
/// Time for which a browser may cache a CORS preflight response.
const PREFLIGHT_SECONDS: u64 = 86_400;

/// Paths of the tracking endpoints; the mobile and browser libraries use the short paths.
const TRACKING: [(&str, RequestForm); 14] = [
    ("/v1/identify", RequestForm::One(EventKind::Identify)),
    ("/v1/i", RequestForm::One(EventKind::Identify)),
    ("/v1/track", RequestForm::One(EventKind::Track)),
    ("/v1/t", RequestForm::One(EventKind::Track)),
    ("/v1/page", RequestForm::One(EventKind::Page)),
    ("/v1/p", RequestForm::One(EventKind::Page)),
    ("/v1/screen", RequestForm::One(EventKind::Screen)),
    ("/v1/s", RequestForm::One(EventKind::Screen)),
    ("/v1/group", RequestForm::One(EventKind::Group)),
    ("/v1/g", RequestForm::One(EventKind::Group)),
    ("/v1/alias", RequestForm::One(EventKind::Alias)),
    ("/v1/a", RequestForm::One(EventKind::Alias)),
    ("/v1/batch", RequestForm::Batch),
    ("/v1/b", RequestForm::Batch),
];

/// The routes of the tracking API.
pub(crate) fn routes() -> impl Iterator<Item = ApiRoute> {
    let tracking = TRACKING.into_iter().map(|(path, form)| tracking_route(path, form));
    let settings = "/v1/projects/{write_key}/settings";
    tracking.chain([
        ApiRoute::undescribed("/v1/m", &["POST"], post(drop_telemetry), RouteKind::IngestKeyInBody),
        ApiRoute::undescribed(settings, &["GET"], get(get_settings), RouteKind::Public),
    ])
}

/// The route of one tracking endpoint.
fn tracking_route(path: &'static str, form: RequestForm) -> ApiRoute {
    let handler = post(move |State(state): State<ApiState>, request: Request| {
        post_tracking(state, form, request)
    });
    ApiRoute::undescribed(path, &["POST"], handler, RouteKind::IngestKeyInBody)
}

/// Wraps a route and its request layer in CORS and Segment's error format, so that errors
/// of the request layer have them too.
pub(crate) fn with_segment_protocol(
    handler: MethodRouter<ApiState>,
    layer: RouteLayer,
) -> MethodRouter<ApiState> {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::RETRY_AFTER, RATE_LIMIT_RESET, RATE_LIMIT, RATE_LIMIT_POLICY])
        .max_age(std::time::Duration::from_secs(PREFLIGHT_SECONDS));
    // Own fallback for other methods, so that an OPTIONS preflight reaches the CORS layer.
    let handler = handler.fallback(error::wrong_method).layer(layer);
    let handler = handler.layer::<_, Infallible>(map_response(add_segment_error));
    let handler = handler.layer::<_, Infallible>(cors);
    // Outermost, so that a preflight response has the header too.
    handler.layer(MapResponseLayer::new(without_sniffing))
}

#[derive(Serialize)]
struct TrackingResponse {
    success: bool,
    accepted: usize,
    duplicate: usize,
    conflict: usize,
    rejected: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rejections: Vec<RejectedMessage>,
    /// Accepted messages of which a part was left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<MessageWarnings>,
}

#[derive(Serialize)]
struct MessageWarnings {
    /// Index in the batch, from 0.
    index: usize,
    warnings: Vec<FaultBody>,
    /// Number of warnings that are omitted, as the response already lists the maximum.
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings_omitted: Option<usize>,
}

#[derive(Serialize)]
struct RejectedMessage {
    /// Index in the batch, from 0.
    index: usize,
    errors: Vec<FaultBody>,
    /// Number of faults that are omitted, as the response already lists the maximum.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors_omitted: Option<usize>,
}

async fn post_tracking(
    state: ApiState,
    form: RequestForm,
    request: Request,
) -> Result<Response, ApiError> {
    // An invalid key in the header was refused by the request layer, before the body.
    let principal = request.extensions().get::<Arc<Principal>>().cloned();
    let caller = principal.map(AuthorizedCaller::<Track>::with_scope).transpose()?;
    let unidentified = request.extensions().get::<UnidentifiedRequest>().cloned();
    let max_bytes = match caller {
        Some(_) => state.body_limits.max_body_bytes,
        None => state.body_limits.max_unidentified_body_bytes,
    };
    let origin = request.headers().get(header::ORIGIN).cloned();
    let body = RequestBody::read(request, max_bytes, &state).await?;
    let received_at = state.ingestion.now();
    let user = body.user;
    let is_heavy = body.bytes.len() > HEAVY_BODY_BYTES;
    let reading = state.clone();
    let tracking = TrackingRequest { form, caller, origin, body, received_at };
    let checked = heavy_work::run(&state, user, is_heavy, move |cancellation| {
        tracking.check(&reading, cancellation)
    });
    let CheckedRequest { caller, mut items, raw_links, mut memory, text_bytes } = checked.await?;
    if let Some(unidentified) = unidentified {
        unidentified.identify(&state, &caller.principal)?;
    }
    let Principal { key_id, .. } = &*caller.principal;
    let is_public = caller.principal.has_public_key();
    let source = EventSource { endpoint: IngestionEndpoint::Segment, key_id, is_public };
    state.ingestion.reject_forbidden_links(source, &mut items, &raw_links).await?;
    let queued = memory.split(text_bytes.saturating_mul(EVENT_EXPANSION));
    let received = ReceivedMessages { messages: items, reservation: Some(queued) };
    let outcomes = state
        .ingestion
        .accept_events(received, source, received_at, FullQueuePolicy::Refuse)
        .await?;
    state.sources.count_events(source, received_at, &outcomes);
    // Libraries retry whole requests only. Events that were counted are deduplicated then.
    if outcomes.iter().any(|outcome| matches!(outcome, IngestionOutcome::Locked { .. })) {
        return Err(ApiError::locked());
    }
    let json = serde_json::to_vec(&tracking_response(outcomes)).map_err(ServiceError::internal)?;
    memory.shrink_to(json.capacity());
    Ok(([(header::CONTENT_TYPE, "application/json")], memory.attach_to(json)).into_response())
}

/// A request as received, before its body is parsed.
struct TrackingRequest {
    form: RequestForm,
    caller: Option<AuthorizedCaller<Track>>,
    origin: Option<HeaderValue>,
    body: RequestBody,
    received_at: Timestamp,
}

/// The authenticated caller, each message (valid or rejected), and their memory reservation.
struct CheckedRequest {
    caller: AuthorizedCaller<Track>,
    items: Vec<Result<ParsedMessage, RejectedEvent>>,
    /// Raw messages of a public key that link two ids, by index: stored as failed events if
    /// the link is refused.
    raw_links: HashMap<usize, Vec<u8>>,
    memory: MemoryReservation,
    text_bytes: usize,
}

impl TrackingRequest {
    /// Parses the body, authenticates the caller by header or by the key in
    /// the body, then validates every message.
    fn check(
        self,
        state: &ApiState,
        cancellation: &Cancellation,
    ) -> Result<CheckedRequest, ApiError> {
        let Self { form, caller, origin, body, received_at } = self;
        let RequestBody { bytes: body, mut memory, .. } = body;
        let max_events = state.ingestion.events_per_request();
        let parsed = segment::SegmentRequestBody::parse(&body, form, max_events);
        let parsed = parsed.map_err(|error| parse_error(state, error))?;
        let caller = match (caller, &parsed.write_key) {
            (Some(caller), _) => caller,
            (None, Some(key)) => AuthorizedCaller::authenticate(state, key, origin.as_ref())?,
            (None, None) => {
                return Err(ApiError::unauthenticated(
                    "send a key: `writeKey` in the body, or `Authorization: Basic` with the key as user",
                ));
            }
        };
        let text_bytes = body.len();
        memory.grow(memory::event_memory_bytes(parsed.len(), text_bytes))?;
        let items = state.ingestion.parse_segment_messages(&parsed, received_at, cancellation);
        if cancellation.is_cancelled() {
            return Err(ApiError::cancelled());
        }
        let mut raw_links = HashMap::new();
        if caller.principal.has_public_key() {
            for (index, item) in items.iter().enumerate() {
                if item.as_ref().is_ok_and(|message| message.link.is_some()) {
                    raw_links.insert(index, parsed.to_stored_message(index));
                }
            }
        }
        memory.shrink_to(memory::event_memory_bytes(items.len(), text_bytes));
        Ok(CheckedRequest { caller, items, raw_links, memory, text_bytes })
    }
}

/// Permanent errors: 413 or 400, after which the libraries discard the messages.
fn parse_error(state: &ApiState, error: ElementsError) -> ApiError {
    if matches!(error, ElementsError::TooMany(_)) {
        state.metrics.limits.refusals.add(RefusingLimit::EventsPerRequest, 1);
    }
    ApiError::from_elements_error(error)
}

fn tracking_response(outcomes: Vec<IngestionOutcome>) -> TrackingResponse {
    let mut response = TrackingResponse {
        success: true,
        accepted: 0,
        duplicate: 0,
        conflict: 0,
        rejected: 0,
        rejections: Vec::new(),
        warnings: Vec::new(),
    };
    let mut fault_budget = FaultBudget::default();
    for (index, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            IngestionOutcome::Accepted { warnings, .. } => {
                response.accepted += 1;
                if !warnings.is_empty() {
                    let (warnings, warnings_omitted) = fault_budget.take(&warnings);
                    response.warnings.push(MessageWarnings { index, warnings, warnings_omitted });
                }
            }
            IngestionOutcome::Duplicate { .. } => response.duplicate += 1,
            // Strict requests do not exist here; requests with locked customers were answered
            // 503 as a whole.
            IngestionOutcome::NotCounted { .. } | IngestionOutcome::Locked { .. } => {}
            IngestionOutcome::Conflict { stored_at, .. } => {
                response.conflict += 1;
                let faults = conflict_faults(IngestionEndpoint::Segment, stored_at);
                let (errors, errors_omitted) = fault_budget.take(&faults.0);
                response.rejections.push(RejectedMessage { index, errors, errors_omitted });
            }
            IngestionOutcome::Rejected { faults } => {
                response.rejected += 1;
                let (errors, errors_omitted) = fault_budget.take(&faults.0);
                response.rejections.push(RejectedMessage { index, errors, errors_omitted });
            }
        }
    }
    response
}

/// Reads and discards the metrics that the libraries report about themselves.
async fn drop_telemetry(
    State(state): State<ApiState>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let max_bytes = state.body_limits.max_unidentified_body_bytes;
    body::discard(request.into_body(), max_bytes, state.body_limits.rate, &state.metrics).await?;
    Ok(Json(json!({ "success": true })))
}

/// The settings that the mobile and browser libraries request first: the only destination,
/// and its host, which is this server.
async fn get_settings(
    State(state): State<ApiState>,
    PathParameters(write_key): PathParameters<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let origin = headers.get(header::ORIGIN);
    AuthorizedCaller::<Track>::authenticate(&state, &write_key, origin).map_err(|refusal| {
        if refusal.is_temporary() { refusal } else { ApiError::not_found("project of this key") }
    })?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).ok_or_else(|| {
        ApiError::new(StatusCode::BAD_REQUEST, "no-host", "the request lacks a `Host` header")
    })?;
    if !is_allowed(&state.allowed_hosts, host) {
        let detail = "the `Host` header is not one of http.allowed_hosts";
        return Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "wrong-host", detail));
    }
    let settings = json!({
        "integrations": {
            "Segment.io": { "apiKey": write_key, "apiHost": format!("{host}/v1") },
        },
        "plan": {},
        "edgeFunction": {},
        "middlewareSettings": {},
        "metrics": { "sampleRate": 0 },
    });
    // The response repeats the `Host`: a cache that ignores it must not serve it to other
    // clients (cache poisoning).
    let headers = [(header::CACHE_CONTROL, "no-store"), (header::VARY, "Host")];
    Ok((headers, Json(settings)).into_response())
}

/// Whether a response may repeat this `Host`. The port is ignored.
fn is_allowed(allowed: &[String], host: &str) -> bool {
    let name = host.parse::<Authority>().map(|authority| authority.host().to_ascii_lowercase());
    match name {
        // Not a valid host: no client could connect to it.
        Err(_) => false,
        Ok(name) => allowed.is_empty() || allowed.contains(&name),
    }
}

/// Adds Segment's error fields `code` and `message` to the problem document.
async fn add_segment_error(mut response: Response) -> Response {
    let Some(error) = response.extensions_mut().remove::<ApiError>() else { return response };
    let mut problem = error.problem();
    problem["code"] = error.kind().into();
    problem["message"] = error.detail().into();
    *response.body_mut() = problem.to_string().into();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    if let Some(seconds) = headers.get(header::RETRY_AFTER).cloned() {
        headers.insert(RATE_LIMIT_RESET, seconds);
    }
    response
}
