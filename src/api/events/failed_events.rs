//! `/v1/events/failed…`: list, count and replay rejected events (dead-letter queue).
//!
//! A raw body contains personal data that ingestion drops from accepted events. Reading it
//! therefore requires the scope `replay`, which no other scope includes. A replay requires
//! it too, as it ingests events of every key.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::api::request::parameters::{last_of_full_page, page_limit};
use crate::api::request::{
    AuthorizedCaller, JsonBody, QueryParameters, Read, Replay, parse_optional_json,
};
use crate::api::{ApiError, ApiState};
use crate::domain::access::AccessScope;
use crate::domain::time::Timestamp;
use crate::service::ingestion::ReplaySelection;
use crate::store::failed_events;
use crate::store::failed_events::{FailedEventFilter, FailedEventGroup, FailedEventRow};

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 500;
/// Most events that one request replays, so that others need not wait for long.
const MAX_REPLAYED: i64 = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FailedEventsQuery {
    before: Option<String>,
    limit: Option<i64>,
    endpoint: Option<String>,
    key: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    raw: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct FailedEventsBody {
    failed_events: Vec<FailedEventBody>,
    /// Send this as `before` for the next page; null on the last page.
    next_before: Option<String>,
}

#[derive(Debug, Serialize)]
struct FailedEventBody {
    id: String,
    received_at: Timestamp,
    endpoint: String,
    key: String,
    reason: String,
    /// Every fault, one a line.
    faults: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
    /// `raw` is the complete event as sent. Otherwise it is truncated or not UTF-8 (shown as
    /// Latin-1), and cannot be replayed.
    whole: bool,
    replayed_at: Option<Timestamp>,
    /// Result of the replay: accepted or duplicate.
    outcome: Option<String>,
}

pub(crate) async fn get_failed(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<FailedEventsQuery>,
) -> Result<Json<FailedEventsBody>, ApiError> {
    if query.raw && !caller.principal.has_scope(AccessScope::Replay) {
        return Err(ApiError::forbidden(format!(
            "raw bodies contain personal data: the key lacks the scope `{}`",
            AccessScope::Replay
        )));
    }
    let limit = page_limit(query.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let before = query.before.as_deref().map(|text| parse_id("before", text)).transpose()?;
    let filter =
        FailedEventFilter { endpoint: query.endpoint, key_id: query.key, reason: query.reason };
    let rows = failed_events::list(&state.db, &filter, before, query.raw, limit).await?;
    let next_before = last_of_full_page(&rows, limit).map(|row| row.failed_event_id.to_string());
    let failed_events = rows.into_iter().map(FailedEventBody::new).collect();
    Ok(Json(FailedEventsBody { failed_events, next_before }))
}

impl FailedEventBody {
    fn new(row: FailedEventRow) -> Self {
        Self {
            id: row.failed_event_id.to_string(),
            received_at: row.received_at,
            endpoint: row.endpoint,
            key: row.key_id,
            reason: row.reason,
            faults: row.faults,
            raw: row.raw,
            whole: row.is_complete,
            replayed_at: row.replayed_at,
            outcome: row.outcome,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FailedSummaryQuery {
    since: Option<Timestamp>,
    limit: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct FailedSummaryBody {
    /// Largest first.
    groups: Vec<FailedGroupBody>,
}

#[derive(Debug, Serialize)]
struct FailedGroupBody {
    key: String,
    endpoint: String,
    reason: String,
    events: i64,
    /// Events of the group that were replayed successfully.
    replayed: i64,
    first_at: Timestamp,
    last_at: Timestamp,
}

pub(crate) async fn get_summary(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<FailedSummaryQuery>,
) -> Result<Json<FailedSummaryBody>, ApiError> {
    let limit = page_limit(query.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let groups = failed_events::summarize(&state.db, query.since, limit).await?;
    Ok(Json(FailedSummaryBody { groups: groups.into_iter().map(FailedGroupBody::new).collect() }))
}

impl FailedGroupBody {
    fn new(group: FailedEventGroup) -> Self {
        Self {
            key: group.key_id,
            endpoint: group.endpoint,
            reason: group.reason,
            events: group.events,
            replayed: group.replayed,
            first_at: group.first_at,
            last_at: group.last_at,
        }
    }
}

/// Filters of a replay. An absent filter matches every event; `{}` replays all events, page
/// by page.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayRequest {
    ids: Option<Vec<String>>,
    endpoint: Option<String>,
    key: Option<String>,
    reason: Option<String>,
    after: Option<String>,
    limit: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ReplayResultBody {
    accepted: usize,
    duplicate: usize,
    /// Not counted: another event with this id was counted. Kept, with the reason.
    conflict: usize,
    rejected: usize,
    /// Send this as `after` for the next page; null on the last page.
    next_after: Option<String>,
}

pub(crate) async fn post_replay(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Replay>,
    JsonBody(body): JsonBody,
) -> Result<Json<ReplayResultBody>, ApiError> {
    let request: ReplayRequest = parse_optional_json(&body)?;
    let ids = request.ids.map(|ids| ids.iter().map(|text| parse_id("ids", text)).collect());
    let which = ReplaySelection {
        ids: ids.transpose()?,
        filter: FailedEventFilter {
            endpoint: request.endpoint,
            key_id: request.key,
            reason: request.reason,
        },
        after_id: request.after.as_deref().map(|text| parse_id("after", text)).transpose()?,
        limit: page_limit(request.limit, MAX_REPLAYED, MAX_REPLAYED)?,
    };
    let replayed = state.ingestion.replay_failed_events(&which).await?;
    Ok(Json(ReplayResultBody {
        accepted: replayed.accepted,
        duplicate: replayed.duplicate,
        conflict: replayed.conflict,
        rejected: replayed.rejected,
        next_after: replayed.next_after_id.map(|id| id.to_string()),
    }))
}

fn parse_id(field: &str, text: &str) -> Result<i64, ApiError> {
    text.parse().map_err(|_| {
        let problem = format!("`{text}` is not the id of a failed event");
        ApiError::invalid(field, problem)
    })
}
