//! `/v1/channels…`: notification channels, with their recipients and alert filters. Stored
//! secrets are never returned.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::alerting::channel_target::{ChannelTargetBody, ChannelTargetRequest};
use crate::api::request::page::{PageCursor, PageLimit};
use crate::api::request::{
    Admin, AuthorizedCaller, JsonBody, PathParameters, QueryParameters, Read, parse_json,
};
use crate::api::{ApiError, ApiState};
use crate::domain::alert::{AlertRoute, ChannelTopic};
use crate::domain::drift::Severity;
use crate::domain::time::Timestamp;
use crate::service::alerts::channels::{ChannelRequest, ChannelWithSecret};
use crate::service::api_keys::KeyAuthenticator;
use crate::store::alerting::channels::{ChannelPage, ChannelRow};
use crate::store::alerting::decisions::AlertDecision;
use crate::store::alerting::{channels, decisions};

/// The path parameter of one channel, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a parameter only")]
pub(in crate::api) struct ChannelIdPath {
    /// Id of the channel.
    channel_id: String,
}

/// Most decisions in the response for one channel; the latest.
const MOST_DECISIONS: i64 = 100;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChannelListQuery {
    /// Channels per page.
    #[serde(default)]
    #[param(inline)]
    limit: PageLimit<100, 500>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<PageCursor<String>>,
}

/// A page of notification channels, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChannelListBody {
    channels: Vec<ChannelBody>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// A notification channel, without its address and its secrets.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChannelBody {
    /// Id of the channel.
    #[schema(example = "channel_8c41d9f0b2a7e635")]
    channel_id: String,
    /// Unique name.
    #[schema(example = "on call")]
    name: String,
    target: ChannelTargetBody,
    /// Only alerts of these owners; empty: all alerts, with and without an owner.
    #[schema(example = json!(["Payments team"]))]
    owners: Vec<String>,
    /// Received topics; empty: all topics of alerts, without `moves`.
    #[schema(value_type = Vec<ChannelTopic>)]
    topics: Vec<&'static str>,
    /// Only alerts of at least this severity.
    #[schema(value_type = Severity)]
    min_severity: &'static str,
    /// Escalation delay. 0: notify at once. Otherwise notify only of alerts that still fire
    /// after this delay without an acknowledgement.
    #[schema(example = 900)]
    escalation_delay_seconds: u32,
    /// Creation.
    created_at: Timestamp,
    /// Since when the channel receives no notifications; null: enabled.
    disabled_at: Option<Timestamp>,
    /// Why it is disabled; null: enabled.
    #[schema(example = "the receiver answered 410 Gone")]
    disabled_reason: Option<String>,
}

impl From<ChannelRow> for ChannelBody {
    fn from(row: ChannelRow) -> Self {
        let (disabled_at, disabled_reason) = row.disabled.map(|one| (one.at, one.reason)).unzip();
        Self {
            channel_id: row.channel_id,
            name: row.name,
            target: (&row.target).into(),
            owners: row.route.owners,
            topics: row.route.topics.into_iter().map(ChannelTopic::as_str).collect(),
            min_severity: row.route.min_severity.as_str(),
            escalation_delay_seconds: row.route.escalation_delay_seconds,
            created_at: row.created_at,
            disabled_at,
            disabled_reason,
        }
    }
}

/// A channel with its generated signing secret, which is returned only once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChannelWithSecretBody {
    #[serde(flatten)]
    channel: ChannelBody,
    /// The generated signing secret of a webhook; left out if none was generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
    secret: Option<String>,
}

impl From<ChannelWithSecret> for ChannelWithSecretBody {
    fn from(declared: ChannelWithSecret) -> Self {
        let secret = declared.generated.map(|secret| secret.expose().clone());
        Self { channel: declared.row.into(), secret }
    }
}

/// A channel with its audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChannelWithDecisionsBody {
    #[serde(flatten)]
    channel: ChannelBody,
    /// The latest 100 changes of the channel, newest first.
    decisions: Vec<ChannelDecisionBody>,
}

