//! `/v1/policy…`: the automation policy, its changes, and the actions taken under it.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::alerting::alerts::by;
use crate::api::request::{Admin, Asked, Body, Caller, Read, json, limit};
use crate::api::{ApiError, ApiState};
use crate::domain::deployment::policy::Policy;
use crate::domain::id::ModelId;
use crate::domain::time::Timestamp;
use crate::service::models::policy::Current;
use crate::store::models;
use crate::store::models::policy;
use crate::store::models::policy::{ActionRow, PolicyRow};

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 500;
/// Most actions in the policy response; the latest.
const LATEST_ACTIONS: i64 = 20;

#[derive(Debug, Serialize)]
pub(crate) struct PolicyBody {
    policy: Policy,
    /// Latest change; null while the configured policy applies.
    changed: Option<ChangedBody>,
    /// The alert that blocks automatic promotion; null if none does.
    frozen_by: Option<FrozenBody>,
    /// The newly promoted model on probation; null if there is none.
    probation: Option<ProbationBody>,
    /// Latest actions, newest first.
    actions: Vec<ActionBody>,
}

#[derive(Debug, Serialize)]
struct ChangedBody {
    version: i64,
    at: Timestamp,
    by: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct FrozenBody {
    alert: String,
    title: String,
}

#[derive(Debug, Serialize)]
struct ProbationBody {
    model: ModelId,
    until: Timestamp,
}

#[derive(Debug, Serialize)]
struct ActionBody {
    action: String,
    about: String,
    at: Timestamp,
    reason: String,
}

pub(crate) async fn get_policy(
    State(state): State<ApiState>,
    _: Caller<Read>,
) -> Result<Json<PolicyBody>, ApiError> {
    let current = state.reactor.probation.policies.current();
    Ok(Json(body(&state, &current).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// The values to change; absent values stay as they are.
    policy: Value,
    reason: String,
}

pub(crate) async fn patch_policy(
    State(state): State<ApiState>,
    caller: Caller<Admin>,
    Body(sent): Body,
) -> Result<Json<PolicyBody>, ApiError> {
    let Wanted { policy, reason } = json(&sent)?;
    let by = by(&caller, reason);
    let policies = &state.reactor.probation.policies;
    let current = policies.change(&policy, (&by.who, &by.why)).await?;
    Ok(Json(body(&state, &current).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    limit: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct VersionsBody {
    /// Newest first.
    versions: Vec<VersionBody>,
}

#[derive(Debug, Serialize)]
struct VersionBody {
    #[serde(flatten)]
    changed: ChangedBody,
    policy: Value,
}

pub(crate) async fn get_history(
    State(state): State<ApiState>,
    _: Caller<Read>,
    Asked(asked): Asked<Page>,
) -> Result<Json<VersionsBody>, ApiError> {
    let limit = limit(asked.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let versions = policy::versions(&state.db, limit)
        .await?
        .into_iter()
        .map(|row| VersionBody { changed: ChangedBody::of(&row), policy: row.document });
    Ok(Json(VersionsBody { versions: versions.collect() }))
}

async fn body(state: &ApiState, current: &Current) -> Result<PolicyBody, ApiError> {
    let probation = &state.reactor.probation;
    let frozen = probation.policies.frozen_by(&state.db).await?;
    let watched = probation.watched(&models::lineup(&state.db).await?);
    let actions = policy::actions(&state.db, LATEST_ACTIONS).await?;
    Ok(PolicyBody {
        policy: current.policy.clone(),
        changed: current.changed.as_ref().map(ChangedBody::of),
        frozen_by: frozen.map(|(alert, title)| FrozenBody { alert, title }),
        probation: watched.map(|one| ProbationBody { model: one.model, until: one.until }),
        actions: actions.into_iter().map(Into::into).collect(),
    })
}

impl ChangedBody {
    fn of(row: &PolicyRow) -> Self {
        let PolicyRow { version, changed_at, changed_by, reason, .. } = row;
        Self { version: *version, at: *changed_at, by: changed_by.clone(), reason: reason.clone() }
    }
}

impl From<ActionRow> for ActionBody {
    fn from(row: ActionRow) -> Self {
        Self { action: row.action, about: row.about, at: row.taken_at, reason: row.reason }
    }
}
