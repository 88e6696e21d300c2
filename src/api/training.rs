//! Training runs: ask for one, follow it.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::api::extract::{Body, Caller, Page, Read, Train, json};
use crate::api::{ApiError, ApiState};
use crate::domain::id::RunId;
use crate::domain::time::Timestamp;
use crate::domain::train::baseline::RfmFeatures;
use crate::domain::train::select::{Gates, Weights};
use crate::domain::train::stability::Trials;
use crate::domain::train::{FeatureChoice, Filter, Segments, TrainSpec};
use crate::service::ServiceError;
use crate::store::runs::{self, RunRow};

/// What to change of the configured training; every field may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunRequest {
    segments: Option<Segments>,
    starts: Option<usize>,
    seed: Option<u64>,
    include: Option<Vec<FeatureChoice>>,
    exclude: Option<Vec<FeatureChoice>>,
    filters: Option<Vec<Filter>>,
    sample: Option<usize>,
    slices: Option<Vec<Box<str>>>,
    baseline: Option<RfmFeatures>,
    stability: Option<Trials>,
    gates: Option<Gates>,
    weights: Option<Weights>,
}

impl RunRequest {
    fn over(self, configured: TrainSpec) -> TrainSpec {
        TrainSpec {
            segments: self.segments.unwrap_or(configured.segments),
            starts: self.starts.unwrap_or(configured.starts),
            seed: self.seed.unwrap_or(configured.seed),
            include: self.include.unwrap_or(configured.include),
            exclude: self.exclude.unwrap_or(configured.exclude),
            filters: self.filters.unwrap_or(configured.filters),
            sample: self.sample.or(configured.sample),
            slices: self.slices.unwrap_or(configured.slices),
            baseline: self.baseline.or(configured.baseline),
            stability: self.stability.unwrap_or(configured.stability),
            gates: self.gates.unwrap_or(configured.gates),
            weights: self.weights.unwrap_or(configured.weights),
            ..configured
        }
    }
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
    let spec = asked.over(state.training.default_spec());
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
