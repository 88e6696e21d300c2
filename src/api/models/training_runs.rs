//! `/v1/training-runs…`: request, follow and cancel training runs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::api::request::parameters::last_of_full_page;
use crate::api::request::{
    AuthorizedCaller, JsonBody, PageParameters, PathParameters, Read, Train, parse_optional_json,
};
use crate::api::{ApiError, ApiState};
use crate::domain::id::RunId;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::api_keys::KeyAuthenticator;
use crate::service::training::{RunPurpose, stage_seconds_left};
use crate::store::models::runs;
use crate::store::models::runs::{KEY_TRIGGER, TrainingRunRow};

/// Request for a training run: changes to the configured training spec, with all fields
/// optional, and the purpose of the run.
#[derive(Debug, Default, Deserialize)]
struct TrainingRunRequest {
    #[serde(default)]
    what_if: bool,
    reason: Option<String>,
    #[serde(flatten)]
    spec: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Serialize)]
pub(crate) struct TrainingRunBody {
    run: String,
    /// queued, running, succeeded, failed or cancelled
    status: String,
    trigger: String,
    /// Name of the key.
    trigger_name: Option<String>,
    what_if: bool,
    reason: Option<String>,
    spec: serde_json::Value,
    stage: String,
    /// Completed steps of this stage, and all its steps.
    done: i64,
    total: i64,
    /// Estimate; null before the first step of the stage is complete.
    stage_seconds_left: Option<i64>,
    model: Option<String>,
    report: Option<serde_json::Value>,
    error: Option<String>,
    requested_at: Timestamp,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
}

impl TrainingRunBody {
    fn new(row: TrainingRunRow, keys: &KeyAuthenticator, now: Timestamp) -> Self {
        Self {
            trigger_name: keys.name_of_author(&row.trigger),
            stage_seconds_left: stage_seconds_left(&row, now),
            run: row.run_id.into(),
            status: row.status,
            trigger: row.trigger,
            what_if: row.is_what_if,
            reason: row.reason,
            spec: row.spec,
            stage: row.stage,
            done: row.done,
            total: row.total,
            model: row.model.map(Into::into),
            report: row.report,
            error: row.error,
            requested_at: row.requested_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct TrainingRunsBody {
    runs: Vec<TrainingRunBody>,
    next_before: Option<Timestamp>,
}

pub(crate) async fn post_run(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<TrainingRunBody>), ApiError> {
    let request: TrainingRunRequest = parse_optional_json(&body)?;
    let spec =
        state.training.default_spec().with_changes(request.spec).map_err(ServiceError::Invalid)?;
    let purpose = RunPurpose { is_what_if: request.what_if, reason: request.reason };
    let trigger = format!("{KEY_TRIGGER}{}", caller.principal.key_id);
    let run = state.training.request_run_for(spec, &trigger, None, purpose).await?;
    let run = run.ok_or_else(|| ServiceError::internal("a requested run must be new"))?;
    Ok((StatusCode::ACCEPTED, find_run(&state, run.as_str()).await?))
}

pub(crate) async fn post_cancel(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    PathParameters(id): PathParameters<String>,
) -> Result<Json<TrainingRunBody>, ApiError> {
    let run: RunId = id.parse().map_err(|_| unknown_run(&id))?;
    state.training.cancel_run(&run, &caller.actor_name()).await?;
    find_run(&state, &id).await
}

pub(crate) async fn get_run(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(id): PathParameters<String>,
) -> Result<Json<TrainingRunBody>, ApiError> {
    find_run(&state, &id).await
}

async fn find_run(state: &ApiState, id: &str) -> Result<Json<TrainingRunBody>, ApiError> {
    let run: RunId = id.parse().map_err(|_| unknown_run(id))?;
    let row = runs::find(&state.db, &run).await?.ok_or_else(|| unknown_run(id))?;
    Ok(Json(TrainingRunBody::new(row, &state.api_keys, state.clock.now())))
}

fn unknown_run(id: &str) -> ApiError {
    ApiError::not_found(&format!("training run `{id}`"))
}

pub(crate) async fn get_runs(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    page: PageParameters,
) -> Result<Json<TrainingRunsBody>, ApiError> {
    let rows = runs::list(&state.db, page.before, page.limit).await?;
    let next_before = last_of_full_page(&rows, page.limit).map(|row| row.requested_at);
    let now = state.clock.now();
    let runs =
        rows.into_iter().map(|row| TrainingRunBody::new(row, &state.api_keys, now)).collect();
    Ok(Json(TrainingRunsBody { runs, next_before }))
}
