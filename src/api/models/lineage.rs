//! `GET /v1/segments/{segment_id}/lineage`: a segment over trainings.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::models::ids::stored_choice;
use crate::api::named_segment::NamedSegmentBody;
use crate::api::request::page::{PageCursor, PageLimit};
use crate::api::request::{AuthorizedCaller, PathParameters, QueryParameters, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::time::Timestamp;
use crate::domain::train::lineage::LineageEvent;
use crate::store::models::lineage;
use crate::store::models::lineage::{LineageKey, LineageRow};

/// What became of a segment in one training.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LineageEventBody {
    /// Id of the trained model.
    #[schema(example = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")]
    model_id: String,
    /// Id of the model that was active at the training; null: none.
    #[schema(example = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d")]
    predecessor_model_id: Option<String>,
    /// Registration of the model.
    at: Timestamp,
    event: LineageEvent,
    /// The segment before; null: the segment is born.
    old: Option<NamedSegmentBody>,
    /// The segment after; null: the segment died.
    new: Option<NamedSegmentBody>,
    /// Training rows in both segments; for a birth or a death, the rows of that segment.
    #[schema(example = 310)]
    members: i64,
    /// `members` as a share of the rows of the old segment; null for a birth.
    #[schema(minimum = 0, maximum = 1, example = 0.9)]
    share_of_old: Option<f64>,
    /// `members` as a share of the rows of the new segment; null for a death.
    #[schema(minimum = 0, maximum = 1, example = 0.95)]
    share_of_new: Option<f64>,
}

impl LineageEventBody {
    pub(super) fn new(row: LineageRow) -> Result<Self, ApiError> {
        Ok(Self {
            event: stored_choice(&row.event)?,
            model_id: row.model.into(),
            predecessor_model_id: row.predecessor.map(Into::into),
            at: row.at,
            old: row.old.map(Into::into),
            new: row.new.map(Into::into),
            members: row.members,
            share_of_old: row.share_of_old,
            share_of_new: row.share_of_new,
        })
    }
}

/// A page of the lineage of a segment: models newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LineageEventListBody {
    /// Id of the segment.
    #[schema(example = "seg_5f2c8d10b7a94e36")]
    segment_id: String,
    events: Vec<LineageEventBody>,
    /// The `cursor` of the next page; null on the last page.
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LineageQuery {
    /// Events per page.
    #[serde(default)]
    #[param(inline)]
    limit: PageLimit<50, 500>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<PageCursor<LineageKey>>,
}

/// List the lineage of a segment, newest first.
///
/// The events of each training that kept, created, ended, split or merged the segment, or moved
/// members to or from it.
#[utoipa::path(
    get,
    path = "/v1/segments/{segment_id}/lineage",
    tag = "Segments",
    security(("key" = ["read"])),
    params(
        ("segment_id" = String, Path, description = "Id of the segment: `seg_…`"),
        LineageQuery,
    ),
    responses(
        (status = 200, body = LineageEventListBody, description = "The events"),
        (status = 404, description = "There is no segment with this id"),
    )
)]
pub(crate) async fn list_segment_lineage(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(segment_id): PathParameters<String>,
    QueryParameters(query): QueryParameters<LineageQuery>,
) -> Result<Json<LineageEventListBody>, ApiError> {
    let limit = query.limit.get();
    let after = query.cursor.map(|PageCursor(key)| key);
    let rows = lineage::list_page_of_segment(&state.db, &segment_id, after.as_ref(), limit).await?;
    if rows.is_empty() && after.is_none() {
        return Err(ApiError::not_found(&format!("segment with the id `{segment_id}`")));
    }
    let next_cursor = PageCursor::after(&rows, limit, LineageRow::key);
    let events: Result<_, _> = rows.into_iter().map(LineageEventBody::new).collect();
    Ok(Json(LineageEventListBody { segment_id, events: events?, next_cursor }))
}
