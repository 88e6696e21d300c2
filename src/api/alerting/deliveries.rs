//! Deliveries of a channel with their attempts, and replay of deliveries.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::alerting::channels::ChannelIdPath;
use crate::api::request::page::{PageCursor, PageLimit};
use crate::api::request::{
    Admin, AuthorizedCaller, JsonBody, PathParameters, QueryParameters, Read, parse_json,
};
use crate::api::{ApiError, ApiState};
use crate::domain::alert::AlertState;
use crate::domain::drift::Severity;
use crate::domain::time::Timestamp;
use crate::service::alerts::ReplayRange;
use crate::store::alerting::deliveries::DeliveryAttempt;
use crate::store::alerting::delivery_log;
use crate::store::alerting::delivery_log::{DeliveryLogFilter, DeliveryRow};

/// A notification to one channel, with its attempts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryBody {
    /// Id of the delivery, the same for every attempt, so that receivers can deduplicate.
    #[schema(example = "msg_7b9f2c6a01d84e53")]
    delivery_id: String,
    /// Id of the channel.
    #[schema(example = "channel_8c41d9f0b2a7e635")]
    channel_id: String,
    /// Name of the channel.
    #[schema(example = "on call")]
    channel_name: String,
    /// Id of the alert; of a test notification an id without an alert.
    #[schema(example = "alert_5fbc0c7e9a31")]
    alert_id: String,
    /// Deduplication key of the alert.
    #[schema(example = "drift:values:rows:Order_Completed:Payments team")]
    key: String,
    /// State of the alert in the notification.
    notification_state: AlertStateBody,
    /// Severity of the alert in the notification.
    #[schema(value_type = Severity)]
    severity: &'static str,
    /// State of the delivery: `pending`, `delivered`, `failed` (not accepted in ten attempts over
    /// three days) or `withdrawn` (the channel was disabled).
    #[schema(value_type = DeliveryState)]
    state: String,
    /// The next attempt; null if none is scheduled.
    next_attempt_at: Option<Timestamp>,
    /// Creation.
    created_at: Timestamp,
    /// Success or end of the attempts; null while it is pending.
    finished_at: Option<Timestamp>,
    /// Attempts, oldest first.
    attempts: Vec<DeliveryAttemptBody>,
}

/// Whether the problem of an alert persists.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AlertStateBody {
    Firing,
    Resolved,
}

/// State of a delivery.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "names a schema only")]
enum DeliveryState {
    Pending,
    Delivered,
    Failed,
    Withdrawn,
}

/// One attempt of a delivery.
#[derive(Debug, Serialize, ToSchema)]
struct DeliveryAttemptBody {
    /// Start of the attempt.
    at: Timestamp,
    /// Whether the receiver accepted the notification.
    is_accepted: bool,
    /// HTTP status of the response; null if no response arrived.
    #[schema(example = 200)]
    status: Option<u16>,
    /// First part of the response, or the error.
    #[schema(example = "ok")]
    response: String,
    /// Duration in milliseconds.
    #[schema(example = 120)]
    duration_milliseconds: i64,
}

impl From<AlertState> for AlertStateBody {
    fn from(state: AlertState) -> Self {
        match state {
            AlertState::Firing => Self::Firing,
            AlertState::Resolved => Self::Resolved,
        }
    }
}

