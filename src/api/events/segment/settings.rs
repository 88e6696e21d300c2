//! Settings of Segment's browser and mobile libraries, and the endpoint for their own metrics.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::bodies::{DiscardedMetricsBody, TrackingSettingsBody};
use crate::api::request::{AuthorizedCaller, PathParameters, Track, body};
use crate::api::{ApiError, ApiState};

/// Discard metrics of Segment's libraries.
///
/// The libraries report metrics about themselves. The body is read and discarded.
#[utoipa::path(
    post,
    path = "/v1/m",
    tag = "Tracking API",
    security(("key" = ["track"]), ()),
    responses((status = 200, body = DiscardedMetricsBody, description = "A constant response"))
)]
pub(super) async fn discard_library_metrics(
    State(state): State<ApiState>,
    request: Request,
) -> Result<Json<DiscardedMetricsBody>, ApiError> {
    let max_bytes = state.body_limits.max_unidentified_body_bytes;
    body::discard(request.into_body(), max_bytes, state.body_limits.rate, &state.metrics).await?;
    Ok(Json(DiscardedMetricsBody { success: true }))
}

/// Get the settings of Segment's libraries.
///
/// Segment's browser and mobile libraries request them first. The destination of events is the
/// `Host` of the request, so a proxy must forward this header.
#[utoipa::path(
    get,
    path = "/v1/projects/{write_key}/settings",
    tag = "Tracking API",
    params((
        "write_key" = String, Path,
        description = "An API key with the scope `track` or `ingest`",
    )),
    responses(
        (status = 200, body = TrackingSettingsBody, description = "The settings"),
        (status = 404, description = "The key is not valid, or lacks the scope"),
    )
)]
pub(super) async fn get_library_settings(
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
    let settings = TrackingSettingsBody::new(write_key, host);
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
