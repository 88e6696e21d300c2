//! `/v1/policy…`: the automation policy, its changes, and the actions taken under it.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::request::parameters::page_limit;
use crate::api::request::{Admin, AuthorizedCaller, JsonBody, QueryParameters, Read, parse_json};
use crate::api::{ApiError, ApiState};
use crate::domain::deployment::policy::AutomationPolicy;
use crate::domain::id::ModelId;
use crate::domain::time::Timestamp;
use crate::service::api_keys::KeyAuthenticator;
use crate::service::models::policy::CurrentPolicy;
use crate::store::models;
use crate::store::models::policy;
use crate::store::models::policy::{PolicyActionRow, PolicyVersionRow};

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 500;
/// Most actions in the policy response; the latest.
const LATEST_ACTIONS: i64 = 20;

#[derive(Debug, Serialize)]
pub(crate) struct PolicyBody {
    policy: AutomationPolicy,
    /// Latest change; null while the configured policy applies.
    changed: Option<PolicyChangeBody>,
    /// The alert that blocks automatic promotion; null if none does.
    frozen_by: Option<BlockingAlertBody>,
    /// The newly promoted model on probation; null if there is none.
    probation: Option<ProbationBody>,
    /// Latest actions, newest first.
    actions: Vec<PolicyActionBody>,
}

#[derive(Debug, Serialize)]
struct PolicyChangeBody {
    version: i64,
    at: Timestamp,
    by: String,
    /// Name of the key.
    by_name: Option<String>,
    reason: String,
}

#[derive(Debug, Serialize)]
struct BlockingAlertBody {
    alert: String,
    title: String,
}

#[derive(Debug, Serialize)]
struct ProbationBody {
    model: ModelId,
    until: Timestamp,
}

#[derive(Debug, Serialize)]
struct PolicyActionBody {
    action: String,
    subject: String,
    at: Timestamp,
    reason: String,
}

pub(crate) async fn get_policy(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
) -> Result<Json<PolicyBody>, ApiError> {
    let current = state.policies.current();
    Ok(Json(policy_body(&state, &current).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyChangeRequest {
    /// The values to change; absent values stay as they are.
    policy: Value,
    reason: String,
}

pub(crate) async fn patch_policy(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    JsonBody(sent): JsonBody,
) -> Result<Json<PolicyBody>, ApiError> {
    let PolicyChangeRequest { policy, reason } = parse_json(&sent)?;
    let by = caller.actor(reason);
    let current = state.policies.change_policy(&policy, &by.name, &by.reason).await?;
    Ok(Json(policy_body(&state, &current).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyHistoryQuery {
    limit: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct PolicyVersionsBody {
    /// Newest first.
    versions: Vec<PolicyVersionBody>,
}

#[derive(Debug, Serialize)]
struct PolicyVersionBody {
    #[serde(flatten)]
    changed: PolicyChangeBody,
    policy: Value,
}

pub(crate) async fn get_history(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<PolicyHistoryQuery>,
) -> Result<Json<PolicyVersionsBody>, ApiError> {
    let limit = page_limit(query.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let versions =
        policy::list_versions(&state.db, limit).await?.into_iter().map(|row| PolicyVersionBody {
            changed: PolicyChangeBody::new(&row, &state.api_keys),
            policy: row.document,
        });
    Ok(Json(PolicyVersionsBody { versions: versions.collect() }))
}

async fn policy_body(state: &ApiState, current: &CurrentPolicy) -> Result<PolicyBody, ApiError> {
    let frozen = state.policies.freezing_alert(&state.db).await?;
    let watched = state.probation.model_on_probation(&models::current_deployment(&state.db).await?);
    let actions = policy::list_actions(&state.db, LATEST_ACTIONS).await?;
    Ok(PolicyBody {
        policy: current.policy.clone(),
        changed: current
            .stored_version
            .as_ref()
            .map(|row| PolicyChangeBody::new(row, &state.api_keys)),
        frozen_by: frozen.map(|(alert, title)| BlockingAlertBody { alert, title }),
        probation: watched.map(|model| ProbationBody { model: model.model, until: model.until }),
        actions: actions.into_iter().map(Into::into).collect(),
    })
}

impl PolicyChangeBody {
    fn new(row: &PolicyVersionRow, keys: &KeyAuthenticator) -> Self {
        let PolicyVersionRow { version, changed_at, changed_by, reason, .. } = row;
        Self {
            version: *version,
            at: *changed_at,
            by: changed_by.clone(),
            by_name: keys.name_of_author(changed_by),
            reason: reason.clone(),
        }
    }
}

impl From<PolicyActionRow> for PolicyActionBody {
    fn from(row: PolicyActionRow) -> Self {
        Self { action: row.action, subject: row.subject, at: row.taken_at, reason: row.reason }
    }
}