/// A change of a channel, with its author.
#[derive(Debug, Serialize, ToSchema)]
struct ChannelDecisionBody {
    /// The change: `create`, `replace`, `enable`, `disable`, `test` or `replay`.
    #[schema(example = "create")]
    step: String,
    /// Instant of the change.
    decided_at: Timestamp,
    /// Author: `key ` and the id of an API key, or `segmentd`.
    #[schema(example = "key 0050e0c5c045")]
    decided_by: String,
    /// Name of the API key of the author; null for other authors and unknown keys.
    #[schema(example = "operations")]
    decided_by_name: Option<String>,
    /// Reason given by the author.
    #[schema(example = "requested")]
    reason: String,
}

impl ChannelDecisionBody {
    fn new(decision: AlertDecision, keys: &KeyAuthenticator) -> Self {
        Self {
            decided_by_name: keys.name_of_author(&decision.actor),
            step: decision.step,
            decided_at: decision.decided_at,
            decided_by: decision.actor,
            reason: decision.reason,
        }
    }
}

/// A channel to create, or the new settings of a channel. An absent filter matches every alert.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChannelSettingsRequest {
    /// Unique name.
    #[schema(min_length = 1, max_length = 200, example = "on call")]
    name: String,
    /// The receiver. Required for a new channel; default unchanged for an existing one.
    target: Option<ChannelTargetRequest>,
    /// Only alerts of these owners; default all alerts, with and without an owner.
    #[serde(default)]
    #[schema(max_items = 1000, example = json!(["Payments team"]))]
    owners: Vec<String>,
    /// Only these topics; default all topics of alerts. `moves` must be named and needs a webhook:
    /// it receives the moves of customers between segments (webhook `customer.moves`). `owners`,
    /// `min_severity` and `escalation_delay_seconds` do not filter moves.
    #[serde(default)]
    topics: Vec<ChannelTopic>,
    /// Only alerts of at least this severity; default `notice`.
    min_severity: Option<Severity>,
    /// Escalation delay: notify only of alerts that still fire after this delay without an
    /// acknowledgement. Default 0: notify at once.
    #[serde(default)]
    #[schema(maximum = 2_592_000, example = 900)]
    escalation_delay_seconds: u32,
    /// Reason, recorded with the change; default `requested`.
    #[schema(max_length = 2000, example = "requested")]
    reason: Option<String>,
}

impl ChannelSettingsRequest {
    /// Parses the body into a channel and the reason.
    fn parse(body: &[u8]) -> Result<(ChannelRequest, String), ApiError> {
        let request: Self = parse_json(body)?;
        let route = AlertRoute {
            owners: request.owners,
            topics: request.topics,
            min_severity: request.min_severity.unwrap_or(Severity::Notice),
            escalation_delay_seconds: request.escalation_delay_seconds,
        };
        let reason = request.reason.unwrap_or_else(|| "requested".into());
        let target = request.target.map(Into::into);
        Ok((ChannelRequest { name: request.name, target, route }, reason))
    }
}

/// List notification channels by name.
#[utoipa::path(
    get,
    path = "/v1/channels",
    tag = "Channels",
    security(("key" = ["read"])),
    params(ChannelListQuery),
    responses((status = 200, body = ChannelListBody, description = "Channels, without their secrets"))
)]
pub(crate) async fn list_channels(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<ChannelListQuery>,
) -> Result<Json<ChannelListBody>, ApiError> {
    let limit = query.limit.get();
    let page = ChannelPage { after: query.cursor.map(|PageCursor(name)| name), limit };
    let rows = channels::list_page(&state.db, &page).await?;
    let next_cursor = PageCursor::after(&rows, limit, |row| row.name.clone());
    let channels = rows.into_iter().map(Into::into).collect();
    Ok(Json(ChannelListBody { channels, next_cursor }))
}

/// Get a notification channel.
///
/// `decisions` are its changes, each with author, time and reason.
#[utoipa::path(
    get,
    path = "/v1/channels/{channel_id}",
    tag = "Channels",
    security(("key" = ["read"])),
    params(ChannelIdPath),
    responses(
        (status = 200, body = ChannelWithDecisionsBody, description = "The channel"),
        (status = 404, description = "There is no such channel"),
    )
)]
pub(crate) async fn get_channel(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(channel_id): PathParameters<String>,
) -> Result<Json<ChannelWithDecisionsBody>, ApiError> {
    let row = state.alerts.channel(&channel_id).await?;
    let rows = decisions::list_about(&state.db, "channel", &channel_id, MOST_DECISIONS).await?;
    let decisions =
        rows.into_iter().map(|row| ChannelDecisionBody::new(row, &state.api_keys)).collect();
    Ok(Json(ChannelWithDecisionsBody { channel: row.into(), decisions }))
}

