//! Models: list, show, promote, roll back.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};

use crate::api::extract::{Body, Caller, Page, Read, Train, json};
use crate::api::{ApiError, ApiState};
use crate::domain::fault::Faults;
use crate::domain::id::{BadId, ModelId};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::registry::Change;
use crate::store::models::{self, LineupRow, ModelRow};

#[derive(Debug, Serialize)]
pub(super) struct ModelBody {
    model: String,
    feature_set: String,
    stage: String,
    training_run: Option<String>,
    created_at: Timestamp,
    report: serde_json::Value,
}

impl ModelBody {
    fn new(row: ModelRow) -> Self {
        Self {
            model: row.model_id.into(),
            feature_set: row.feature_set,
            stage: row.stage,
            training_run: row.run_id,
            created_at: row.created_at,
            report: row.report,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ModelsBody {
    models: Vec<ModelBody>,
    next_before: Option<Timestamp>,
}

pub(super) async fn get_models(
    State(state): State<ApiState>,
    _: Caller<Read>,
    page: Page,
) -> Result<Json<ModelsBody>, ApiError> {
    let rows = models::list(&state.db, page.before, page.limit).await?;
    let full = i64::try_from(rows.len()).is_ok_and(|count| count == page.limit);
    let next_before = rows.last().filter(|_| full).map(|row| row.created_at);
    Ok(Json(ModelsBody { models: rows.into_iter().map(ModelBody::new).collect(), next_before }))
}

pub(super) async fn get_model(
    State(state): State<ApiState>,
    _: Caller<Read>,
    Path(id): Path<String>,
) -> Result<Json<ModelBody>, ApiError> {
    let row = models::find(&state.db, &model_id(&id)?).await?;
    let row = row.ok_or_else(|| ApiError::not_found(&format!("model `{id}`")))?;
    Ok(Json(ModelBody::new(row)))
}

/// What is live after a change.
#[derive(Debug, Serialize)]
pub(super) struct LineupBody {
    generation: i64,
    active_model: Option<String>,
    previous_model: Option<String>,
    changed_at: Timestamp,
    changed_by: String,
    reason: String,
}

impl LineupBody {
    fn new(row: LineupRow) -> Self {
        Self {
            generation: row.generation,
            active_model: row.active.map(Into::into),
            previous_model: row.previous.map(Into::into),
            changed_at: row.changed_at,
            changed_by: row.changed_by,
            reason: row.reason,
        }
    }
}

/// The body may be left out; a reason is kept with the change.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    reason: Option<String>,
}

pub(super) async fn post_promote(
    State(state): State<ApiState>,
    caller: Caller<Train>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<LineupBody>, ApiError> {
    let change = change(&caller, &body)?;
    let row = state.registry.promote(&model_id(&id)?, change).await?;
    Ok(Json(LineupBody::new(row)))
}

pub(super) async fn post_rollback(
    State(state): State<ApiState>,
    caller: Caller<Train>,
    body: Body,
) -> Result<Json<LineupBody>, ApiError> {
    let change = change(&caller, &body)?;
    let row = state.registry.roll_back(change).await?;
    Ok(Json(LineupBody::new(row)))
}

fn change(caller: &Caller<Train>, Body(body): &Body) -> Result<Change, ApiError> {
    let why: Why = if body.is_empty() { Why::default() } else { json(body)? };
    let by = format!("key {}", caller.principal.key_id);
    Ok(Change { by, reason: why.reason.unwrap_or_else(|| "requested".into()) })
}

fn model_id(text: &str) -> Result<ModelId, ApiError> {
    text.parse()
        .map_err(|why: BadId| ServiceError::Invalid(Faults::one("model", why.to_string())).into())
}
