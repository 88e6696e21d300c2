//! `/v1/events/failed…`: list, count and replay rejected events (dead-letter queue).
//!
//! A raw body contains personal data that ingestion drops from accepted events. Reading it
//! therefore requires the scope `replay`, which no other scope includes. A replay requires
//! it too, as it ingests events of every key.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::request::page::{PageCursor, PageLimit};
use crate::api::request::{
    AuthorizedCaller, JsonBody, QueryParameters, Read, Replay, parse_optional_json,
};
use crate::api::{ApiError, ApiState};
use crate::domain::access::AccessScope;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::time::Timestamp;
use crate::domain::wire::IngestionEndpoint;
use crate::service::ServiceError;
use crate::service::ingestion::ReplaySelection;
use crate::store::failed_events::{FailedEventFilter, FailedEventGroup, FailedEventRow};
use crate::store::{api_keys, failed_events};

/// Most events that one request replays, so that others need not wait for long.
const MAX_REPLAYED: usize = 1000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FailedEventListQuery {
    /// Only events of this endpoint.
    #[param(value_type = Option<IngestionEndpoint>)]
    endpoint: Option<String>,
    /// Only events of the API key with this id.
    key_id: Option<String>,
    /// Only events with exactly this reason, as in the summary.
    reason: Option<String>,
    /// Include the events as they were sent, which contain personal data. Needs the scope
    /// `replay` too.
    #[serde(default)]
    raw: bool,
    /// Events per page.
    #[serde(default)]
    #[param(inline)]
    limit: PageLimit<50, 500>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<PageCursor<i64>>,
}

/// A page of failed events, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FailedEventListBody {
    failed_events: Vec<FailedEventBody>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// A failed event: an event that was rejected, or in conflict with another one.
#[derive(Debug, Serialize, ToSchema)]
struct FailedEventBody {
    /// Id of the failed event.
    #[schema(example = "4711")]
    failed_event_id: String,
    /// Instant of receipt.
    received_at: Timestamp,
    /// The endpoint that received the event.
    #[schema(value_type = IngestionEndpoint)]
    endpoint: String,
    /// Id of the API key that sent the event.
    #[schema(example = "0050e0c5c045")]
    key_id: String,
    /// Why the event failed, without its values.
    #[schema(example = "timestamp: lies in the future")]
    reason: String,
    /// Every fault of the event, one a line.
    #[schema(
        example = "timestamp: lies in the future; at most 3600 s ahead of the clock is accepted"
    )]
    faults: String,
    /// The event as sent, without API keys. Left out without `raw`.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
    /// Whether the whole event is stored. Otherwise it is truncated, or not UTF-8 and shown as
    /// Latin-1, and cannot be replayed.
    is_complete: bool,
    /// Instant of the replay that counted the event; null: not replayed.
    replayed_at: Option<Timestamp>,
    /// Outcome of that replay; null: not replayed.
    #[schema(value_type = Option<ReplayOutcomeBody>)]
    outcome: Option<String>,
}

/// Outcome of the replay of an event. `accepted`: counted by the replay. `duplicate`: counted before
/// the replay.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "names a schema only")]
enum ReplayOutcomeBody {
    Accepted,
    Duplicate,
}

/// List failed events, newest first.
///
/// Rejected events and conflicts are stored with their reasons, except in strict requests,
/// and at most `failed_events.max_per_minute` per key. They are deleted after
/// `failed_events.retention_days`.
#[utoipa::path(
    get,
    path = "/v1/events/failed",
    tag = "Failed events",
    security(("key" = ["read"])),
    params(FailedEventListQuery),
    responses((status = 200, body = FailedEventListBody, description = "Failed events"))
)]
pub(crate) async fn list_failed_events(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<FailedEventListQuery>,
) -> Result<Json<FailedEventListBody>, ApiError> {
    if query.raw && !caller.principal.has_scope(AccessScope::Replay) {
        return Err(ApiError::forbidden(format!(
            "raw bodies contain personal data: the key lacks the scope `{}`",
            AccessScope::Replay
        )));
    }
    let limit = query.limit.get();
    let before = query.cursor.map(|PageCursor(id)| id);
    let filter =
        FailedEventFilter { endpoint: query.endpoint, key_id: query.key_id, reason: query.reason };
    check_filter(&state, &filter).await?;
    let rows = failed_events::list(&state.db, &filter, before, query.raw, limit).await?;
    let next_cursor = PageCursor::after(&rows, limit, |row| row.failed_event_id);
    let failed_events = rows.into_iter().map(FailedEventBody::new).collect();
    Ok(Json(FailedEventListBody { failed_events, next_cursor }))
}

