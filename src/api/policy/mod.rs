//! `/v1/policy…`: the automation policy, its changes, and the actions taken under it.

mod settings;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::api::models::ids::stored_choice;
use crate::api::policy::settings::{PolicySettingsBody, PolicySettingsPatch};
use crate::api::request::page::{PageCursor, PageLimit};
use crate::api::request::{Admin, AuthorizedCaller, JsonBody, QueryParameters, Read, parse_json};
use crate::api::request_layer::RouteKind;
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState};
use crate::domain::deployment::policy::AutomationPolicy;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::api_keys::KeyAuthenticator;
use crate::service::models::policy::CurrentPolicy;
use crate::store::models;
use crate::store::models::policy;
use crate::store::models::policy::{PolicyActionRow, PolicyVersionRow};

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::new(routes!(get_policy, update_policy), RouteKind::Manage),
        ApiRoute::new(routes!(list_policy_versions), RouteKind::Manage),
    ]
}

/// Most actions in the policy response; the latest.
const LATEST_ACTIONS: i64 = 20;

/// The automation policy, and what it does now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AutomationPolicyBody {
    policy: PolicySettingsBody,
    /// Latest change; null while the configured policy applies.
    changed: Option<PolicyChangeBody>,
    /// The alert that blocks automatic promotion; null: none does.
    frozen_by: Option<BlockingAlertBody>,
    /// The newly promoted model on probation; null: none.
    probation: Option<ProbationBody>,
    /// The latest 20 automatic actions, newest first.
    actions: Vec<AutomaticActionBody>,
}

/// A change of the policy.
#[derive(Debug, Serialize, ToSchema)]
struct PolicyChangeBody {
    /// Number of the version.
    #[schema(example = 3)]
    version: i64,
    /// Time of the change.
    changed_at: Timestamp,
    /// Author: a key.
    #[schema(example = "key 0050e0c5c045")]
    changed_by: String,
    /// Name of the key.
    #[schema(example = "operations")]
    changed_by_name: Option<String>,
    /// Reason of the change.
    #[schema(example = "fewer alerts during the campaign")]
    reason: String,
}

/// An alert that blocks automatic promotion.
#[derive(Debug, Serialize, ToSchema)]
struct BlockingAlertBody {
    /// Id of the alert.
    #[schema(example = "alert_5f2c8d10b7a94e36")]
    alert_id: String,
    /// Title of the alert.
    #[schema(example = "Spend in a year drifted")]
    title: String,
}

/// The model on probation.
#[derive(Debug, Serialize, ToSchema)]
struct ProbationBody {
    /// Id of the model.
    #[schema(example = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")]
    model_id: String,
    /// End of the probation.
    until: Timestamp,
}

/// An action taken under the policy.
#[derive(Debug, Serialize, ToSchema)]
struct AutomaticActionBody {
    action: AutomaticActionKind,
    /// Id of the alert or the model that caused the action.
    #[schema(example = "alert_5f2c8d10b7a94e36")]
    subject: String,
    /// Time of the action.
    at: Timestamp,
    /// Reason of the action.
    #[schema(example = "Spend in a year drifted")]
    reason: String,
}

/// An automatic action. `retrain`: a training run after an alert; `refresh`: a training run
/// because the model has aged; `fallback`: the rules replaced the model; `rollback`: the previous
/// model replaced it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum AutomaticActionKind {
    Retrain,
    Refresh,
    Fallback,
    Rollback,
}

/// Get the automation policy.
///
/// The policy in force, its latest change, what it blocks now, and its actions. Evidence of a
/// single API key causes no action: a model is rolled back only if its scores are bad with any
/// one key left out, or in a sample of stored customers; drift that depends on one key causes
/// none.
#[utoipa::path(
    get,
    path = "/v1/policy",
    tag = "Policy",
    security(("key" = ["read"])),
    responses((status = 200, body = AutomationPolicyBody, description = "The policy in force"))
)]
pub(crate) async fn get_policy(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
) -> Result<Json<AutomationPolicyBody>, ApiError> {
    let current = state.policies.current();
    Ok(Json(policy_body(&state, &current).await?))
}

/// A change of the automation policy, with its reason.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdatePolicyRequest {
    policy: PolicySettingsPatch,
    /// Stored with the change.
    #[schema(min_length = 1, max_length = 2000, example = "fewer alerts during the campaign")]
    reason: String,
}