impl From<DeliveryRow> for DeliveryBody {
    fn from(row: DeliveryRow) -> Self {
        Self {
            delivery_id: row.delivery_id,
            channel_id: row.channel_id,
            channel_name: row.channel_name,
            alert_id: row.alert_id,
            key: row.key,
            notification_state: row.notice_state.into(),
            severity: row.severity.as_str(),
            state: row.state,
            next_attempt_at: row.next_at,
            created_at: row.created_at,
            finished_at: row.finished_at,
            attempts: row.attempts.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<DeliveryAttempt> for DeliveryAttemptBody {
    fn from(attempt: DeliveryAttempt) -> Self {
        Self {
            at: attempt.at,
            is_accepted: attempt.is_accepted,
            status: attempt.status,
            response: attempt.response,
            duration_milliseconds: attempt.duration_millis,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveryListQuery {
    /// Deliveries per page.
    #[serde(default)]
    #[param(inline)]
    limit: PageLimit<50, 200>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<PageCursor<i64>>,
}

/// A page of the deliveries of a channel, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryListBody {
    deliveries: Vec<DeliveryBody>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// List the deliveries of a channel, newest first.
///
/// Each with the time, response and duration of its attempts.
#[utoipa::path(
    get,
    path = "/v1/channels/{channel_id}/deliveries",
    tag = "Deliveries",
    security(("key" = ["read"])),
    params(ChannelIdPath, DeliveryListQuery),
    responses(
        (status = 200, body = DeliveryListBody, description = "Deliveries"),
        (status = 404, description = "There is no such channel"),
    )
)]
pub(crate) async fn list_channel_deliveries(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(channel_id): PathParameters<String>,
    QueryParameters(query): QueryParameters<DeliveryListQuery>,
) -> Result<Json<DeliveryListBody>, ApiError> {
    state.alerts.channel(&channel_id).await?;
    let limit = query.limit.get();
    let before = query.cursor.map(|PageCursor(position)| position);
    let filter = DeliveryLogFilter::Channel(&channel_id);
    let rows = delivery_log::list(&state.db, filter, before, limit).await?;
    let next_cursor = PageCursor::after(&rows, limit, |row| row.position);
    let deliveries = rows.into_iter().map(Into::into).collect();
    Ok(Json(DeliveryListBody { deliveries, next_cursor }))
}

/// Send a delivery again under the same id.
///
/// A pending delivery is attempted at once.
#[utoipa::path(
    post,
    path = "/v1/deliveries/{delivery_id}/replay",
    tag = "Deliveries",
    security(("key" = ["admin"])),
    params(("delivery_id" = String, Path, description = "Id of the delivery")),
    responses(
        (status = 204, description = "The delivery is queued"),
        (status = 404, description = "There is no such delivery"),
        (status = 409, description = "The channel is disabled"),
    )
)]
pub(crate) async fn replay_delivery(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    PathParameters(delivery_id): PathParameters<String>,
) -> Result<StatusCode, ApiError> {
    state.alerts.replay_delivery(&delivery_id, &caller.actor("requested")).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The deliveries to send again, by their time of creation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReplayDeliveriesRequest {
    /// Start of the period.
    #[schema(example = "2026-03-01T00:00:00Z")]
    since: Timestamp,
    /// End of the period, exclusive.
    #[schema(example = "2026-03-02T00:00:00Z")]
    until: Timestamp,
    /// Whether to include notifications that were delivered; default false.
    #[serde(default)]
    delivered: bool,
}

/// The number of deliveries that are sent again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayedDeliveriesBody {
    /// Number of deliveries, at most 1,000.
    #[schema(example = 12)]
    replayed: usize,
}

/// Send failed and withdrawn deliveries of a channel again.
///
/// At most 1,000 deliveries, oldest first. A longer period needs further requests.
#[utoipa::path(
    post,
    path = "/v1/channels/{channel_id}/replay",
    tag = "Deliveries",
    security(("key" = ["admin"])),
    params(ChannelIdPath),
    request_body = ReplayDeliveriesRequest,
    responses(
        (status = 200, body = ReplayedDeliveriesBody, description = "The deliveries are queued"),
        (status = 404, description = "There is no such channel"),
        (status = 409, description = "The channel is disabled"),
    )
)]
pub(crate) async fn replay_channel_deliveries(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    PathParameters(channel_id): PathParameters<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<ReplayedDeliveriesBody>, ApiError> {
    let ReplayDeliveriesRequest { since, until, delivered } = parse_json(&body)?;
    let range = ReplayRange { since, until, includes_delivered: delivered };
    let why = format!("from {since} to {until}");
    let replayed = state.alerts.replay_range(&channel_id, range, &caller.actor(why)).await?;
    Ok(Json(ReplayedDeliveriesBody { replayed }))
}
