//! Model repository extension: `load` promotes a version, `unload` rolls back to the
//! previous one.
//!
//! A model or the fallback always serves, so `unload` never leaves the server without one.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::inference::ModelNamePath;
use crate::api::inference::ModelVersionPath;
use crate::api::inference::{ModelPath, deployed_version};
use crate::api::request::{AuthorizedCaller, JsonBody, Read, Train, parse_optional_json};
use crate::api::{ApiError, ApiState};
use crate::domain::id::{InvalidId, ModelId};
use crate::domain::wire::inference::MODEL_NAME;
use crate::service::ServiceError;
use crate::service::models::step_request::DeploymentChange;
use crate::service::scoring::deployment::Deployment;
use crate::store::models::{self, ModelVersionRow};

/// One stored version, and whether it serves on this replica now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RepositoryEntryBody {
    /// Always `segments`.
    #[schema(example = "segments")]
    name: &'static str,
    /// A model id. Left out for the rule-based fallback.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "50d858e0985ecc7f60418aaf0cc5ab587f42c2570a884095a9e8ccacd0f6545c")]
    version: Option<String>,
    state: VersionStateBody,
    /// Why the version is not ready, or empty.
    #[schema(example = "")]
    reason: String,
}

/// Whether a version serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
enum VersionStateBody {
    Ready,
    Unavailable,
}

/// Which versions to list; other fields are ignored.
#[derive(Debug, Default, Deserialize, ToSchema)]
struct RepositoryIndexRequest {
    /// Only versions that serve.
    #[serde(default)]
    ready: bool,
}

/// List the model versions.
#[utoipa::path(
    post,
    path = "/v2/repository/index",
    tag = "Open Inference Protocol",
    security(("key" = ["read"])),
    request_body = Option<RepositoryIndexRequest>,
    responses((status = 200, body = Vec<RepositoryEntryBody>, description = "The versions"))
)]
pub(super) async fn list_model_versions(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    JsonBody(body): JsonBody,
) -> Result<Json<Vec<RepositoryEntryBody>>, ApiError> {
    let request: RepositoryIndexRequest = parse_optional_json(&body)?;
    let stored = models::list_versions(&state.db).await?;
    let deployment = state.deployments.current();
    let fallback = deployment.active.is_none().then(|| RepositoryEntryBody {
        name: MODEL_NAME,
        version: None,
        state: VersionStateBody::Ready,
        reason: "no model is deployed: the rule-based fallback serves".into(),
    });
    let versions = stored.into_iter().map(|row| repository_entry(row, &deployment));
    let index = fallback.into_iter().chain(versions);
    Ok(Json(
        index.filter(|entry| !request.ready || entry.state == VersionStateBody::Ready).collect(),
    ))
}

fn repository_entry(row: ModelVersionRow, deployment: &Deployment) -> RepositoryEntryBody {
    let (state, reason) = if deployed_version(deployment) == Some(row.model_id.as_str()) {
        (VersionStateBody::Ready, String::new())
    } else if row.feature_set != deployment.features.id().as_str() {
        (VersionStateBody::Unavailable, OTHER_FEATURES.into())
    } else {
        (VersionStateBody::Unavailable, format!("{}; loading promotes it", row.stage))
    };
    RepositoryEntryBody { name: MODEL_NAME, version: Some(row.model_id.into()), state, reason }
}

const OTHER_FEATURES: &str = "it was trained on a feature set other than that of this server";

/// The version to load; other fields are ignored.
#[derive(Debug, Default, Deserialize, ToSchema)]
struct LoadModelRequest {
    #[serde(default)]
    parameters: LoadParametersBody,
}

/// Parameters of a load request; others are ignored.
#[derive(Debug, Default, Deserialize, ToSchema)]
struct LoadParametersBody {
    /// A model id; without it, the deployment stays as it is.
    #[schema(example = "50d858e0985ecc7f60418aaf0cc5ab587f42c2570a884095a9e8ccacd0f6545c")]
    version: Option<String>,
}

/// The model that was loaded or unloaded.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChangedModelBody {
    /// Always `segments`.
    #[schema(example = "segments")]
    name: &'static str,
}

