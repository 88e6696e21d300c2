//! Documents that a browser shows: no script, nothing loaded, no framing by others.

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};

/// Content security policy of the documentation, which has its styles inside it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                           form-action 'none'; frame-ancestors 'none'";
/// Of pictures. Their texts are names that people chose.
const PICTURE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";
/// The documentation is the same for everybody.
const PUBLIC: &str = "no-cache";

pub(super) fn html(page: String) -> Response {
    let headers = [(header::CONTENT_SECURITY_POLICY, PAGE_POLICY), (header::CACHE_CONTROL, PUBLIC)];
    (headers, Html(page)).into_response()
}

pub(super) fn public_json(document: String) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, PUBLIC)];
    (headers, document).into_response()
}

pub(super) fn svg(picture: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::CONTENT_SECURITY_POLICY, PICTURE_POLICY),
    ];
    (headers, picture).into_response()
}
