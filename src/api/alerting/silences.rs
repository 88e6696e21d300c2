//! `/v1/silences…`: silences, which suppress notifications for a limited time.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::request::page::{InstantAndId, PageCursor, PageLimit};
use crate::api::request::{
    AuthorizedCaller, JsonBody, PathParameters, QueryParameters, Read, Train, parse_json,
};
use crate::api::{ApiError, ApiState};
use crate::domain::alert::{AlertSilence, AlertTopic};
use crate::domain::time::Timestamp;
use crate::service::api_keys::KeyAuthenticator;
use crate::store::alerting::silences;
use crate::store::alerting::silences::{SilencePage, SilenceRow};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SilenceListQuery {
    /// Silences per page.
    #[serde(default)]
    #[param(inline)]
    limit: PageLimit<100, 1000>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<PageCursor<InstantAndId>>,
}

/// A page of the silences in force, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SilenceListBody {
    silences: Vec<SilenceBody>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// A silence. It covers the alerts that match all its filters.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SilenceBody {
    /// Id of the silence.
    #[schema(example = "silence_2f6d1c80a4b7e935")]
    silence_id: String,
    /// Topic of the alerts; null: all.
    #[schema(value_type = Option<AlertTopic>)]
    topic: Option<&'static str>,
    /// Owner of the alerts; null: all.
    #[schema(example = "Payments team")]
    owner: Option<String>,
    /// Start of the alerts' keys; null: all.
    #[schema(example = "drift:values:spend_365d:")]
    key_prefix: Option<String>,
    /// End of the silence.
    until: Timestamp,
    /// Creation.
    created_at: Timestamp,
    /// Author: `key ` and the id of an API key.
    #[schema(example = "key 0050e0c5c045")]
    created_by: String,
    /// Name of the API key of the author; null if the key is unknown.
    #[schema(example = "on call")]
    created_by_name: Option<String>,
    /// Reason given by the author.
    #[schema(example = "Planned migration of the shop")]
    reason: String,
}

impl SilenceBody {
    fn new(row: SilenceRow, keys: &KeyAuthenticator) -> Self {
        Self {
            created_by_name: keys.name_of_author(&row.created_by),
            silence_id: row.silence_id,
            topic: row.silence.topic.map(AlertTopic::as_str),
            owner: row.silence.owner,
            key_prefix: row.silence.key_prefix,
            until: row.silence.until,
            created_at: row.created_at,
            created_by: row.created_by,
            reason: row.reason,
        }
    }
}

/// List the silences in force, newest first.
#[utoipa::path(
    get,
    path = "/v1/silences",
    tag = "Silences",
    security(("key" = ["read"])),
    params(SilenceListQuery),
    responses((status = 200, body = SilenceListBody, description = "The silences"))
)]
pub(crate) async fn list_silences(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<SilenceListQuery>,
) -> Result<Json<SilenceListBody>, ApiError> {
    let limit = query.limit.get();
    let page = SilencePage { after: query.cursor.map(|PageCursor(key)| key), limit };
    let rows = silences::list_page(&state.db, state.clock.now(), &page).await?;
    let next_cursor =
        PageCursor::after(&rows, limit, |row| (row.created_at, row.silence_id.clone()));
    let silences = rows.into_iter().map(|row| SilenceBody::new(row, &state.api_keys)).collect();
    Ok(Json(SilenceListBody { silences, next_cursor }))
}

/// A silence to create. An absent filter matches every alert.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateSilenceRequest {
    /// Only alerts of this topic; default all.
    topic: Option<AlertTopic>,
    /// Only alerts of this owner; default all.
    #[schema(max_length = 200, example = "Payments team")]
    owner: Option<String>,
    /// Only alerts with a key that begins with this text; default all.
    #[schema(max_length = 200, example = "drift:values:spend_365d:")]
    key_prefix: Option<String>,
    /// End of the silence, within 366 days.
    until: Timestamp,
    /// Reason, for the readers of the list.
    #[schema(min_length = 1, max_length = 2000, example = "Planned migration of the shop")]
    reason: String,
}

/// Suppress notifications of matching alerts.
///
/// Matching alerts are still recorded and listed. Those that fire at the end of the silence are
/// then notified. The resolution of an alert is sent to every channel that was notified of it.
#[utoipa::path(
    post,
    path = "/v1/silences",
    tag = "Silences",
    security(("key" = ["train"])),
    request_body = CreateSilenceRequest,
    responses((status = 201, body = SilenceBody, description = "The silence"))
)]
pub(crate) async fn create_silence(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<SilenceBody>), ApiError> {
    let CreateSilenceRequest { topic, owner, key_prefix, until, reason } = parse_json(&body)?;
    let silence = AlertSilence { topic, owner, key_prefix, until };
    let row = state.alerts.create_silence(silence, &caller.actor(reason)).await?;
    Ok((StatusCode::CREATED, Json(SilenceBody::new(row, &state.api_keys))))
}

/// End a silence.
///
/// Notifications of matching alerts that still fire are sent soon after.
#[utoipa::path(
    delete,
    path = "/v1/silences/{silence_id}",
    tag = "Silences",
    security(("key" = ["train"])),
    params(("silence_id" = String, Path, description = "Id of the silence")),
    responses(
        (status = 204, description = "The silence has ended"),
        (status = 404, description = "There is no such silence in force"),
    )
)]
pub(crate) async fn end_silence(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    PathParameters(silence_id): PathParameters<String>,
) -> Result<StatusCode, ApiError> {
    state.alerts.end_silence(&silence_id, &caller.actor("requested")).await?;
    Ok(StatusCode::NO_CONTENT)
}
