//! Health and server metadata for probes, which send no key.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use crate::api::inference::ModelPath;
use crate::api::{ApiError, ApiState};
use crate::domain::wire::inference::MODEL_NAME;

#[derive(Debug, Serialize)]
pub(super) struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 2],
}

pub(super) async fn get_server() -> Json<ServerMetadata> {
    Json(ServerMetadata {
        name: "segmentd",
        version: env!("CARGO_PKG_VERSION"),
        extensions: ["binary_tensor_data", "model_repository"],
    })
}

/// Health of the server. One edition of the protocol names the field `live` in both
/// responses, clients read `ready`: each response has both.
#[derive(Debug, Serialize)]
pub(super) struct ServerHealth {
    live: bool,
    ready: bool,
}

pub(super) async fn get_live(State(state): State<ApiState>) -> Json<ServerHealth> {
    Json(ServerHealth { live: true, ready: state.readiness.is_ready() })
}

pub(super) async fn get_ready(State(state): State<ApiState>) -> (StatusCode, Json<ServerHealth>) {
    let ready = state.readiness.is_ready();
    (status(ready), Json(ServerHealth { live: true, ready }))
}

#[derive(Debug, Serialize)]
pub(super) struct ModelHealth {
    name: &'static str,
    ready: bool,
}

/// Readiness of a model version; a version that is not deployed is not ready.
pub(super) async fn get_model_ready(
    State(state): State<ApiState>,
    model_path: ModelPath,
) -> Result<(StatusCode, Json<ModelHealth>), ApiError> {
    let ready =
        state.readiness.is_ready() && model_path.is_deployed_in(&state.deployments.current());
    Ok((status(ready), Json(ModelHealth { name: MODEL_NAME, ready })))
}

fn status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
