//! `/v1/training-runs…`: request, follow and cancel training runs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::api::request::{Body, Caller, Page, Path, Read, Train, json};
use crate::api::{ApiError, ApiState};
use crate::domain::id::RunId;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::training::{Purpose, stage_seconds_left};
use crate::store::models::runs;
use crate::store::models::runs::{KEY_TRIGGER, RunRow};

/// Request for a training run: changes to the configured training spec, with all fields
/// optional, and the purpose of the run.
#[derive(Debug, Default, Deserialize)]
struct RunRequest {
    #[serde(default)]
    what_if: bool,
    reason: Option<String>,
    #[serde(flatten)]
    spec: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Serialize)]
pub(crate) struct RunBody {
    run: String,
    /// queued, running, succeeded, failed or cancelled
    status: String,
    trigger: String,
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

impl RunBody {
    fn new(row: RunRow, now: Timestamp) -> Self {
        Self {
            stage_seconds_left: stage_seconds_left(&row, now),
            run: row.run_id.into(),
            status: row.status,
            trigger: row.trigger,
            what_if: row.what_if,
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
pub(crate) struct RunsBody {
    runs: Vec<RunBody>,
    next_before: Option<Timestamp>,
}

pub(crate) async fn post_run(
    State(state): State<ApiState>,
    caller: Caller<Train>,
    Body(body): Body,
) -> Result<(StatusCode, Json<RunBody>), ApiError> {
    let asked: RunRequest = if body.is_empty() { RunRequest::default() } else { json(&body)? };
    let spec = state.training.default_spec().over(asked.spec).map_err(ServiceError::Invalid)?;
    let purpose = Purpose { what_if: asked.what_if, reason: asked.reason };
    let trigger = format!("{KEY_TRIGGER}{}", caller.principal.key_id);
    let run = state.training.request_for(spec, &trigger, None, purpose).await?;
    let run = run.ok_or_else(|| ServiceError::internal("a requested run must be new"))?;
    Ok((StatusCode::ACCEPTED, stored(&state, run.as_str()).await?))
}

pub(crate) async fn post_cancel(
    State(state): State<ApiState>,
    caller: Caller<Train>,
    Path(id): Path<String>,
) -> Result<Json<RunBody>, ApiError> {
    let run: RunId = id.parse().map_err(|_| unknown(&id))?;
    state.training.cancel(&run, &format!("key {}", caller.principal.key_id)).await?;
    stored(&state, &id).await
}

pub(crate) async fn get_run(
    State(state): State<ApiState>,
    _: Caller<Read>,
    Path(id): Path<String>,
) -> Result<Json<RunBody>, ApiError> {
    stored(&state, &id).await
}

async fn stored(state: &ApiState, id: &str) -> Result<Json<RunBody>, ApiError> {
    let run: RunId = id.parse().map_err(|_| unknown(id))?;
    let row = runs::find(&state.db, &run).await?.ok_or_else(|| unknown(id))?;
    Ok(Json(RunBody::new(row, state.training.clock.now())))
}

fn unknown(id: &str) -> ApiError {
    ApiError::not_found(&format!("training run `{id}`"))
}

pub(crate) async fn get_runs(
    State(state): State<ApiState>,
    _: Caller<Read>,
    page: Page,
) -> Result<Json<RunsBody>, ApiError> {
    let rows = runs::list(&state.db, page.before, page.limit).await?;
    let full = i64::try_from(rows.len()).is_ok_and(|count| count == page.limit);
    let next_before = rows.last().filter(|_| full).map(|row| row.requested_at);
    let now = state.training.clock.now();
    let runs = rows.into_iter().map(|row| RunBody::new(row, now)).collect();
    Ok(Json(RunsBody { runs, next_before }))
}
