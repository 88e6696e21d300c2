//! Responses: security headers, and permits that are released with the body.

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;

use crate::api::guarded_body::GuardedBody;
use crate::api::request_layer::admission::RequestPermit;
use crate::telemetry::InFlightRequest;

/// A complete body of at most this size releases its permit at once: the connection limit
/// bounds the memory of such responses, and scoring saves an allocation.
const SMALL_BODY_BYTES: u64 = 16 * 1024;

/// The permit and the in-flight count of a request, until its response has been sent.
#[derive(Debug)]
pub(crate) struct ResponseGuard {
    pub(crate) _in_flight: InFlightRequest,
    pub(crate) _permit: Option<RequestPermit>,
}

pub(crate) fn guard_until_sent(response: Response, guard: ResponseGuard) -> Response {
    let is_small = response.body().size_hint().upper().is_some_and(|most| most <= SMALL_BODY_BYTES);
    if is_small {
        return response;
    }
    response.map(|body| Body::new(GuardedBody::new(body, guard)))
}

/// Sets `X-Content-Type-Options: nosniff`, and `Cache-Control: no-store` unless the handler
/// has set it: shared caches must not store responses to authenticated requests.
pub(crate) fn set_security_headers(headers: &mut HeaderMap) {
    set_no_sniff(headers);
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// Sets `X-Content-Type-Options` on responses outside the request layer.
pub(crate) fn without_sniffing(mut response: Response) -> Response {
    set_no_sniff(response.headers_mut());
    response
}

fn set_no_sniff(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
