//! `GET /v1/segments`: the segments that are served, with their current sizes.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::api::models::lineage;
use crate::api::models::profile::SegmentProfileBody;
use crate::api::named_segment::NamedSegmentBody;
use crate::api::request::{AuthorizedCaller, Read};
use crate::api::request_layer::RouteKind;
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState};
use crate::domain::model::{Model, NamedSegment};
use crate::service::scoring::deployment::Deployment;
use crate::store::customers::assignments;
use crate::store::customers::assignments::SegmentCount;

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
    #[serde(flatten)]
    segment: NamedSegmentBody,
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
    let segments = match model {
        None => counts
            .into_iter()
            .map(|count| SegmentBody::new(NamedSegment::of_rules(&count.segment_id), Some(&count)))
            .collect(),
        Some(model) => model_segments(model, &counts),
    };
    Ok(ServedSegmentsBody {
        model_id: model.map(|model| model.id().to_string()),
        fallback: model.is_none(),
        generation: deployment.generation,
        segments,
    })
}

/// The segments of a model; those without a count are empty.
fn model_segments(model: &Model, counts: &[SegmentCount]) -> Vec<SegmentBody> {
    let count_of = |id: &str| counts.iter().find(|count| *count.segment_id == *id);
    let mut segments = Vec::new();
    for segment in model.segments() {
        let profile = Some(SegmentProfileBody::new(segment, model.features()));
        let count = count_of(&segment.id);
        segments.push(SegmentBody { profile, ..SegmentBody::new(segment.into(), count) });
    }
    if model.decision_function().has_radius() {
        let unassigned = NamedSegment::unassigned();
        let count = count_of(&unassigned.id);
        segments.push(SegmentBody::new(unassigned, count));
    }
    segments
}

impl SegmentBody {
    /// A segment without description; `count`: `None` if it is empty.
    fn new(segment: NamedSegment, count: Option<&SegmentCount>) -> Self {
        let (customers, outliers) = count.map_or((0, 0), |count| (count.customers, count.outliers));
        Self { segment: segment.into(), customers, outliers, profile: None }
    }
}
