//! Comparisons of models: difference of two models, promotion preview against the active
//! model, and lineage of a segment over trainings.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::api::models::model_id;
use crate::api::request::{Caller, Page, Path, Read, heavy_work};
use crate::api::{ApiError, ApiState};
use crate::domain::id::ModelId;
use crate::domain::model::{self, Diff, Migration};
use crate::domain::time::Timestamp;
use crate::service::limits::heavy::Cancellation;
use crate::service::models::registry;
use crate::store::models::lineage;
use crate::store::models::lineage::LineRow;

#[derive(Debug, Serialize)]
pub(crate) struct DiffBody {
    #[serde(flatten)]
    diff: Diff,
    /// Lineage of every segment, if `to` was trained while `from` was active.
    lineage: Vec<LineBody>,
}

/// One lineage event of a segment.
#[derive(Debug, Serialize)]
struct LineBody {
    model: ModelId,
    predecessor: Option<ModelId>,
    at: Timestamp,
    /// kept, born, died, split, merged or passed
    event: String,
    old: Option<Named>,
    new: Option<Named>,
    members: i64,
    share_of_old: Option<f64>,
    share_of_new: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Named {
    id: String,
    key: String,
}

impl LineBody {
    fn new(row: LineRow) -> Self {
        let named =
            |(id, key): (Option<String>, Option<String>)| Some(Named { id: id?, key: key? });
        Self {
            model: row.model,
            predecessor: row.predecessor,
            at: row.at,
            event: row.event,
            old: named((row.old_id, row.old_key)),
            new: named((row.new_id, row.new_key)),
            members: row.members,
            share_of_old: row.share_of_old,
            share_of_new: row.share_of_new,
        }
    }
}

pub(crate) async fn get_diff(
    State(state): State<ApiState>,
    caller: Caller<Read>,
    Path((from, to)): Path<(String, String)>,
) -> Result<Json<DiffBody>, ApiError> {
    let (from, to) = (model_id(&from)?, model_id(&to)?);
    let lines = lineage::between(&state.db, &from, &to).await?;
    let (from, to) =
        tokio::try_join!(registry::open(&state.db, &from), registry::open(&state.db, &to))?;
    // Always heavy: a comparison covers up to 256 segments of many features each.
    let work = move |_: &Cancellation| Ok(model::diff(&from, &to));
    let diff = heavy_work::run(&state, caller.user(), true, work).await?;
    Ok(Json(DiffBody { diff, lineage: lines.into_iter().map(LineBody::new).collect() }))
}

#[derive(Debug, Serialize)]
pub(crate) struct MigrationBody {
    /// The active model; null for the rule-based fallback.
    from: Option<ModelId>,
    to: ModelId,
    as_of: Timestamp,
    #[serde(flatten)]
    migration: Migration,
}

pub(crate) async fn get_migration(
    State(state): State<ApiState>,
    caller: Caller<Read>,
    Path(id): Path<String>,
) -> Result<Json<MigrationBody>, ApiError> {
    let _turn = state.slow_reads.turn(&caller.principal).await?;
    let preview = state.registry.preview(&model_id(&id)?).await?;
    Ok(Json(MigrationBody {
        from: preview.from,
        to: preview.to,
        as_of: preview.as_of,
        migration: preview.migration,
    }))
}

#[derive(Debug, Serialize)]
pub(crate) struct LineageBody {
    segment: String,
    lines: Vec<LineBody>,
    next_before: Option<Timestamp>,
}

pub(crate) async fn get_lineage(
    State(state): State<ApiState>,
    _: Caller<Read>,
    Path(id): Path<String>,
    page: Page,
) -> Result<Json<LineageBody>, ApiError> {
    let rows = lineage::of_segment(&state.db, &id, page.before, page.limit).await?;
    if rows.is_empty() && page.before.is_none() {
        return Err(ApiError::not_found(&format!("segment with the id `{id}`")));
    }
    let models = rows.chunk_by(|one, next| one.model == next.model).count();
    let full = i64::try_from(models).is_ok_and(|count| count == page.limit);
    let next_before = rows.last().filter(|_| full).map(|row| row.at);
    let lines = rows.into_iter().map(LineBody::new).collect();
    Ok(Json(LineageBody { segment: id, lines, next_before }))
}
