//! `/v1/channels…`: notification channels, with their recipients and alert filters. Stored
//! secrets are never returned.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::api::alerting::alerts::by;
use crate::api::request::{Admin, Body, Caller, Path, Read, json};
use crate::api::{ApiError, ApiState};
use crate::domain::alert::{Route, Shown, Target, Topic};
use crate::domain::drift::Severity;
use crate::domain::time::Timestamp;
use crate::service::alerts::channels::{Declared, Wanted};
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
    target: Shown,
    owners: Vec<String>,
    topics: Vec<Topic>,
    least_severity: Severity,
    after_seconds: u32,
    created_at: Timestamp,
    disabled_at: Option<Timestamp>,
    disabled_why: Option<String>,
}

impl From<ChannelRow> for ChannelBody {
    fn from(row: ChannelRow) -> Self {
        let (disabled_at, disabled_why) = row.disabled.map(|one| (one.at, one.why)).unzip();
        Self {
            channel: row.channel_id,
            name: row.name,
            target: row.target.shown(),
            owners: row.route.owners,
            topics: row.route.topics,
            least_severity: row.route.least_severity,
            after_seconds: row.route.after_seconds,
            created_at: row.created_at,
            disabled_at,
            disabled_why,
        }
    }
}

/// A channel with its generated signing secret, which is returned only once.
#[derive(Debug, Serialize)]
pub(crate) struct DeclaredBody {
    #[serde(flatten)]
    channel: ChannelBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<Declared> for DeclaredBody {
    fn from(declared: Declared) -> Self {
        let secret = declared.generated.map(|secret| secret.expose().clone());
        Self { channel: declared.row.into(), secret }
    }
}

/// A channel with the decisions about it.
#[derive(Debug, Serialize)]
pub(crate) struct ToldChannelBody {
    #[serde(flatten)]
    channel: ChannelBody,
    /// Newest first.
    decisions: Vec<DecisionBody>,
}

#[derive(Debug, Serialize)]
struct DecisionBody {
    step: String,
    decided_at: Timestamp,
    decided_by: String,
    reason: String,
}

impl From<AlertDecision> for DecisionBody {
    fn from(decision: AlertDecision) -> Self {
        Self {
            step: decision.step,
            decided_at: decision.at,
            decided_by: decision.by,
            reason: decision.reason,
        }
    }
}

/// Request to create or replace a channel. An absent filter matches every alert.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    name: String,
    target: Option<Target>,
    #[serde(default)]
    owners: Vec<String>,
    #[serde(default)]
    topics: Vec<Topic>,
    least_severity: Option<Severity>,
    #[serde(default)]
    after_seconds: u32,
    reason: Option<String>,
}

impl Wish {
    /// Parses the body into a channel and the reason.
    fn read(body: &[u8]) -> Result<(Wanted, String), ApiError> {
        let wish: Self = json(body)?;
        let route = Route {
            owners: wish.owners,
            topics: wish.topics,
            least_severity: wish.least_severity.unwrap_or(Severity::Notice),
            after_seconds: wish.after_seconds,
        };
        let reason = wish.reason.unwrap_or_else(|| "requested".into());
        Ok((Wanted { name: wish.name, target: wish.target, route }, reason))
    }
}

pub(crate) async fn get_channels(
    State(state): State<ApiState>,
    _: Caller<Read>,
) -> Result<Json<ChannelsBody>, ApiError> {
    let rows = channels::all(&state.db).await?;
    Ok(Json(ChannelsBody { channels: rows.into_iter().map(Into::into).collect() }))
}

pub(crate) async fn get_channel(
    State(state): State<ApiState>,
    _: Caller<Read>,
    Path(id): Path<String>,
) -> Result<Json<ToldChannelBody>, ApiError> {
    let row = state.alerts.channel(&id).await?;
    let decisions = decisions::about(&state.db, ("channel", &id), MOST_DECISIONS).await?;
    let decisions = decisions.into_iter().map(Into::into).collect();
    Ok(Json(ToldChannelBody { channel: row.into(), decisions }))
}

pub(crate) async fn post_channel(
    State(state): State<ApiState>,
    caller: Caller<Admin>,
    Body(body): Body,
) -> Result<(StatusCode, Json<DeclaredBody>), ApiError> {
    let (wanted, reason) = Wish::read(&body)?;
    let declared = state.alerts.create_channel(wanted, &by(&caller, reason)).await?;
    Ok((StatusCode::CREATED, Json(declared.into())))
}

pub(crate) async fn put_channel(
    State(state): State<ApiState>,
    caller: Caller<Admin>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Result<Json<DeclaredBody>, ApiError> {
    let (wanted, reason) = Wish::read(&body)?;
    Ok(Json(state.alerts.replace_channel(&id, wanted, &by(&caller, reason)).await?.into()))
}

pub(crate) async fn delete_channel(
    State(state): State<ApiState>,
    caller: Caller<Admin>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.alerts.delete_channel(&id, &by(&caller, "requested")).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn post_enable(
    State(state): State<ApiState>,
    caller: Caller<Admin>,
    Path(id): Path<String>,
) -> Result<Json<ChannelBody>, ApiError> {
    Ok(Json(state.alerts.enable_channel(&id, &by(&caller, "requested")).await?.into()))
}

/// The id of a test delivery, to find it among the deliveries of the channel.
#[derive(Debug, Serialize)]
pub(crate) struct TestBody {
    delivery: String,
}

pub(crate) async fn post_test(
    State(state): State<ApiState>,
    caller: Caller<Admin>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<TestBody>), ApiError> {
    let delivery = state.alerts.test_channel(&id, &by(&caller, "requested")).await?;
    Ok((StatusCode::ACCEPTED, Json(TestBody { delivery })))
}