/// Change the automation policy.
///
/// The change applies on every replica within `deployment.poll_seconds`. All its settings must be
/// valid; otherwise none is changed.
#[utoipa::path(
    patch,
    path = "/v1/policy",
    tag = "Policy",
    security(("key" = ["admin"])),
    request_body = UpdatePolicyRequest,
    responses((status = 200, body = AutomationPolicyBody, description = "The policy in force"))
)]
pub(crate) async fn update_policy(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Admin>,
    JsonBody(body): JsonBody,
) -> Result<Json<AutomationPolicyBody>, ApiError> {
    let UpdatePolicyRequest { policy, reason } = parse_json(&body)?;
    let changes = serde_json::to_value(policy).map_err(ServiceError::internal)?;
    let author = caller.actor_name();
    let current = state.policies.change_policy(&changes, &author, &reason).await?;
    Ok(Json(policy_body(&state, &current).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PolicyVersionQuery {
    /// Versions per page.
    #[serde(default)]
    #[param(inline)]
    limit: PageLimit<50, 500>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<PageCursor<i64>>,
}

/// A page of versions of the policy, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PolicyVersionListBody {
    versions: Vec<PolicyVersionBody>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// A version of the policy.
#[derive(Debug, Serialize, ToSchema)]
struct PolicyVersionBody {
    #[serde(flatten)]
    change: PolicyChangeBody,
    policy: PolicySettingsBody,
}

/// List the versions of the policy, newest first.
///
/// The complete settings of each version, with its author and reason. The configured policy,
/// which applies before the first change, is not a version.
#[utoipa::path(
    get,
    path = "/v1/policy/history",
    tag = "Policy",
    security(("key" = ["read"])),
    params(PolicyVersionQuery),
    responses((status = 200, body = PolicyVersionListBody, description = "The versions"))
)]
pub(crate) async fn list_policy_versions(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<PolicyVersionQuery>,
) -> Result<Json<PolicyVersionListBody>, ApiError> {
    let limit = query.limit.get();
    let before = query.cursor.map(|PageCursor(version)| version);
    let rows = policy::list_versions(&state.db, before, limit).await?;
    let next_cursor = PageCursor::after(&rows, limit, |row| row.version);
    let versions: Result<_, _> =
        rows.into_iter().map(|row| PolicyVersionBody::new(row, &state.api_keys)).collect();
    Ok(Json(PolicyVersionListBody { versions: versions?, next_cursor }))
}

async fn policy_body(
    state: &ApiState,
    current: &CurrentPolicy,
) -> Result<AutomationPolicyBody, ApiError> {
    let frozen = state.policies.freezing_alert(&state.db).await?;
    let watched = state.probation.model_on_probation(&models::current_deployment(&state.db).await?);
    let rows = policy::list_actions(&state.db, LATEST_ACTIONS).await?;
    let actions: Result<_, _> = rows.into_iter().map(AutomaticActionBody::new).collect();
    let version = current.stored_version.as_ref();
    Ok(AutomationPolicyBody {
        policy: (&current.policy).into(),
        changed: version.map(|row| PolicyChangeBody::new(row, &state.api_keys)),
        frozen_by: frozen.map(|(alert_id, title)| BlockingAlertBody { alert_id, title }),
        probation: watched
            .map(|watched| ProbationBody { model_id: watched.model.into(), until: watched.until }),
        actions: actions?,
    })
}

impl PolicyChangeBody {
    fn new(row: &PolicyVersionRow, keys: &KeyAuthenticator) -> Self {
        Self {
            version: row.version,
            changed_at: row.changed_at,
            changed_by: row.changed_by.clone(),
            changed_by_name: keys.name_of_author(&row.changed_by),
            reason: row.reason.clone(),
        }
    }
}

impl PolicyVersionBody {
    fn new(row: PolicyVersionRow, keys: &KeyAuthenticator) -> Result<Self, ApiError> {
        let change = PolicyChangeBody::new(&row, keys);
        let policy: AutomationPolicy =
            serde_json::from_value(row.document).map_err(ServiceError::internal)?;
        Ok(Self { change, policy: (&policy).into() })
    }
}

impl AutomaticActionBody {
    fn new(row: PolicyActionRow) -> Result<Self, ApiError> {
        Ok(Self {
            action: stored_choice(&row.action)?,
            subject: row.subject,
            at: row.taken_at,
            reason: row.reason,
        })
    }
}
