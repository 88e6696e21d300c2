//! `/v1/channels…`: notification channels, with their recipients and alert filters. Stored
//! secrets are never returned.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::api::request::{Admin, AuthorizedCaller, JsonBody, PathParameters, Read, parse_json};
use crate::api::{ApiError, ApiState};
use crate::domain::alert::{AlertRoute, AlertTopic, DeliveryTarget, RedactedTarget};
use crate::domain::drift::Severity;
use crate::domain::time::Timestamp;
use crate::service::alerts::channels::{ChannelRequest, ChannelWithSecret};
use crate::service::api_keys::KeyAuthenticator;
use crate::store::alerting::channels::ChannelRow;
use crate::store::alerting::decisions::AlertDecision;
use crate::store::alerting::{channels, decisions};

/// Most decisions in the response for one channel; the latest.
const MOST_DECISIONS: i64 = 100;

#[derive(Debug, Serialize)]
pub(crate) struct ChannelsBody {
    channels: Vec<ChannelBody>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ChannelBody {
    channel: String,
    name: String,
    target: RedactedTarget,
    owners: Vec<String>,
    topics: Vec<AlertTopic>,
    min_severity: Severity,
    escalation_delay_seconds: u32,
    created_at: Timestamp,
    disabled_at: Option<Timestamp>,
    disabled_reason: Option<String>,
}

impl From<ChannelRow> for ChannelBody {
    fn from(row: ChannelRow) -> Self {
        let (disabled_at, disabled_reason) = row.disabled.map(|one| (one.at, one.reason)).unzip();
        Self {
            channel: row.channel_id,
            name: row.name,
            target: row.target.redacted(),
            owners: row.route.owners,
            topics: row.route.topics,
            min_severity: row.route.min_severity,
            escalation_delay_seconds: row.route.escalation_delay_seconds,
            created_at: row.created_at,
            disabled_at,
            disabled_reason,
        }
    }
}

/// A channel with its generated signing secret, which is returned only once.
#[derive(Debug, Serialize)]
pub(crate) struct CreatedChannelBody {
    #[serde(flatten)]
    channel: ChannelBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<ChannelWithSecret> for CreatedChannelBody {
    fn from(declared: ChannelWithSecret) -> Self {
        let secret = declared.generated.map(|secret| secret.expose().clone());
        Self { channel: declared.row.into(), secret }
    }
}

/// A channel with the decisions about it.
#[derive(Debug, Serialize)]
pub(crate) struct ChannelDetailBody {
    #[serde(flatten)]
    channel: ChannelBody,
    /// Newest first.
    decisions: Vec<AlertDecisionBody>,
}

#[derive(Debug, Serialize)]
struct AlertDecisionBody {
    step: String,
    decided_at: Timestamp,
    decided_by: String,
    /// Name of the key.
    decided_by_name: Option<String>,
    reason: String,
}

impl AlertDecisionBody {
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

/// Request to create or replace a channel. An absent filter matches every alert.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelRequestBody {
    name: String,
    target: Option<DeliveryTarget>,
    #[serde(default)]
    owners: Vec<String>,
    #[serde(default)]
    topics: Vec<AlertTopic>,
    min_severity: Option<Severity>,
    #[serde(default)]
    escalation_delay_seconds: u32,
    reason: Option<String>,
}

impl ChannelRequestBody {
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
        Ok((ChannelRequest { name: request.name, target: request.target, route }, reason))
    }
}

pub(crate) async fn get_channels(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
) -> Result<Json<ChannelsBody>, ApiError> {
    let rows = channels::list(&state.db).await?;
    Ok(Json(ChannelsBody { channels: rows.into_iter().map(Into::into).collect() }))
}

pub(crate) async fn get_channel(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(id): PathParameters<String>,
) -> Result<Json<ChannelDetailBody>, ApiError> {
    let row = state.alerts.channel(&id).await?;
    let decisions = decisions::list_about(&state.db, "channel", &id, MOST_DECISIONS).await?;
    let decisions = decisions
        .into_iter()
        .map(|decision| AlertDecisionBody::new(decision, &state.api_keys))
        .collect();
    Ok(Json(ChannelDetailBody { channel: row.into(), decisions }))
}

pub(crate) async fn post_channel(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<CreatedChannelBody>), ApiError> {
    let (wanted, reason) = ChannelRequestBody::parse(&body)?;
    let declared = state.alerts.create_channel(wanted, &caller.actor(reason)).await?;
    Ok((StatusCode::CREATED, Json(declared.into())))
}

pub(crate) async fn put_channel(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    PathParameters(id): PathParameters<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<CreatedChannelBody>, ApiError> {
    let (wanted, reason) = ChannelRequestBody::parse(&body)?;
    Ok(Json(state.alerts.replace_channel(&id, wanted, &caller.actor(reason)).await?.into()))
}

pub(crate) async fn delete_channel(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    PathParameters(id): PathParameters<String>,
) -> Result<StatusCode, ApiError> {
    state.alerts.delete_channel(&id, &caller.actor("requested")).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn post_enable(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    PathParameters(id): PathParameters<String>,
) -> Result<Json<ChannelBody>, ApiError> {
    Ok(Json(state.alerts.enable_channel(&id, &caller.actor("requested")).await?.into()))
}

/// The id of a test delivery, to find it among the deliveries of the channel.
#[derive(Debug, Serialize)]
pub(crate) struct TestDeliveryBody {
    delivery: String,
}

pub(crate) async fn post_test(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    PathParameters(id): PathParameters<String>,
) -> Result<(StatusCode, Json<TestDeliveryBody>), ApiError> {
    let delivery = state.alerts.test_channel(&id, &caller.actor("requested")).await?;
    Ok((StatusCode::ACCEPTED, Json(TestDeliveryBody { delivery })))
}
