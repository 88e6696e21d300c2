//! Deliveries of a channel with their attempts, and replay of deliveries.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::api::request::parameters::{last_of_full_page, page_cursor, page_limit};
use crate::api::request::{
    Admin, AuthorizedCaller, JsonBody, PathParameters, QueryParameters, Read, parse_json,
};
use crate::api::{ApiError, ApiState};
use crate::domain::alert::AlertState as NotificationState;
use crate::domain::drift::Severity;
use crate::domain::time::Timestamp;
use crate::service::alerts::ReplayRange;
use crate::store::alerting::deliveries::DeliveryAttempt;
use crate::store::alerting::delivery_log;
use crate::store::alerting::delivery_log::{DeliveryLogFilter, DeliveryRow};

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 200;

#[derive(Debug, Serialize)]
pub(crate) struct DeliveryBody {
    /// Delivery id: the same for every attempt, so that receivers can deduplicate.
    delivery: String,
    channel: String,
    channel_name: String,
    alert: String,
    key: String,
    /// State in the notification: firing or resolved.
    notification_state: NotificationState,
    severity: Severity,
    /// `pending`, `delivered`, `failed` or `withdrawn`
    state: String,
    next_attempt_at: Option<Timestamp>,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
    /// Oldest first.
    attempts: Vec<AttemptBody>,
}

#[derive(Debug, Serialize)]
struct AttemptBody {
    at: Timestamp,
    is_accepted: bool,
    /// HTTP status; null if no response arrived.
    status: Option<u16>,
    /// First part of the response, or the error.
    response: String,
    duration_milliseconds: i64,
}

impl From<DeliveryRow> for DeliveryBody {
    fn from(row: DeliveryRow) -> Self {
        Self {
            delivery: row.delivery_id,
            channel: row.channel_id,
            channel_name: row.channel_name,
            alert: row.alert_id,
            key: row.key,
            notification_state: row.notice_state,
            severity: row.severity,
            state: row.state,
            next_attempt_at: row.next_at,
            created_at: row.created_at,
            finished_at: row.finished_at,
            attempts: row.attempts.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<DeliveryAttempt> for AttemptBody {
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeliveriesQuery {
    before: Option<String>,
    limit: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct DeliveriesBody {
    deliveries: Vec<DeliveryBody>,
    /// Send this as `before` for the next page; null on the last page.
    next_before: Option<String>,
}

pub(crate) async fn get_deliveries(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(id): PathParameters<String>,
    QueryParameters(query): QueryParameters<DeliveriesQuery>,
) -> Result<Json<DeliveriesBody>, ApiError> {
    state.alerts.channel(&id).await?;
    let limit = page_limit(query.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let before = query.before.as_deref().map(page_cursor).transpose()?;
    let rows =
        delivery_log::list(&state.db, DeliveryLogFilter::Channel(&id), before, limit).await?;
    let next_before = last_of_full_page(&rows, limit).map(|row| row.position.to_string());
    let deliveries = rows.into_iter().map(Into::into).collect();
    Ok(Json(DeliveriesBody { deliveries, next_before }))
}

pub(crate) async fn post_replay(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    PathParameters(id): PathParameters<String>,
) -> Result<StatusCode, ApiError> {
    state.alerts.replay_delivery(&id, &caller.actor("requested")).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayRangeRequest {
    since: Timestamp,
    until: Timestamp,
    /// Replay delivered notifications as well.
    #[serde(default)]
    delivered: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct ReplayedDeliveriesBody {
    replayed: usize,
}

pub(crate) async fn post_replay_range(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    PathParameters(id): PathParameters<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<ReplayedDeliveriesBody>, ApiError> {
    let ReplayRangeRequest { since, until, delivered } = parse_json(&body)?;
    let range = ReplayRange { since, until, includes_delivered: delivered };
    let why = format!("from {since} to {until}");
    let replayed = state.alerts.replay_range(&id, range, &caller.actor(why)).await?;
    Ok(Json(ReplayedDeliveriesBody { replayed }))
}