/// Create a notification channel.
///
/// Alerts that are already firing are sent to it too. For a webhook without secrets a secret is
/// generated; only this response has it.
#[utoipa::path(
    post,
    path = "/v1/channels",
    tag = "Channels",
    security(("key" = ["admin"])),
    request_body = ChannelSettingsRequest,
    responses(
        (status = 201, body = ChannelWithSecretBody, description = "The channel"),
        (status = 409, description = "Another channel has this name, or there are 500 channels"),
    )
)]
pub(crate) async fn create_channel(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<ChannelWithSecretBody>), ApiError> {
    let (request, reason) = ChannelSettingsRequest::parse(&body)?;
    let declared = state.alerts.create_channel(request, &caller.actor(reason)).await?;
    Ok((StatusCode::CREATED, Json(declared.into())))
}

/// Replace a notification channel.
///
/// Without `target` the channel retains its present one. A webhook without `secrets` retains its
/// secrets.
#[utoipa::path(
    put,
    path = "/v1/channels/{channel_id}",
    tag = "Channels",
    security(("key" = ["admin"])),
    params(ChannelIdPath),
    request_body = ChannelSettingsRequest,
    responses(
        (status = 200, body = ChannelWithSecretBody, description = "The channel"),
        (status = 404, description = "There is no such channel"),
        (status = 409, description = "Another channel has this name"),
    )
)]
pub(crate) async fn replace_channel(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    PathParameters(channel_id): PathParameters<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<ChannelWithSecretBody>, ApiError> {
    let (request, reason) = ChannelSettingsRequest::parse(&body)?;
    let author = caller.actor(reason);
    Ok(Json(state.alerts.replace_channel(&channel_id, request, &author).await?.into()))
}

/// Delete a notification channel.
///
/// Its pending and past deliveries are deleted too.
#[utoipa::path(
    delete,
    path = "/v1/channels/{channel_id}",
    tag = "Channels",
    security(("key" = ["admin"])),
    params(ChannelIdPath),
    responses(
        (status = 204, description = "The channel is deleted"),
        (status = 404, description = "There is no such channel"),
    )
)]
pub(crate) async fn delete_channel(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    PathParameters(channel_id): PathParameters<String>,
) -> Result<StatusCode, ApiError> {
    state.alerts.delete_channel(&channel_id, &caller.actor("requested")).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Enable a disabled notification channel.
///
/// segmentd disables a channel when its receiver answers 410. Alerts that are firing are sent to
/// the enabled channel; missed notifications can be sent again by a replay. Moves continue after the
/// last accepted one. An enabled channel is left unchanged.
#[utoipa::path(
    post,
    path = "/v1/channels/{channel_id}/enable",
    tag = "Channels",
    security(("key" = ["admin"])),
    params(ChannelIdPath),
    responses(
        (status = 200, body = ChannelBody, description = "The channel"),
        (status = 404, description = "There is no such channel"),
    )
)]
pub(crate) async fn enable_channel(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    PathParameters(channel_id): PathParameters<String>,
) -> Result<Json<ChannelBody>, ApiError> {
    Ok(Json(state.alerts.enable_channel(&channel_id, &caller.actor("requested")).await?.into()))
}

/// The id of a test notification.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TestDeliveryBody {
    /// Id of the delivery among the deliveries of the channel.
    #[schema(example = "msg_7b9f2c6a01d84e53")]
    delivery_id: String,
}

/// Send a test notification to a channel.
///
/// The notification has the topic `test`. The deliveries of the channel show its attempts.
#[utoipa::path(
    post,
    path = "/v1/channels/{channel_id}/test",
    tag = "Channels",
    security(("key" = ["admin"])),
    params(ChannelIdPath),
    responses(
        (status = 202, body = TestDeliveryBody, description = "The notification is queued"),
        (status = 404, description = "There is no such channel"),
        (status = 409, description = "The channel is disabled"),
    )
)]
pub(crate) async fn test_channel(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    PathParameters(channel_id): PathParameters<String>,
) -> Result<(StatusCode, Json<TestDeliveryBody>), ApiError> {
    let delivery_id = state.alerts.test_channel(&channel_id, &caller.actor("requested")).await?;
    Ok((StatusCode::ACCEPTED, Json(TestDeliveryBody { delivery_id })))
}
