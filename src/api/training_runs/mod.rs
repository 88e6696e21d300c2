//! `/v1/training-runs…`: request, follow and cancel training runs.

mod algorithm;
mod spec;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::api::models::ids::RunIdPath;
use crate::api::models::ids::{resolve_run_id, stored_choice};
use crate::api::models::report::TrainingReportBody;
use crate::api::request::fields::parse_fields;
use crate::api::request::page::{InstantAndId, PageCursor, PageLimit};
use crate::api::request::{
    AuthorizedCaller, JsonBody, PathParameters, QueryParameters, Read, Train,
};
use crate::api::request_layer::{ExpensiveRequests, RouteKind};
use crate::api::route::ApiRoute;
use crate::api::training_runs::spec::{CreateTrainingRunRequest, TrainingSpecBody};
use crate::api::{ApiError, ApiState};
use crate::domain::id::RunId;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::training::{RunPurpose, stage_seconds_left};
use crate::store::models::list::InstantPage;
use crate::store::models::runs;
use crate::store::models::runs::{KEY_TRIGGER, TrainingRunRow};

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::new(routes!(list_training_runs, create_training_run), RouteKind::Manage)
            .with_expensive(ExpensiveRequests::Changes),
        ApiRoute::new(routes!(get_training_run), RouteKind::Manage),
        ApiRoute::new(routes!(cancel_training_run), RouteKind::Manage),
    ]
}

/// A training run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrainingRunBody {
    /// Id of the run.
    #[schema(example = "run_5f2c8d10b7a94e36")]
    training_run_id: String,
    status: TrainingRunStatus,
    /// What requested the run: a key, `schedule` or `policy`.
    #[schema(example = "key 0050e0c5c045")]
    trigger: String,
    /// Name of the key; null for another trigger.
    #[schema(example = "notebook")]
    trigger_name: Option<String>,
    /// Whether the model is only registered as a candidate, and never promoted automatically.
    what_if: bool,
    /// Purpose of the run; null: not stated.
    #[schema(example = "are two segments easier to explain?")]
    reason: Option<String>,
    spec: TrainingSpecBody,
    /// Current stage, such as `queued`, `encode`, `candidates`, `stability` or `finished`.
    #[schema(example = "candidates")]
    stage: String,
    /// Finished steps of this stage.
    #[schema(example = 12)]
    done: i64,
    /// All steps of this stage.
    #[schema(example = 40)]
    total: i64,
    /// Estimated seconds left in this stage; null: the run is not running, or the first step of
    /// the stage is not finished.
    #[schema(example = 21)]
    stage_seconds_left: Option<i64>,
    /// Id of the trained model; null: none yet.
    #[schema(example = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")]
    model_id: Option<String>,
    /// Why the run failed or was cancelled; null: it did not.
    #[schema(example = "there are 120 rows; training needs at least 200 (`minimum_rows`)")]
    error: Option<String>,
    /// Time of the request.
    requested_at: Timestamp,
    /// Start; null: queued, or cancelled before.
    started_at: Option<Timestamp>,
    /// End; null: queued or running.
    finished_at: Option<Timestamp>,
}

/// Status of a training run.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum TrainingRunStatus {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl TrainingRunBody {
    fn new(state: &ApiState, row: TrainingRunRow) -> Result<Self, ApiError> {
        Ok(Self {
            trigger_name: state.api_keys.name_of_author(&row.trigger),
            stage_seconds_left: stage_seconds_left(&row, state.clock.now()),
            training_run_id: row.run_id.into(),
            status: stored_choice(&row.status)?,
            trigger: row.trigger,
            what_if: row.is_what_if,
            reason: row.reason,
            spec: serde_json::from_value(row.spec).map_err(ServiceError::internal)?,
            stage: row.stage,
            done: row.done,
            total: row.total,
            model_id: row.model.map(Into::into),
            error: row.error,
            requested_at: row.requested_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
        })
    }
}

/// A training run with its report.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrainingRunDetailBody {
    #[serde(flatten)]
    run: TrainingRunBody,
    /// Figures of the training, with the leaderboard of all candidates; null: none yet.
    report: Option<TrainingReportBody>,
}

/// A page of training runs, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrainingRunListBody {
    training_runs: Vec<TrainingRunBody>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TrainingRunListQuery {
    /// Training runs per page.
    #[serde(default)]
    #[param(inline)]
    limit: PageLimit<50, 500>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<PageCursor<InstantAndId>>,
}

