//! Training runs: ask for one, follow it.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::api::extract::{Body, Caller, Page, Read, Train, json};
use crate::api::{ApiError, ApiState};
use crate::domain::id::RunId;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::store::runs::{self, RunRow};

/// What to change of the configured training; every field may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunRequest {
    segments: Option<usize>,
    starts: Option<usize>,
    seed: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct RunBody {
    run: String,
    /// queued, running, succeeded or failed
    status: String,
    trigger: String,
    spec: serde_json::Value,
    stage: String,
    /// Steps of this stage done, and in all.
    done: i64,
    total: i64,
    model: Option<String>,
    report: Option<serde_json::Value>,
    error: Option<String>,
    requested_at: Timestamp,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
}

impl RunBody {
    fn new(row: RunRow) -> Self {
        Self {
            run: row.run_id.into(),
            status: row.status,
            trigger: row.trigger,
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
pub(super) struct RunsBody {
    runs: Vec<RunBody>,
    next_before: Option<Timestamp>,
}

pub(super) async fn post_run(
    State(state): State<ApiState>,
    caller: Caller<Train>,
    Body(body): Body,
) -> Result<(StatusCode, Json<RunBody>), ApiError> {
    let asked: RunRequest = if body.is_empty() { RunRequest::default() } else { json(&body)? };
    let mut spec = state.training.default_spec();
    spec.segments = asked.segments.unwrap_or(spec.segments);
    spec.starts = asked.starts.unwrap_or(spec.starts);
    spec.seed = asked.seed.unwrap_or(spec.seed);
    let trigger = format!("key {}", caller.principal.key_id);
    let run = state.training.request(spec, &trigger, None).await?;
    let run = run
        .ok_or_else(|| ServiceError::internal("a run without an instant is never there already"))?;
    let row = runs::find(&state.db, &run).await?;
    let row = row.ok_or_else(|| ApiError::not_found(&format!("training run `{run}`")))?;
    Ok((StatusCode::ACCEPTED, Json(RunBody::new(row))))
}

pub(super) async fn get_run(
    State(state): State<ApiState>,
    _: Caller<Read>,
    Path(id): Path<String>,
) -> Result<Json<RunBody>, ApiError> {
    let unknown = || ApiError::not_found(&format!("training run `{id}`"));
    let run: RunId = id.parse().map_err(|_| unknown())?;
    let row = runs::find(&state.db, &run).await?.ok_or_else(unknown)?;
    Ok(Json(RunBody::new(row)))
}

pub(super) async fn get_runs(
    State(state): State<ApiState>,
    _: Caller<Read>,
    page: Page,
) -> Result<Json<RunsBody>, ApiError> {
    let rows = runs::list(&state.db, page.before, page.limit).await?;
    let full = i64::try_from(rows.len()).is_ok_and(|count| count == page.limit);
    let next_before = rows.last().filter(|_| full).map(|row| row.requested_at);
    Ok(Json(RunsBody { runs: rows.into_iter().map(RunBody::new).collect(), next_before }))
}
