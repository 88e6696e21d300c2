//! `GET /v1/segments`: the segments that are served, with their current sizes.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::api::models::lineage;
use crate::api::models::profile::SegmentProfileBody;
use crate::api::request::{AuthorizedCaller, Read};
use crate::api::request_layer::RouteKind;
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState};
use crate::domain::model::{Model, UNASSIGNED};
use crate::service::scoring::deployment::Deployment;
use crate::store::customers::assignments;

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::new(routes!(list_segments), RouteKind::Manage),
        ApiRoute::new(routes!(lineage::list_segment_lineage), RouteKind::Manage),
    ]
}

/// The segments of the models that serve.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SegmentListBody {
    #[serde(flatten)]
    active: ServedSegmentsBody,
    /// Segments of the canary, which scores a share of the customers instead; null: none.
    canary: Option<CanarySegmentsBody>,
}

/// The segments of the canary.
#[derive(Debug, Serialize, ToSchema)]
struct CanarySegmentsBody {
    /// Share of the customers.
    #[schema(minimum = 0, maximum = 1, example = 0.05)]
    share: f64,
    #[serde(flatten)]
    canary: ServedSegmentsBody,
}

/// Segments of one model, or of the rule-based fallback.
#[derive(Debug, Serialize, ToSchema)]
struct ServedSegmentsBody {
    /// Id of the model; null: the rule-based fallback.
    #[schema(example = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")]
    model_id: Option<String>,
    /// Whether the rule-based fallback answers.
    fallback: bool,
    /// Number of the deployment.
    #[schema(example = 7)]
    generation: i64,
    segments: Vec<SegmentBody>,
}

/// A segment with its current size.
#[derive(Debug, Serialize, ToSchema)]
struct SegmentBody {
    /// Key of the segment in scores and exports; `unassigned` for customers in no segment.
    #[schema(example = "s1")]
    segment: String,
    /// Id of the segment, the same over trainings; null for the rule-based fallback, and for
    /// customers in no segment.
    #[schema(example = "seg_5f2c8d10b7a94e36")]
    segment_id: Option<String>,
    /// Description; null for the rule-based fallback, and for customers in no segment.
    #[schema(example = "high spend, low recency")]
    label: Option<String>,
    /// Customers assigned to the segment now.
    #[schema(example = 1180)]
    customers: i64,
    /// Outliers among these customers.
    #[schema(example = 12)]
    outliers: i64,
    /// Description from training; null for the rule-based fallback, and for customers in no
    /// segment.
    profile: Option<SegmentProfileBody>,
}

/// List the segments that are served, with their sizes.
///
/// The segments of the active model, or of the rule-based fallback, in the order of their size at
/// training. The model's description of a segment has no feature that is declared sensitive.
#[utoipa::path(
    get,
    path = "/v1/segments",
    tag = "Segments",
    security(("key" = ["read"])),
    responses((status = 200, body = SegmentListBody, description = "The segments"))
)]
pub(super) async fn list_segments(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
) -> Result<Json<SegmentListBody>, ApiError> {
    let deployment = state.deployments.snapshot();
    let canary = match &deployment.canary {
        None => None,
        Some(canary) => Some(CanarySegmentsBody {
            share: canary.share,
            canary: served_segments(&state, &canary.deployment).await?,
        }),
    };
    Ok(Json(SegmentListBody { active: served_segments(&state, &deployment).await?, canary }))
}

async fn served_segments(
    state: &ApiState,
    deployment: &Deployment,
) -> Result<ServedSegmentsBody, ApiError> {
    let model = deployment.active.as_ref();
    let counts = assignments::count_by_segment(&state.db, model.map(|model| model.id())).await?;
    let sizes = counts
        .into_iter()
        .map(|(key, customers, outliers)| SegmentBody::new(&key, customers, outliers));
    let segments = match model {
        None => sizes.collect(),
        Some(model) => {
            let sizes = sizes.map(|size| (size.segment.clone(), size)).collect();
            model_segments(model, sizes)
        }
    };
    Ok(ServedSegmentsBody {
        model_id: model.map(|model| model.id().to_string()),
        fallback: model.is_none(),
        generation: deployment.generation,
        segments,
    })
}

/// The segments of a model. `sizes`: counts by segment key; absent segments are empty.
fn model_segments(model: &Model, mut sizes: HashMap<String, SegmentBody>) -> Vec<SegmentBody> {
    let mut segments = Vec::new();
    for segment in model.segments() {
        let size = sizes.remove(&*segment.key);
        let size = size.unwrap_or_else(|| SegmentBody::new(&segment.key, 0, 0));
        segments.push(SegmentBody {
            segment_id: Some(segment.id.to_string()),
            label: Some(segment.label.to_string()),
            profile: Some(SegmentProfileBody::new(segment, model.features())),
            ..size
        });
    }
    if model.decision_function().has_radius() {
        let size = sizes.remove(UNASSIGNED);
        segments.push(size.unwrap_or_else(|| SegmentBody::new(UNASSIGNED, 0, 0)));
    }
    segments
}

impl SegmentBody {
    /// A segment without description.
    fn new(key: &str, customers: i64, outliers: i64) -> Self {
        let (segment_id, label, profile) = (None, None, None);
        Self { segment: key.to_owned(), segment_id, label, customers, outliers, profile }
    }
}
