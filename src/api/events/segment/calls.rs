//! The calls of Segment's tracking API: one operation each, all processed alike.

use axum::extract::{Request, State};
use axum::response::Response;

use super::bodies::{TrackingBatchBody, TrackingMessageBody, TrackingResultBody};
use super::post_tracking;
use crate::api::{ApiError, ApiState};
use crate::domain::event::EventKind;
use crate::domain::wire::segment::RequestForm;

/// Set traits of a customer, as Segment's libraries do.
///
/// With `userId` and `anonymousId`, both ids become ids of one customer. Also at `/v1/i`. The
/// status is 200 even if the message is rejected, as in Segment's API; the result says why. A key
/// with the scope `track` alone links only anonymous ids that it introduced.
#[utoipa::path(
    post,
    path = "/v1/identify",
    tag = "Tracking API",
    security(("key" = ["track"]), ()),
    request_body(content = TrackingMessageBody, example = json!({
        "userId": "c0001", "anonymousId": "a-507f", "traits": { "loyalty_tier": "gold" },
        "messageId": "identify-1", "timestamp": "2026-03-01T09:30:00Z",
    })),
    responses((status = 200, body = TrackingResultBody, description = "The message's outcome"))
)]
pub(super) async fn identify_customer(
    State(state): State<ApiState>,
    request: Request,
) -> Result<Response, ApiError> {
    post_tracking(state, RequestForm::One(EventKind::Identify), request).await
}

/// Track an action, as Segment's libraries do.
///
/// Also at `/v1/t`. The status is 200 even if the message is rejected, as in Segment's API; the
/// result says why.
#[utoipa::path(
    post,
    path = "/v1/track",
    tag = "Tracking API",
    security(("key" = ["track"]), ()),
    request_body(content = TrackingMessageBody, example = json!({
        "userId": "c0001", "event": "Order Completed", "properties": { "revenue": 42.5 },
        "messageId": "order-1", "timestamp": "2026-03-01T09:30:00Z",
    })),
    responses((status = 200, body = TrackingResultBody, description = "The message's outcome"))
)]
pub(super) async fn track_action(
    State(state): State<ApiState>,
    request: Request,
) -> Result<Response, ApiError> {
    post_tracking(state, RequestForm::One(EventKind::Track), request).await
}

/// Record a page view, as Segment's libraries do.
///
/// Also at `/v1/p`. The status is 200 even if the message is rejected, as in Segment's API; the
/// result says why.
#[utoipa::path(
    post,
    path = "/v1/page",
    tag = "Tracking API",
    security(("key" = ["track"]), ()),
    request_body(content = TrackingMessageBody, example = json!({
        "anonymousId": "a-507f", "name": "Home", "category": "Shop",
        "properties": { "path": "/" }, "messageId": "page-1",
    })),
    responses((status = 200, body = TrackingResultBody, description = "The message's outcome"))
)]
pub(super) async fn record_page_view(
    State(state): State<ApiState>,
    request: Request,
) -> Result<Response, ApiError> {
    post_tracking(state, RequestForm::One(EventKind::Page), request).await
}

/// Record a screen view, as Segment's libraries do.
///
/// Also at `/v1/s`. The status is 200 even if the message is rejected, as in Segment's API; the
/// result says why.
#[utoipa::path(
    post,
    path = "/v1/screen",
    tag = "Tracking API",
    security(("key" = ["track"]), ()),
    request_body(content = TrackingMessageBody, example = json!({
        "userId": "c0001", "name": "Basket", "messageId": "screen-1",
    })),
    responses((status = 200, body = TrackingResultBody, description = "The message's outcome"))
)]
pub(super) async fn record_screen_view(
    State(state): State<ApiState>,
    request: Request,
) -> Result<Response, ApiError> {
    post_tracking(state, RequestForm::One(EventKind::Screen), request).await
}

/// Put a customer into a group, as Segment's libraries do.
///
/// Features read the traits of the group, and its id as the property `group_id`. Also at `/v1/g`.
/// The status is 200 even if the message is rejected, as in Segment's API; the result says why.
#[utoipa::path(
    post,
    path = "/v1/group",
    tag = "Tracking API",
    security(("key" = ["track"]), ()),
    request_body(content = TrackingMessageBody, example = json!({
        "userId": "c0001", "groupId": "g1", "traits": { "industry": "retail" },
        "messageId": "group-1",
    })),
    responses((status = 200, body = TrackingResultBody, description = "The message's outcome"))
)]
pub(super) async fn group_customer(
    State(state): State<ApiState>,
    request: Request,
) -> Result<Response, ApiError> {
    post_tracking(state, RequestForm::One(EventKind::Group), request).await
}

/// Link two ids of a customer, as Segment's libraries do.
///
/// The customer of `previousId` is merged into the customer of `userId`. Also at `/v1/a`. The
/// status is 200 even if the message is rejected, as in Segment's API; the result says why. A key
/// with the scope `track` alone links only anonymous ids that it introduced.
#[utoipa::path(
    post,
    path = "/v1/alias",
    tag = "Tracking API",
    security(("key" = ["track"]), ()),
    request_body(content = TrackingMessageBody, example = json!({
        "userId": "c0001", "previousId": "a-507f", "messageId": "alias-1",
    })),
    responses((status = 200, body = TrackingResultBody, description = "The message's outcome"))
)]
pub(super) async fn alias_customer(
    State(state): State<ApiState>,
    request: Request,
) -> Result<Response, ApiError> {
    post_tracking(state, RequestForm::One(EventKind::Alias), request).await
}

/// Send a batch of messages, as Segment's libraries do.
///
/// At most `limits.events_per_request` messages. Also at `/v1/b`. The status is 200 even if messages
/// are rejected, as in Segment's API; the result lists them. If another database session has the
/// customer of a message locked, the response is 503, and the library sends the batch again.
#[utoipa::path(
    post,
    path = "/v1/batch",
    tag = "Tracking API",
    security(("key" = ["track"]), ()),
    request_body = TrackingBatchBody,
    responses((status = 200, body = TrackingResultBody, description = "The messages' outcomes"))
)]
pub(super) async fn send_batch(
    State(state): State<ApiState>,
    request: Request,
) -> Result<Response, ApiError> {
    post_tracking(state, RequestForm::Batch, request).await
}
