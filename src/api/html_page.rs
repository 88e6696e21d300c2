//! Documents for browsers: nothing from another host, no framing by other sites.

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use bytes::Bytes;

/// Content security policy of the documentation page: its own style and script, and requests to
/// its own host.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
                           connect-src 'self'; base-uri 'none'; form-action 'none'; \
                           frame-ancestors 'none'";
/// Content security policy of SVG pictures. Their texts contain names chosen by users.
const PICTURE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";
/// Caching of the documentation, which is the same for every client.
const SHARED_CACHE_CONTROL: &str = "no-cache";

pub(super) fn html(page: Bytes) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::CACHE_CONTROL, SHARED_CACHE_CONTROL),
    ];
    (headers, Html(page)).into_response()
}

/// A style sheet or a script of the documentation page.
pub(super) fn page_part(media_type: &'static str, text: &'static str) -> Response {
    let headers =
        [(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, SHARED_CACHE_CONTROL)];
    (headers, text).into_response()
}

pub(super) fn public_json(document: Bytes) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, SHARED_CACHE_CONTROL)];
    (headers, document).into_response()
}

pub(super) fn svg(picture: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::CONTENT_SECURITY_POLICY, PICTURE_POLICY),
    ];
    (headers, picture).into_response()
}
