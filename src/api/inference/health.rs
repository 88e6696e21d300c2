//! Health and server metadata for probes, which send no key.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::inference::ModelNamePath;
use crate::api::inference::ModelPath;
use crate::api::inference::ModelVersionPath;
use crate::api::{ApiError, ApiState};
use crate::domain::wire::inference::MODEL_NAME;

/// The server, and the extensions of the protocol that it supports.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServerMetadataBody {
    /// Always `segmentd`.
    #[schema(example = "segmentd")]
    name: &'static str,
    /// Version of segmentd.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// Extensions of the protocol.
    #[schema(value_type = Vec<String>, example = json!(["binary_tensor_data", "model_repository"]))]
    extensions: [&'static str; 2],
}

/// Get the server metadata.
#[utoipa::path(
    get,
    path = "/v2",
    tag = "Open Inference Protocol",
    responses((status = 200, body = ServerMetadataBody, description = "Name, version and extensions"))
)]
pub(super) async fn get_server_metadata() -> Json<ServerMetadataBody> {
    Json(ServerMetadataBody {
        name: "segmentd",
        version: env!("CARGO_PKG_VERSION"),
        extensions: ["binary_tensor_data", "model_repository"],
    })
}

/// Health of the server. One edition of the protocol names the field `live` in both
/// responses, clients read `ready`: each response has both.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServerHealthBody {
    /// Whether the process runs: always true.
    #[schema(example = true)]
    live: bool,
    /// Whether the server accepts requests.
    #[schema(example = true)]
    ready: bool,
}

/// Check whether the process is live.
#[utoipa::path(
    get,
    path = "/v2/health/live",
    tag = "Open Inference Protocol",
    responses((status = 200, body = ServerHealthBody, description = "The process is live"))
)]
pub(super) async fn check_server_live(State(state): State<ApiState>) -> Json<ServerHealthBody> {
    Json(ServerHealthBody { live: true, ready: state.readiness.is_ready() })
}

/// Check whether the server is ready.
#[utoipa::path(
    get,
    path = "/v2/health/ready",
    tag = "Open Inference Protocol",
    responses(
        (status = 200, body = ServerHealthBody, description = "The server is ready"),
        (status = 503, body = ServerHealthBody, description = "The server is not ready"),
    )
)]
pub(super) async fn check_server_ready(
    State(state): State<ApiState>,
) -> (StatusCode, Json<ServerHealthBody>) {
    let ready = state.readiness.is_ready();
    (status(ready), Json(ServerHealthBody { live: true, ready }))
}

/// Readiness of the model or of a version.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelHealthBody {
    /// Always `segments`.
    #[schema(example = "segments")]
    name: &'static str,
    /// Whether the model, or the requested version, answers.
    #[schema(example = true)]
    ready: bool,
}

/// Check whether the model is ready.
///
/// The rule-based fallback is ready too.
#[utoipa::path(
    get,
    path = "/v2/models/{name}/ready",
    tag = "Open Inference Protocol",
    params(ModelNamePath),
    responses(
        (status = 200, body = ModelHealthBody, description = "The model is ready"),
        (status = 404, description = "There is no such model"),
        (status = 503, body = ModelHealthBody, description = "The model is not ready"),
    )
)]
pub(super) async fn check_model_ready(
    State(state): State<ApiState>,
    _: ModelPath,
) -> (StatusCode, Json<ModelHealthBody>) {
    model_health(&state)
}

/// Check whether a version of the model is ready.
///
/// Only the deployed version can be ready.
#[utoipa::path(
    get,
    path = "/v2/models/{name}/versions/{version}/ready",
    tag = "Open Inference Protocol",
    params(
        ModelVersionPath,
    ),
    responses(
        (status = 200, body = ModelHealthBody, description = "The version is ready"),
        (status = 404, description = "There is no such model, or this version is not deployed"),
        (status = 503, body = ModelHealthBody, description = "The version is not ready"),
    )
)]
pub(super) async fn check_model_version_ready(
    State(state): State<ApiState>,
    model_path: ModelPath,
) -> Result<(StatusCode, Json<ModelHealthBody>), ApiError> {
    model_path.check_deployed_in(&state.deployments.current())?;
    Ok(model_health(&state))
}

fn model_health(state: &ApiState) -> (StatusCode, Json<ModelHealthBody>) {
    let ready = state.readiness.is_ready();
    (status(ready), Json(ModelHealthBody { name: MODEL_NAME, ready }))
}

fn status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
