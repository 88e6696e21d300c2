//! Comparisons of models: difference of two models, promotion preview against the active
//! model, and lineage of a segment over trainings.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::api::models::parse_model_id;
use crate::api::request::{AuthorizedCaller, PageParameters, PathParameters, Read, heavy_work};
use crate::api::{ApiError, ApiState};
use crate::domain::id::ModelId;
use crate::domain::model::{self, MigrationSummary, ModelDiff};
use crate::domain::time::Timestamp;
use crate::service::models::registry;
use crate::store::models::lineage;
use crate::store::models::lineage::LineageRow;

#[derive(Debug, Serialize)]
pub(crate) struct DiffBody {
    #[serde(flatten)]
    diff: ModelDiff,
    /// Lineage of every segment, if `to` was trained while `from` was active.
    lineage: Vec<LineageEventBody>,
}

/// One lineage event of a segment.
#[derive(Debug, Serialize)]
struct LineageEventBody {
    model: ModelId,
    predecessor: Option<ModelId>,
    at: Timestamp,
    /// kept, born, died, split, merged or passed
    event: String,
    old: Option<SegmentNameBody>,
    new: Option<SegmentNameBody>,
    members: i64,
    share_of_old: Option<f64>,
    share_of_new: Option<f64>,
}

#[derive(Debug, Serialize)]
struct SegmentNameBody {
    id: String,
    key: String,
}

impl SegmentNameBody {
    fn new(id: Option<String>, key: Option<String>) -> Option<Self> {
        Some(Self { id: id?, key: key? })
    }
}

impl LineageEventBody {
    fn new(row: LineageRow) -> Self {
        Self {
            model: row.model,
            predecessor: row.predecessor,
            at: row.at,
            event: row.event,
            old: SegmentNameBody::new(row.old_id, row.old_key),
            new: SegmentNameBody::new(row.new_id, row.new_key),
            members: row.members,
            share_of_old: row.share_of_old,
            share_of_new: row.share_of_new,
        }
    }
}

pub(crate) async fn get_diff(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Read>,
    PathParameters((from, to)): PathParameters<(String, String)>,
) -> Result<Json<DiffBody>, ApiError> {
    let (from, to) = (parse_model_id(&from)?, parse_model_id(&to)?);
    let lines = lineage::list_between(&state.db, &from, &to).await?;
    let (from, to) = tokio::try_join!(
        registry::open_model(&state.db, &from),
        registry::open_model(&state.db, &to)
    )?;
    // Always heavy: a comparison covers up to 256 segments of many features each.
    let diff = heavy_work::run(&state, caller.user(), true, move |_| {
        Ok(model::compare_models(&from, &to))
    });
    let diff = diff.await?;
    Ok(Json(DiffBody { diff, lineage: lines.into_iter().map(LineageEventBody::new).collect() }))
}

#[derive(Debug, Serialize)]
pub(crate) struct MigrationBody {
    /// The active model; null for the rule-based fallback.
    from: Option<ModelId>,
    to: ModelId,
    as_of: Timestamp,
    #[serde(flatten)]
    migration: MigrationSummary,
}

pub(crate) async fn get_migration(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Read>,
    PathParameters(id): PathParameters<String>,
) -> Result<Json<MigrationBody>, ApiError> {
    let _permit = state.slow_reads.acquire(&caller.principal).await?;
    let preview = state.registry.preview_promotion(&parse_model_id(&id)?).await?;
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
    lines: Vec<LineageEventBody>,
    next_before: Option<Timestamp>,
}

pub(crate) async fn get_lineage(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(id): PathParameters<String>,
    page: PageParameters,
) -> Result<Json<LineageBody>, ApiError> {
    let rows = lineage::list_of_segment(&state.db, &id, page.before, page.limit).await?;
    if rows.is_empty() && page.before.is_none() {
        return Err(ApiError::not_found(&format!("segment with the id `{id}`")));
    }
    let models = rows.chunk_by(|row, next| row.model == next.model).count();
    let is_full = i64::try_from(models).is_ok_and(|count| count == page.limit);
    let next_before = rows.last().filter(|_| is_full).map(|row| row.at);
    let lines = rows.into_iter().map(LineageEventBody::new).collect();
    Ok(Json(LineageBody { segment: id, lines, next_before }))
}
