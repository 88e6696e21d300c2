//! Model repository extension: `load` promotes a version, `unload` rolls back to the
//! previous one.
//!
//! A model or the fallback always serves, so `unload` never leaves the server without one.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

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
#[derive(Debug, Serialize)]
pub(super) struct RepositoryEntry {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    state: &'static str,
    reason: String,
}

const READY: &str = "READY";
const UNAVAILABLE: &str = "UNAVAILABLE";

/// Optional body of an index request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IndexRequest {
    /// Only versions that serve.
    ready: bool,
}

pub(super) async fn post_index(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    JsonBody(body): JsonBody,
) -> Result<Json<Vec<RepositoryEntry>>, ApiError> {
    let request: IndexRequest = parse_optional_json(&body)?;
    let stored = models::list_versions(&state.db).await?;
    let deployment = state.deployments.current();
    let fallback = deployment.active.is_none().then(|| RepositoryEntry {
        name: MODEL_NAME,
        version: None,
        state: READY,
        reason: "no model is deployed: the rule-based fallback serves".into(),
    });
    let versions = stored.into_iter().map(|row| repository_entry(row, &deployment));
    let index = fallback.into_iter().chain(versions);
    Ok(Json(index.filter(|entry| !request.ready || entry.state == READY).collect()))
}

fn repository_entry(row: ModelVersionRow, deployment: &Deployment) -> RepositoryEntry {
    let (state, reason) = if deployed_version(deployment) == Some(row.model_id.as_str()) {
        (READY, String::new())
    } else if row.feature_set != deployment.features.id().as_str() {
        (UNAVAILABLE, OTHER_FEATURES.into())
    } else {
        (UNAVAILABLE, format!("{}; loading promotes it", row.stage))
    };
    RepositoryEntry { name: MODEL_NAME, version: Some(row.model_id.into()), state, reason }
}

const OTHER_FEATURES: &str = "it was trained on a feature set other than that of this server";

/// Optional body of a load request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadRequest {
    parameters: LoadParameters,
}

/// The parameters that segmentd reads; others are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadParameters {
    version: Option<String>,
}

/// Promotes the version in the path or in `parameters`. Without a version the deployment
/// stays as it is.
pub(super) async fn post_load(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    model_path: ModelPath,
    JsonBody(body): JsonBody,
) -> Result<StatusCode, ApiError> {
    let request: LoadRequest = parse_optional_json(&body)?;
    match model_path.version.or(request.parameters.version) {
        Some(version) => promote(&state, &caller, &version).await?,
        None if state.deployments.current().active.is_some() => {}
        None => {
            let why = "no version is deployed; name one in `parameters.version`: \
                       POST /v2/repository/index lists them";
            return Err(ServiceError::Conflict(why.into()).into());
        }
    }
    Ok(StatusCode::OK)
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

pub(super) async fn post_unload(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    _: ModelPath,
    JsonBody(_): JsonBody,
) -> Result<StatusCode, ApiError> {
    state.registry.rollback(change(&caller, "unloaded")).await?;
    Ok(StatusCode::OK)
}

fn change(caller: &AuthorizedCaller<Train>, what: &str) -> DeploymentChange {
    DeploymentChange {
        author: caller.actor_name(),
        reason: format!("{what} through the inference protocol"),
    }
}
