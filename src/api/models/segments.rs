//! `GET /v1/models/{model_id}/segments`: the segments of any model, also before its promotion.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::models::ids::{ModelIdPath, resolve_model_id};
use crate::api::models::profile::SegmentProfileBody;
use crate::api::named_segment::NamedSegmentBody;
use crate::api::request::{AuthorizedCaller, PathParameters, Read, heavy_work};
use crate::api::{ApiError, ApiState};
use crate::domain::model::NamedSegment;
use crate::service::models::registry;

/// The segments of a model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelSegmentListBody {
    /// Id of the model.
    #[schema(example = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")]
    model_id: String,
    /// In the order of their size at training.
    segments: Vec<ModelSegmentBody>,
}

/// A segment of a model.
#[derive(Debug, Serialize, ToSchema)]
struct ModelSegmentBody {
    #[serde(flatten)]
    segment: NamedSegmentBody,
    profile: SegmentProfileBody,
}

/// List the segments of a model.
///
/// Names and profiles of a model at any stage, so that a candidate can be read before its
/// promotion. `/v1/segments` has the segments that are served, with their present sizes.
#[utoipa::path(
    get,
    path = "/v1/models/{model_id}/segments",
    tag = "Models",
    security(("key" = ["read"])),
    params(ModelIdPath),
    responses(
        (status = 200, body = ModelSegmentListBody, description = "The segments"),
        (status = 404, description = "There is no such model, or several ids begin so"),
        (status = 409, description = "The model fails its self-test"),
    )
)]
pub(crate) async fn list_model_segments(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Read>,
    PathParameters(model_id): PathParameters<String>,
) -> Result<Json<ModelSegmentListBody>, ApiError> {
    let model_id = resolve_model_id(&state, &model_id).await?;
    let model = registry::open_model(&state.db, &model_id).await?;
    let model = state.deployments.snapshot().personas.name_segments(model);
    // Always heavy: up to 256 segments of many features each.
    let segments = heavy_work::run(&state, caller.user(), true, move |_| {
        let segments = model.segments().iter().map(|segment| ModelSegmentBody {
            segment: NamedSegment::from(segment).into(),
            profile: SegmentProfileBody::new(segment, &model),
        });
        Ok(segments.collect())
    });
    Ok(Json(ModelSegmentListBody { segments: segments.await?, model_id: model_id.into() }))
}
