//! Segment's HTTP Tracking API, compatible with its unmodified libraries: clients change
//! only the host.
//!
//! The libraries discard a message after most 4xx responses, and treat a redirect as
//! delivered. So 4xx is only for permanent errors, temporary errors are 503 or 429 with
//! `Retry-After`, and 3xx is never used. As with Segment, a batch gets 200 even if some of
//! its events are invalid; the response lists the rejected ones with reasons.

mod bodies;
mod calls;
mod settings;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use tower::util::MapResponseLayer;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use crate::api::error;
use crate::api::request::heavy_work::HEAVY_BODY_BYTES;
use crate::api::request::{AuthorizedCaller, RequestBody, Track, heavy_work};
use crate::api::request_layer::{
    RATE_LIMIT, RATE_LIMIT_POLICY, RouteKind, RouteLayer, UnidentifiedRequest, without_sniffing,
};
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState};
use crate::domain::access::Principal;
use crate::domain::time::Timestamp;
use crate::domain::wire::elements::ElementsError;
use crate::domain::wire::segment::{self, RequestForm};
use crate::domain::wire::{IngestionEndpoint, ParsedMessage};
use crate::service::ServiceError;
use crate::service::failed_events::{EventSource, RejectedEvent};
use crate::service::ingestion::{FullQueuePolicy, IngestionOutcome, ReceivedMessages};
use crate::service::limits::heavy::Cancellation;
use crate::service::limits::memory;
use crate::service::limits::memory::{EVENT_EXPANSION, MemoryReservation};
use crate::telemetry::labels::RefusingLimit;

pub(in crate::api) use bodies::TrackingProblemBody;
use bodies::TrackingResultBody;

/// The retry delay in seconds, in the header that Segment's browser library reads.
const RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
/// Time for which a browser may cache a CORS preflight response.
const PREFLIGHT_SECONDS: u64 = 86_400;

/// The routes of the tracking API. The mobile and browser libraries use the short paths.
pub(crate) fn routes() -> Vec<ApiRoute> {
    vec![
        described(routes!(calls::identify_customer)),
        described(routes!(calls::track_action)),
        described(routes!(calls::record_page_view)),
        described(routes!(calls::record_screen_view)),
        described(routes!(calls::group_customer)),
        described(routes!(calls::alias_customer)),
        described(routes!(calls::send_batch)),
        described(routes!(settings::discard_library_metrics)),
        ApiRoute::new(routes!(settings::get_library_settings), RouteKind::Public),
        alias("/v1/i", post(calls::identify_customer)),
        alias("/v1/t", post(calls::track_action)),
        alias("/v1/p", post(calls::record_page_view)),
        alias("/v1/s", post(calls::record_screen_view)),
        alias("/v1/g", post(calls::group_customer)),
        alias("/v1/a", post(calls::alias_customer)),
        alias("/v1/b", post(calls::send_batch)),
    ]
}

fn described(routes: UtoipaMethodRouter<ApiState>) -> ApiRoute {
    ApiRoute::new(routes, RouteKind::IngestKeyInBody)
}

/// A short path, which the description of the long one names.
fn alias(path: &'static str, handler: MethodRouter<ApiState>) -> ApiRoute {
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

/// Processes the messages of one request.
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
    let json =
        serde_json::to_vec(&TrackingResultBody::new(outcomes)).map_err(ServiceError::internal)?;
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

/// Adds Segment's error fields `code` and `message` to the problem document.
async fn add_segment_error(mut response: Response) -> Response {
    let Some(error) = response.extensions_mut().remove::<ApiError>() else { return response };
    let detail = error.detail().to_owned();
    let problem = TrackingProblemBody::new(error.problem(), error.kind(), detail);
    *response.body_mut() = serde_json::to_vec(&problem).unwrap_or_default().into();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    if let Some(seconds) = headers.get(header::RETRY_AFTER).cloned() {
        headers.insert(RATE_LIMIT_RESET, seconds);
    }
    response
}