/// Refuses an endpoint or a key that does not exist.
async fn check_filter(state: &ApiState, filter: &FailedEventFilter) -> Result<(), ApiError> {
    let mut faults = ValidationFaults::default();
    if let Some(endpoint) = &filter.endpoint
        && IngestionEndpoint::parse(endpoint).is_none()
    {
        let known = IngestionEndpoint::ALL.map(IngestionEndpoint::as_str).join(", ");
        let problem = format!("there is no endpoint `{endpoint}`; the endpoints are {known}");
        faults.push(ValidationFault::new("endpoint", problem));
    }
    if let Some(key_id) = &filter.key_id
        && api_keys::find(&state.db, key_id).await?.is_none()
    {
        let problem = format!("there is no key `{key_id}`; GET /v1/keys lists the keys");
        faults.push(ValidationFault::new("key_id", problem));
    }
    Ok(faults.into_result(()).map_err(ServiceError::Invalid)?)
}

impl FailedEventBody {
    fn new(row: FailedEventRow) -> Self {
        Self {
            failed_event_id: row.failed_event_id.to_string(),
            received_at: row.received_at,
            endpoint: row.endpoint,
            key_id: row.key_id,
            reason: row.reason,
            faults: row.faults,
            raw: row.raw,
            is_complete: row.is_complete,
            replayed_at: row.replayed_at,
            outcome: row.outcome,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FailedEventSummaryQuery {
    /// Only events received since this instant, RFC 3339; default all.
    since: Option<Timestamp>,
    /// Most groups.
    #[serde(default)]
    #[param(inline)]
    limit: PageLimit<50, 500>,
}

/// The largest groups of failed events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FailedEventSummaryBody {
    /// Groups, largest first.
    groups: Vec<FailedEventGroupBody>,
}

/// Failed events with the same key, endpoint and reason.
#[derive(Debug, Serialize, ToSchema)]
struct FailedEventGroupBody {
    /// Id of the API key that sent the events.
    #[schema(example = "0050e0c5c045")]
    key_id: String,
    /// The endpoint that received the events.
    #[schema(value_type = IngestionEndpoint)]
    endpoint: String,
    /// Why the events failed, without their values.
    #[schema(example = "timestamp: lies in the future")]
    reason: String,
    /// Number of events.
    #[schema(minimum = 1, example = 12)]
    events: i64,
    /// Events of the group that a replay counted.
    #[schema(minimum = 0)]
    replayed: i64,
    /// Receipt of the first event.
    first_at: Timestamp,
    /// Receipt of the last event.
    last_at: Timestamp,
}

/// Count failed events by key, endpoint and reason.
#[utoipa::path(
    get,
    path = "/v1/events/failed/summary",
    tag = "Failed events",
    security(("key" = ["read"])),
    params(FailedEventSummaryQuery),
    responses((status = 200, body = FailedEventSummaryBody, description = "The largest groups"))
)]
pub(crate) async fn summarize_failed_events(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<FailedEventSummaryQuery>,
) -> Result<Json<FailedEventSummaryBody>, ApiError> {
    let groups = failed_events::summarize(&state.db, query.since, query.limit.get()).await?;
    let groups = groups.into_iter().map(FailedEventGroupBody::new).collect();
    Ok(Json(FailedEventSummaryBody { groups }))
}

impl FailedEventGroupBody {
    fn new(group: FailedEventGroup) -> Self {
        Self {
            key_id: group.key_id,
            endpoint: group.endpoint,
            reason: group.reason,
            events: group.events,
            replayed: group.replayed,
            first_at: group.first_at,
            last_at: group.last_at,
        }
    }
}

