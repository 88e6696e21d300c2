//! `/v1/models…`: list and show models, change their life-cycle stage, roll back.

pub(crate) mod diff;
pub(crate) mod policy;
pub(crate) mod shadow;
pub(crate) mod training_runs;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::api::request::parameters::last_of_full_page;
use crate::api::request::{
    AuthorizedCaller, JsonBody, PageParameters, PathParameters, Read, Train, parse_optional_json,
};
use crate::api::request_layer::{ExpensiveRequests, RouteKind};
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState};
use crate::domain::access::AccessScope;
use crate::domain::deployment::lifecycle::StageTransition;
use crate::domain::id::{InvalidId, ModelId};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::api_keys::KeyAuthenticator;
use crate::service::models::step_request::{DeploymentChange, StepRequest};
use crate::store::models::decisions::ModelDecision;
use crate::store::models::{self, DeploymentRow, ModelRow, decisions};
use axum::routing::{get, post};

pub(super) fn routes() -> Vec<ApiRoute> {
    let shadow = get(shadow::get_shadow).post(post_shadow);
    let runs = get(training_runs::get_runs).post(training_runs::post_run);
    vec![
        ApiRoute::undescribed("/v1/models", &["GET"], get(get_models), RouteKind::Manage),
        ApiRoute::undescribed(
            "/v1/models/rollback",
            &["POST"],
            post(post_rollback),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed("/v1/models/{id}", &["GET"], get(get_model), RouteKind::Manage),
        ApiRoute::undescribed(
            "/v1/models/{id}/diff/{other}",
            &["GET"],
            get(diff::get_diff),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/models/{id}/migration",
            &["GET"],
            get(diff::get_migration),
            RouteKind::Stream,
        )
        .with_expensive(ExpensiveRequests::All),
        ApiRoute::undescribed(
            "/v1/segments/{id}/lineage",
            &["GET"],
            get(diff::get_lineage),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/models/{id}/shadow",
            &["GET", "POST"],
            shadow,
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/models/{id}/canary",
            &["POST"],
            post(post_canary),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/models/{id}/promote",
            &["POST"],
            post(post_promote),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/models/{id}/retire",
            &["POST"],
            post(post_retire),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/models/{id}/reject",
            &["POST"],
            post(post_reject),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed("/v1/training-runs", &["GET", "POST"], runs, RouteKind::Manage)
            .with_expensive(ExpensiveRequests::Changes),
        ApiRoute::undescribed(
            "/v1/training-runs/{id}",
            &["GET"],
            get(training_runs::get_run),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/training-runs/{id}/cancel",
            &["POST"],
            post(training_runs::post_cancel),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/policy",
            &["GET", "PATCH"],
            get(policy::get_policy).patch(policy::patch_policy),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/policy/history",
            &["GET"],
            get(policy::get_history),
            RouteKind::Manage,
        ),
        ApiRoute::undescribed(
            "/v1/models/fallback",
            &["POST"],
            post(post_fall_back),
            RouteKind::Manage,
        ),
    ]
}

/// Most decisions in the response for one model; the latest.
const MOST_DECISIONS: i64 = 100;

#[derive(Debug, Serialize)]
pub(crate) struct ModelBody {
    model: String,
    feature_set: String,
    stage: String,
    training_run: Option<String>,
    created_at: Timestamp,
    report: serde_json::Value,
}

impl ModelBody {
    fn new(row: ModelRow) -> Self {
        Self {
            model: row.model_id.into(),
            feature_set: row.feature_set,
            stage: row.stage,
            training_run: row.run_id,
            created_at: row.created_at,
            report: row.report,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ModelsBody {
    models: Vec<ModelBody>,
    next_before: Option<Timestamp>,
}

pub(crate) async fn get_models(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    page: PageParameters,
) -> Result<Json<ModelsBody>, ApiError> {
    let rows = models::list(&state.db, page.before, page.limit).await?;
    let next_before = last_of_full_page(&rows, page.limit).map(|row| row.created_at);
    Ok(Json(ModelsBody { models: rows.into_iter().map(ModelBody::new).collect(), next_before }))
}

/// One model with the decisions about it.
#[derive(Debug, Serialize)]
pub(crate) struct ModelDetailBody {
    #[serde(flatten)]
    model: ModelBody,
    /// Newest first.
    decisions: Vec<ModelDecisionBody>,
}

#[derive(Debug, Serialize)]
struct ModelDecisionBody {
    step: String,
    from_stage: String,
    /// Null if the transition was refused.
    to_stage: Option<String>,
    /// The transition was made although gates refused it.
    forced: bool,
    decided_at: Timestamp,
    decided_by: String,
    /// Name of the key.
    decided_by_name: Option<String>,
    reason: String,
    gates: serde_json::Value,
}

impl ModelDecisionBody {
    fn new(decision: ModelDecision, keys: &KeyAuthenticator) -> Self {
        Self {
            decided_by_name: keys.name_of_author(&decision.decided_by),
            step: decision.step,
            from_stage: decision.from_stage,
            to_stage: decision.to_stage,
            forced: decision.is_forced,
            decided_at: decision.decided_at,
            decided_by: decision.decided_by,
            reason: decision.reason,
            gates: decision.gates,
        }
    }
}

pub(crate) async fn get_model(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(id): PathParameters<String>,
) -> Result<Json<ModelDetailBody>, ApiError> {
    let row = find_model(&state, &id).await?;
    let decisions = decisions::list_of_model(&state.db, &row.model_id, MOST_DECISIONS).await?;
    let decisions = decisions
        .into_iter()
        .map(|decision| ModelDecisionBody::new(decision, &state.api_keys))
        .collect();
    Ok(Json(ModelDetailBody { model: ModelBody::new(row), decisions }))
}

pub(crate) async fn find_model(state: &ApiState, id: &str) -> Result<ModelRow, ApiError> {
    let row = models::find(&state.db, &parse_model_id(id)?).await?;
    row.ok_or_else(|| ApiError::not_found(&format!("model `{id}`")))
}

/// The deployment after a change.
#[derive(Debug, Serialize)]
pub(crate) struct DeploymentBody {
    generation: i64,
    active_model: Option<String>,
    previous_model: Option<String>,
    canary: Option<DeployedCanaryBody>,
    changed_at: Timestamp,
    changed_by: String,
    reason: String,
}

/// The canary model and its share of the customers.
#[derive(Debug, Serialize)]
struct DeployedCanaryBody {
    model: String,
    generation: i64,
    share: f64,
}

impl DeploymentBody {
    fn new(row: DeploymentRow) -> Self {
        Self {
            canary: row.canary.map(|canary| DeployedCanaryBody {
                model: canary.model.into(),
                generation: canary.generation,
                share: canary.share,
            }),
            generation: row.generation,
            active_model: row.active.map(Into::into),
            previous_model: row.previous.map(Into::into),
            changed_at: row.changed_at,
            changed_by: row.changed_by,
            reason: row.reason,
        }
    }
}

/// Optional body with the reason of a change, which is stored with the change.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReasonRequest {
    reason: Option<String>,
}

/// Optional body of a life-cycle transition: reason, override of gates, canary share.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TransitionRequest {
    reason: Option<String>,
    #[serde(default)]
    force: bool,
    share: Option<f64>,
}

/// Defines one handler for each life-cycle transition.
macro_rules! transition_handlers {
    ($($handler:ident: $step:ident,)+) => {$(
        pub(crate) async fn $handler(
            State(state): State<ApiState>,
            caller: AuthorizedCaller<Train>,
            PathParameters(id): PathParameters<String>,
            body: JsonBody,
        ) -> Result<Json<DeploymentBody>, ApiError> {
            post_transition(&state, &caller, &id, StageTransition::$step, &body).await
        }
    )+};
}
transition_handlers! {
    post_shadow: Shadow,
    post_canary: Canary,
    post_promote: Promote,
    post_retire: Retire,
    post_reject: Reject,
}

async fn post_transition(
    state: &ApiState,
    caller: &AuthorizedCaller<Train>,
    id: &str,
    step: StageTransition,
    JsonBody(body): &JsonBody,
) -> Result<Json<DeploymentBody>, ApiError> {
    let request: TransitionRequest = parse_optional_json(body)?;
    if request.force {
        if !caller.principal.has_scope(AccessScope::Admin) {
            let why = format!("`force` requires a key with the scope `{}`", AccessScope::Admin);
            return Err(ApiError::forbidden(why));
        }
        if request.reason.as_ref().is_none_or(|reason| reason.trim().is_empty()) {
            let problem = "is required with `force`: state why the gates are overridden";
            return Err(ApiError::invalid("reason", problem));
        }
    }
    if request.share.is_some() && step != StageTransition::Canary {
        let problem = "applies only to a canary";
        return Err(ApiError::invalid("share", problem));
    }
    let ask = StepRequest { share: request.share, force: request.force, ..StepRequest::new(step) };
    let change = change(caller, request.reason.as_deref())?;
    let row = state.registry.take_step(&parse_model_id(id)?, ask, change).await?;
    Ok(Json(DeploymentBody::new(row)))
}

pub(crate) async fn post_rollback(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    JsonBody(body): JsonBody,
) -> Result<Json<DeploymentBody>, ApiError> {
    let request: ReasonRequest = parse_optional_json(&body)?;
    let row = state.registry.rollback(change(&caller, request.reason.as_deref())?).await?;
    Ok(Json(DeploymentBody::new(row)))
}

pub(crate) async fn post_fall_back(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    JsonBody(body): JsonBody,
) -> Result<Json<DeploymentBody>, ApiError> {
    let request: ReasonRequest = parse_optional_json(&body)?;
    let row = state.registry.activate_fallback(change(&caller, request.reason.as_deref())?).await?;
    Ok(Json(DeploymentBody::new(row)))
}

fn change(
    caller: &AuthorizedCaller<Train>,
    reason: Option<&str>,
) -> Result<DeploymentChange, ServiceError> {
    DeploymentChange::requested(caller.actor_name(), reason)
}

pub(crate) fn parse_model_id(text: &str) -> Result<ModelId, ApiError> {
    text.parse().map_err(|why: InvalidId| ApiError::invalid("model", why.to_string()))
}
