//! Life-cycle transitions of a model: shadow, canary, promote, retire, reject.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::models::deployment::{DeploymentBody, ReasonRequest, change};
use crate::api::models::ids::ModelIdPath;
use crate::api::models::ids::resolve_model_id;
use crate::api::request::{AuthorizedCaller, JsonBody, PathParameters, Train, parse_optional_json};
use crate::api::{ApiError, ApiState};
use crate::domain::access::AccessScope;
use crate::domain::deployment::lifecycle::StageTransition;
use crate::service::models::step_request::StepRequest;

/// A promotion of a model.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PromoteModelRequest {
    /// Stored with the change; required with `force`.
    #[schema(max_length = 2000, example = "more stable segments")]
    reason: Option<String>,
    /// Override the gates; requires the scope `admin` and a reason.
    #[serde(default)]
    force: bool,
}

/// A start of a canary, or another share for it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StartCanaryRequest {
    /// Stored with the change; required with `force`.
    #[schema(max_length = 2000, example = "try the new segments on some customers")]
    reason: Option<String>,
    /// Override the gates; requires the scope `admin` and a reason.
    #[serde(default)]
    force: bool,
    /// Share of the customers; default `lifecycle.canary_share`.
    #[schema(minimum = 0, maximum = 1, example = 0.05)]
    share: Option<f64>,
}

/// Start scoring with a model in shadow.
///
/// The model scores `lifecycle.shadow_share` of the customers with new events, and its scores
/// are only compared. At most 4 models are in shadow.
#[utoipa::path(
    post,
    path = "/v1/models/{model_id}/shadow",
    tag = "Models",
    security(("key" = ["train"])),
    params(ModelIdPath),
    request_body = Option<ReasonRequest>,
    responses(
        (status = 200, body = DeploymentBody, description = "The current deployment"),
        (status = 404, description = "There is no such model, or several ids begin so"),
        (status = 409, description = "The model serves, fails its self-test, or has another feature set; or 4 models are in shadow"),
    )
)]
pub(crate) async fn start_shadow(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    PathParameters(model_id): PathParameters<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<DeploymentBody>, ApiError> {
    let request: ReasonRequest = parse_optional_json(&body)?;
    let step = StepRequest::new(StageTransition::Shadow);
    take_step(&state, &caller, &model_id, step, request.reason).await
}

/// Start serving a fixed share of the customers with a model.
///
/// The gates of the canary must pass. The same customers are in the canary on every replica.
/// Repeat the request with another `share` to change it.
#[utoipa::path(
    post,
    path = "/v1/models/{model_id}/canary",
    tag = "Models",
    security(("key" = ["train"])),
    params(ModelIdPath),
    request_body = Option<StartCanaryRequest>,
    responses(
        (status = 200, body = DeploymentBody, description = "The current deployment"),
        (status = 404, description = "There is no such model, or several ids begin so"),
        (status = 409, description = "Gates refuse; or the model is active, fails its self-test, or has another feature set; or no model is active; or another model is the canary"),
    )
)]
pub(crate) async fn start_canary(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    PathParameters(model_id): PathParameters<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<DeploymentBody>, ApiError> {
    let request: StartCanaryRequest = parse_optional_json(&body)?;
    let StartCanaryRequest { reason, force, share } = request;
    check_force(&caller, force, reason.as_deref())?;
    let step = StepRequest { share, force, ..StepRequest::new(StageTransition::Canary) };
    take_step(&state, &caller, &model_id, step, reason).await
}

/// Promote a model to active.
///
/// The gates of a promotion must pass, after the self-test of the model. A canary ends.
#[utoipa::path(
    post,
    path = "/v1/models/{model_id}/promote",
    tag = "Models",
    security(("key" = ["train"])),
    params(ModelIdPath),
    request_body = Option<PromoteModelRequest>,
    responses(
        (status = 200, body = DeploymentBody, description = "The current deployment"),
        (status = 404, description = "There is no such model, or several ids begin so"),
        (status = 409, description = "Gates refuse, or the model fails its self-test"),
    )
)]
pub(crate) async fn promote_model(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    PathParameters(model_id): PathParameters<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<DeploymentBody>, ApiError> {
    let PromoteModelRequest { reason, force } = parse_optional_json(&body)?;
    check_force(&caller, force, reason.as_deref())?;
    let step = StepRequest { force, ..StepRequest::new(StageTransition::Promote) };
    take_step(&state, &caller, &model_id, step, reason).await
}

/// Retire a candidate, shadow or canary model.
#[utoipa::path(
    post,
    path = "/v1/models/{model_id}/retire",
    tag = "Models",
    security(("key" = ["train"])),
    params(ModelIdPath),
    request_body = Option<ReasonRequest>,
    responses(
        (status = 200, body = DeploymentBody, description = "The current deployment"),
        (status = 404, description = "There is no such model, or several ids begin so"),
        (status = 409, description = "The model is active or already retired"),
    )
)]
pub(crate) async fn retire_model(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    PathParameters(model_id): PathParameters<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<DeploymentBody>, ApiError> {
    let request: ReasonRequest = parse_optional_json(&body)?;
    let step = StepRequest::new(StageTransition::Retire);
    take_step(&state, &caller, &model_id, step, request.reason).await
}

/// Reject a candidate, shadow or canary model.
///
/// Retires the model, and records a rejection.
#[utoipa::path(
    post,
    path = "/v1/models/{model_id}/reject",
    tag = "Models",
    security(("key" = ["train"])),
    params(ModelIdPath),
    request_body = Option<ReasonRequest>,
    responses(
        (status = 200, body = DeploymentBody, description = "The current deployment"),
        (status = 404, description = "There is no such model, or several ids begin so"),
        (status = 409, description = "The model is active or already retired"),
    )
)]
pub(crate) async fn reject_model(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    PathParameters(model_id): PathParameters<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<DeploymentBody>, ApiError> {
    let request: ReasonRequest = parse_optional_json(&body)?;
    let step = StepRequest::new(StageTransition::Reject);
    take_step(&state, &caller, &model_id, step, request.reason).await
}

/// Checks that the caller may override gates, and states why.
fn check_force(
    caller: &AuthorizedCaller<Train>,
    force: bool,
    reason: Option<&str>,
) -> Result<(), ApiError> {
    if !force {
        return Ok(());
    }
    if !caller.principal.has_scope(AccessScope::Admin) {
        let why = format!("`force` requires a key with the scope `{}`", AccessScope::Admin);
        return Err(ApiError::forbidden(why));
    }
    if reason.is_none_or(|reason| reason.trim().is_empty()) {
        let problem = "is required with `force`: state why the gates are overridden";
        return Err(ApiError::invalid("reason", problem));
    }
    Ok(())
}

async fn take_step(
    state: &ApiState,
    caller: &AuthorizedCaller<Train>,
    model_id: &str,
    step: StepRequest,
    reason: Option<String>,
) -> Result<Json<DeploymentBody>, ApiError> {
    let change = change(caller, reason.as_deref())?;
    let model_id = resolve_model_id(state, model_id).await?;
    let row = state.registry.take_step(&model_id, step, change).await?;
    let deployment = state.registry.changed_deployment(row);
    Ok(Json(DeploymentBody::new(deployment, &state.api_keys)))
}