const CHANGED: Json<ChangedModelBody> = Json(ChangedModelBody { name: MODEL_NAME });

/// Promote the version in the parameters.
///
/// The version is self-tested first. Without a version, the deployment stays as it is.
#[utoipa::path(
    post,
    path = "/v2/repository/models/{name}/load",
    tag = "Open Inference Protocol",
    security(("key" = ["train"])),
    params(ModelNamePath),
    request_body = Option<LoadModelRequest>,
    responses(
        (status = 200, body = ChangedModelBody, description = "The version serves"),
        (status = 404, description = "There is no such model or version"),
        (
            status = 409,
            description = "The self-test or a gate fails, the version was trained on another feature set, or no version is named and none is deployed",
        ),
    )
)]
pub(super) async fn load_model(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    model_path: ModelPath,
    JsonBody(body): JsonBody,
) -> Result<Json<ChangedModelBody>, ApiError> {
    load(&state, &caller, model_path, &body).await
}

/// Promote a version of the model.
///
/// The version is self-tested first.
#[utoipa::path(
    post,
    path = "/v2/repository/models/{name}/versions/{version}/load",
    tag = "Open Inference Protocol",
    security(("key" = ["train"])),
    params(
        ModelVersionPath,
    ),
    request_body = Option<LoadModelRequest>,
    responses(
        (status = 200, body = ChangedModelBody, description = "The version serves"),
        (status = 404, description = "There is no such model or version"),
        (
            status = 409,
            description = "The self-test or a gate fails, or the version was trained on another feature set",
        ),
    )
)]
pub(super) async fn load_model_version(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    model_path: ModelPath,
    JsonBody(body): JsonBody,
) -> Result<Json<ChangedModelBody>, ApiError> {
    load(&state, &caller, model_path, &body).await
}

/// Promotes the version in the path or in `parameters`.
async fn load(
    state: &ApiState,
    caller: &AuthorizedCaller<Train>,
    model_path: ModelPath,
    body: &[u8],
) -> Result<Json<ChangedModelBody>, ApiError> {
    let request: LoadModelRequest = parse_optional_json(body)?;
    match model_path.version.or(request.parameters.version) {
        Some(version) => promote(state, caller, &version).await?,
        None if state.deployments.current().active.is_some() => {}
        None => {
            let why = "no version is deployed; name one in `parameters.version`: \
                       POST /v2/repository/index lists them";
            return Err(ServiceError::Conflict(why.into()).into());
        }
    }
    Ok(CHANGED)
}

async fn promote(
    state: &ApiState,
    caller: &AuthorizedCaller<Train>,
    version: &str,
) -> Result<(), ApiError> {
    let model: ModelId = version
        .parse()
        .map_err(|why: InvalidId| ApiError::invalid("parameters.version", why.to_string()))?;
    let row = models::find(&state.db, &model).await?;
    let row = row.ok_or_else(|| ApiError::not_found(&format!("version `{version}`")))?;
    // A model of another feature set cannot score here. A promotion would deploy it, and
    // the fallback would serve in its place.
    if row.feature_set != state.deployments.snapshot().features.id().as_str() {
        return Err(ServiceError::Conflict(OTHER_FEATURES.into()).into());
    }
    state.registry.promote(&model, change(caller, "loaded")).await?;
    Ok(())
}

/// Roll back to the previous version.
#[utoipa::path(
    post,
    path = "/v2/repository/models/{name}/unload",
    tag = "Open Inference Protocol",
    security(("key" = ["train"])),
    params(ModelNamePath),
    responses(
        (status = 200, body = ChangedModelBody, description = "The previous version serves"),
        (status = 404, description = "There is no such model"),
        (status = 409, description = "There is no previous version"),
    )
)]
pub(super) async fn unload_model(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    _: ModelPath,
    JsonBody(_): JsonBody,
) -> Result<Json<ChangedModelBody>, ApiError> {
    state.registry.rollback(change(&caller, "unloaded")).await?;
    Ok(CHANGED)
}

fn change(caller: &AuthorizedCaller<Train>, what: &str) -> DeploymentChange {
    DeploymentChange {
        author: caller.actor_name(),
        reason: format!("{what} through the inference protocol"),
    }
}
