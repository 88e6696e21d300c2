//! `/v1/deployment…`: the models that serve now, rollback and fallback.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::request::{AuthorizedCaller, JsonBody, Read, Train, parse_optional_json};
use crate::api::{ApiError, ApiState};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::api_keys::KeyAuthenticator;
use crate::service::models::current::ServedDeployment;
use crate::service::models::step_request::DeploymentChange;

/// The models that serve.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeploymentBody {
    /// Number of the deployment; every change increases it.
    #[schema(example = 7)]
    generation: i64,
    /// Whether the rule-based fallback answers instead of the active model. That is so without
    /// an active model, and if this server declares another feature set than the model's.
    fallback: bool,
    /// The model that answers for all customers but those of the canary; null: none.
    #[schema(example = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")]
    active_model_id: Option<String>,
    /// The model to which a rollback returns; null: none.
    #[schema(example = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d")]
    previous_model_id: Option<String>,
    /// The model that answers for a share of the customers; null: none.
    canary: Option<CanaryBody>,
    /// Models that score customers with new events only to be compared.
    #[schema(example = json!(["2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6"]))]
    shadow_model_ids: Vec<String>,
    /// Time of the last change of the active model or the canary.
    changed_at: Timestamp,
    /// Author of the last change: a key, a training run or the policy.
    #[schema(example = "key 0050e0c5c045")]
    changed_by: String,
    /// Name of the key that made the last change; null for another author.
    #[schema(example = "release pipeline")]
    changed_by_name: Option<String>,
    /// Reason of the last change.
    #[schema(example = "more stable segments")]
    reason: String,
}

/// The canary model and its share of the customers.
#[derive(Debug, Serialize, ToSchema)]
struct CanaryBody {
    /// Id of the canary model.
    #[schema(example = "2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6")]
    model_id: String,
    /// Number of the canary's own deployment, which its scores name.
    #[schema(example = 6)]
    generation: i64,
    /// Share of the customers.
    #[schema(minimum = 0, maximum = 1, example = 0.05)]
    share: f64,
}

impl DeploymentBody {
    pub(super) fn new(deployment: ServedDeployment, keys: &KeyAuthenticator) -> Self {
        let ServedDeployment { row, is_fallback, shadows } = deployment;
        Self {
            generation: row.generation,
            fallback: is_fallback,
            active_model_id: row.active.map(Into::into),
            previous_model_id: row.previous.map(Into::into),
            canary: row.canary.map(|canary| CanaryBody {
                model_id: canary.model.into(),
                generation: canary.generation,
                share: canary.share,
            }),
            shadow_model_ids: shadows.into_iter().map(Into::into).collect(),
            changed_at: row.changed_at,
            changed_by_name: keys.name_of_author(&row.changed_by),
            changed_by: row.changed_by,
            reason: row.reason,
        }
    }
}

/// Get the current deployment.
///
/// The models that this replica serves. Another replica follows a change within
/// `deployment.poll_seconds`. No database is read.
#[utoipa::path(
    get,
    path = "/v1/deployment",
    tag = "Deployment",
    security(("key" = ["read"])),
    responses((status = 200, body = DeploymentBody, description = "The current deployment"))
)]
pub(crate) async fn get_deployment(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
) -> Result<Json<DeploymentBody>, ApiError> {
    let served = state.registry.served_deployment();
    let served = served.ok_or_else(|| ApiError::unavailable("no deployment is loaded yet", 1))?;
    Ok(Json(DeploymentBody::new(served, &state.api_keys)))
}

/// The reason of a change.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReasonRequest {
    /// Stored with the change.
    #[schema(max_length = 2000, example = "more stable segments")]
    pub(super) reason: Option<String>,
}

/// Roll back to the previous model.
///
/// Passes no gates. A canary ends.
#[utoipa::path(
    post,
    path = "/v1/deployment/rollback",
    tag = "Deployment",
    security(("key" = ["train"])),
    request_body = Option<ReasonRequest>,
    responses(
        (status = 200, body = DeploymentBody, description = "The deployment after the rollback"),
        (status = 409, description = "There is no previous model"),
    )
)]
pub(crate) async fn rollback_deployment(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    JsonBody(body): JsonBody,
) -> Result<Json<DeploymentBody>, ApiError> {
    let request: ReasonRequest = parse_optional_json(&body)?;
    let row = state.registry.rollback(change(&caller, request.reason.as_deref())?).await?;
    let deployment = state.registry.changed_deployment(row);
    Ok(Json(DeploymentBody::new(deployment, &state.api_keys)))
}

/// Replace the active model by the rule-based fallback.
///
/// The rules answer until a model is promoted. A canary ends.
#[utoipa::path(
    post,
    path = "/v1/deployment/fallback",
    tag = "Deployment",
    security(("key" = ["train"])),
    request_body = Option<ReasonRequest>,
    responses(
        (status = 200, body = DeploymentBody, description = "The deployment after the change"),
        (status = 409, description = "No model is active: the fallback answers already"),
    )
)]
pub(crate) async fn activate_fallback(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    JsonBody(body): JsonBody,
) -> Result<Json<DeploymentBody>, ApiError> {
    let request: ReasonRequest = parse_optional_json(&body)?;
    let row = state.registry.activate_fallback(change(&caller, request.reason.as_deref())?).await?;
    let deployment = state.registry.changed_deployment(row);
    Ok(Json(DeploymentBody::new(deployment, &state.api_keys)))
}

/// Author and reason of a requested change.
pub(super) fn change(
    caller: &AuthorizedCaller<Train>,
    reason: Option<&str>,
) -> Result<DeploymentChange, ServiceError> {
    DeploymentChange::requested(caller.actor_name(), reason)
}