/// Filter of failed events to replay; every given field must match. `{}` replays all events, page
/// by page.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "reason": "timestamp: lies in the future" }))]
struct ReplayFailedEventsRequest {
    /// Ids of failed events.
    #[schema(max_items = 1000, example = json!(["4711"]))]
    failed_event_ids: Option<Vec<String>>,
    /// Only events of this endpoint.
    #[schema(value_type = Option<IngestionEndpoint>)]
    endpoint: Option<String>,
    /// Only events of the API key with this id.
    #[schema(example = "0050e0c5c045")]
    key_id: Option<String>,
    /// Only events with exactly this reason, as in the summary.
    #[schema(example = "timestamp: lies in the future")]
    reason: Option<String>,
    /// Most events that are replayed by this request.
    #[serde(default)]
    #[schema(value_type = i64, minimum = 1, maximum = 1000, default = 1000)]
    limit: PageLimit<1000, 1000>,
    /// `next_cursor` of the previous response.
    #[schema(value_type = Option<String>)]
    cursor: Option<PageCursor<i64>>,
}

/// Outcomes of a replay.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayResultBody {
    /// Events that were counted by this replay.
    #[schema(example = 12)]
    accepted: usize,
    /// Events that were counted before.
    #[schema(example = 0)]
    duplicate: usize,
    /// Events that were not counted, because another event of the customer with the same
    /// `message_id` was. They stay failed events.
    #[schema(example = 0)]
    conflict: usize,
    /// Events that were rejected again. They stay failed events, with the new reason.
    #[schema(example = 0)]
    rejected: usize,
    /// The `cursor` of the next request; null if no event is left.
    next_cursor: Option<String>,
}

/// Replay failed events, oldest first.
///
/// Each event is processed as if its own key had sent it now, and counts once even if it is
/// replayed again. Events that were replayed successfully or are not stored as a whole are left
/// out.
#[utoipa::path(
    post,
    path = "/v1/events/failed/replay",
    tag = "Failed events",
    security(("key" = ["replay"])),
    request_body = Option<ReplayFailedEventsRequest>,
    responses((status = 200, body = ReplayResultBody, description = "The number of each outcome"))
)]
pub(crate) async fn replay_failed_events(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Replay>,
    JsonBody(body): JsonBody,
) -> Result<Json<ReplayResultBody>, ApiError> {
    let request: ReplayFailedEventsRequest = parse_optional_json(&body)?;
    let ids = match &request.failed_event_ids {
        Some(texts) => Some(known_ids(&state, texts).await?),
        None => None,
    };
    let filter = FailedEventFilter {
        endpoint: request.endpoint,
        key_id: request.key_id,
        reason: request.reason,
    };
    check_filter(&state, &filter).await?;
    let selection = ReplaySelection {
        ids,
        filter,
        after_id: request.cursor.map(|PageCursor(id)| id),
        limit: request.limit.get(),
    };
    let replayed = state.ingestion.replay_failed_events(&selection).await?;
    Ok(Json(ReplayResultBody {
        accepted: replayed.accepted,
        duplicate: replayed.duplicate,
        conflict: replayed.conflict,
        rejected: replayed.rejected,
        next_cursor: replayed.next_after_id.map(|id| PageCursor(id).encode()),
    }))
}

/// Parses ids of failed events, and refuses unknown ones.
async fn known_ids(state: &ApiState, texts: &[String]) -> Result<Vec<i64>, ApiError> {
    if texts.len() > MAX_REPLAYED {
        let problem = format!("must be at most {MAX_REPLAYED} ids");
        return Err(ApiError::invalid("failed_event_ids", problem));
    }
    let ids: Vec<Option<i64>> = texts.iter().map(|text| text.parse().ok()).collect();
    let numbers: Vec<i64> = ids.iter().copied().flatten().collect();
    let unknown = failed_events::list_unknown(&state.db, &numbers).await?;
    let mut faults = ValidationFaults::default();
    for (index, (id, text)) in ids.iter().zip(texts).enumerate() {
        if id.is_none_or(|id| unknown.contains(&id)) {
            let field = format!("failed_event_ids[{index}]");
            let problem = format!("there is no failed event `{text}`");
            faults.push(ValidationFault::new(field, problem));
        }
    }
    Ok(faults.into_result(numbers).map_err(ServiceError::Invalid)?)
}
