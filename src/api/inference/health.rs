//! Health and server metadata for probes, which send no key.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use crate::api::inference::Addressed;
use crate::api::{ApiError, ApiState};
use crate::domain::wire::inference::MODEL_NAME;

#[derive(Debug, Serialize)]
pub(super) struct Server {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 2],
}

pub(super) async fn get_server() -> Json<Server> {
    Json(Server {
        name: "segmentd",
        version: env!("CARGO_PKG_VERSION"),
        extensions: ["binary_tensor_data", "model_repository"],
    })
}

/// Health of the server. One edition of the protocol names the field `live` in both
/// responses, clients read `ready`: each response has both.
#[derive(Debug, Serialize)]
pub(super) struct Health {
    live: bool,
    ready: bool,
}

pub(super) async fn get_live(State(state): State<ApiState>) -> Json<Health> {
    Json(Health { live: true, ready: state.readiness.is_ready() })
}

pub(super) async fn get_ready(State(state): State<ApiState>) -> (StatusCode, Json<Health>) {
    let ready = state.readiness.is_ready();
    (status(ready), Json(Health { live: true, ready }))
}

#[derive(Debug, Serialize)]
pub(super) struct ModelHealth {
    name: &'static str,
    ready: bool,
}

/// Readiness of a model version; a version that is not deployed is not ready.
pub(super) async fn get_model_ready(
    State(state): State<ApiState>,
    addressed: Addressed,
) -> Result<(StatusCode, Json<ModelHealth>), ApiError> {
    let ready = state.readiness.is_ready() && addressed.is_live(&state.live.lineup());
    Ok((status(ready), Json(ModelHealth { name: MODEL_NAME, ready })))
}

fn status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