/// List training runs, newest first.
#[utoipa::path(
    get,
    path = "/v1/training-runs",
    tag = "Training runs",
    security(("key" = ["read"])),
    params(TrainingRunListQuery),
    responses((status = 200, body = TrainingRunListBody, description = "The runs, without their reports"))
)]
pub(crate) async fn list_training_runs(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<TrainingRunListQuery>,
) -> Result<Json<TrainingRunListBody>, ApiError> {
    let limit = query.limit.get();
    let page = InstantPage { after: query.cursor.map(|PageCursor(key)| key), limit };
    let rows = runs::list_page(&state.db, &page).await?;
    let next_cursor =
        PageCursor::after(&rows, limit, |row| (row.requested_at, row.run_id.to_string()));
    let runs: Result<_, _> =
        rows.into_iter().map(|row| TrainingRunBody::new(&state, row)).collect();
    Ok(Json(TrainingRunListBody { training_runs: runs?, next_cursor }))
}

/// Request a training run.
///
/// The run is queued: one replica trains at a time. A spec of more than `training.max_fits` fits
/// is refused with 422. A request is refused with 429 while `training.max_queued_runs_per_key`
/// runs of the key, or `training.max_queued_runs` in all, are queued or running.
#[utoipa::path(
    post,
    path = "/v1/training-runs",
    tag = "Training runs",
    security(("key" = ["train"])),
    request_body = Option<CreateTrainingRunRequest>,
    responses((status = 202, body = TrainingRunBody, description = "The queued run"))
)]
pub(crate) async fn create_training_run(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<TrainingRunBody>), ApiError> {
    let request: CreateTrainingRunRequest = parse_fields(&body)?;
    request.check_algorithms().map_err(ServiceError::Invalid)?;
    let changes = request.settings().map_err(ServiceError::internal)?;
    let spec = state.training.default_spec().with_changes(changes);
    let spec = spec.map_err(ServiceError::Invalid)?;
    let purpose = RunPurpose { is_what_if: request.what_if, reason: request.reason };
    let trigger = format!("{KEY_TRIGGER}{}", caller.principal.key_id);
    let run = state.training.request_run_for(spec, &trigger, None, purpose).await?;
    let run = run.ok_or_else(|| ServiceError::internal("a requested run must be new"))?;
    let row = find_run(&state, &run).await?;
    Ok((StatusCode::ACCEPTED, Json(TrainingRunBody::new(&state, row)?)))
}

/// Cancel a training run.
///
/// A queued run never starts. A running one stops soon, on any replica, and registers no model.
/// A repeated request changes nothing.
#[utoipa::path(
    post,
    path = "/v1/training-runs/{training_run_id}/cancel",
    tag = "Training runs",
    security(("key" = ["train"])),
    params(RunIdPath),
    responses(
        (status = 200, body = TrainingRunBody, description = "The cancelled run"),
        (status = 404, description = "There is no such run, or several ids begin so"),
        (status = 409, description = "The run has succeeded or failed"),
    )
)]
pub(crate) async fn cancel_training_run(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Train>,
    PathParameters(training_run_id): PathParameters<String>,
) -> Result<Json<TrainingRunBody>, ApiError> {
    let run = resolve_run_id(&state, &training_run_id).await?;
    state.training.cancel_run(&run, &caller.actor_name()).await?;
    let row = find_run(&state, &run).await?;
    Ok(Json(TrainingRunBody::new(&state, row)?))
}

/// Get a training run.
///
/// The report has the leaderboard of all candidates, with their figures, gates, the margin over
/// the RFM baseline and the reason of each rank.
#[utoipa::path(
    get,
    path = "/v1/training-runs/{training_run_id}",
    tag = "Training runs",
    security(("key" = ["read"])),
    params(RunIdPath),
    responses(
        (status = 200, body = TrainingRunDetailBody, description = "The run"),
        (status = 404, description = "There is no such run, or several ids begin so"),
    )
)]
pub(crate) async fn get_training_run(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(training_run_id): PathParameters<String>,
) -> Result<Json<TrainingRunDetailBody>, ApiError> {
    let run = resolve_run_id(&state, &training_run_id).await?;
    let mut row = find_run(&state, &run).await?;
    let report = row.report.take().map(serde_json::from_value).transpose();
    let report = report.map_err(ServiceError::internal)?;
    Ok(Json(TrainingRunDetailBody { run: TrainingRunBody::new(&state, row)?, report }))
}

async fn find_run(state: &ApiState, run: &RunId) -> Result<TrainingRunRow, ApiError> {
    let row = runs::find(&state.db, run).await?;
    row.ok_or_else(|| ApiError::not_found(&format!("training run `{run}`")))
}
