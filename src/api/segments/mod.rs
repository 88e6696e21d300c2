//! `/v1/segments…`: the segments that are served, with their current sizes and personas.

mod effects;
mod habits;
mod persona;
mod value;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::api::models::lineage;
use crate::api::models::profile::SegmentProfileBody;
use crate::api::named_segment::NamedSegmentBody;
use crate::api::request::{AuthorizedCaller, PathParameters, Read};
use crate::api::request_layer::{ExpensiveRequests, RouteKind};
use crate::api::route::ApiRoute;
use crate::api::segments::persona::{PersonaBody, StandoutChangeBody};
use crate::api::{ApiError, ApiState};
use crate::domain::model::{Model, ModelSegment, NamedSegment};
use crate::service::personas::current::CurrentPersonas;
use crate::service::scoring::deployment::Deployment;
use crate::store::customers::assignments;
use crate::store::customers::assignments::SegmentCount;

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::new(routes!(list_segments), RouteKind::Manage),
        ApiRoute::new(routes!(get_segment, persona::update_segment), RouteKind::Manage),
        ApiRoute::new(routes!(persona::list_persona_versions), RouteKind::Manage),
        ApiRoute::new(routes!(lineage::list_segment_lineage), RouteKind::Manage),
        ApiRoute::new(routes!(value::get_segment_value), RouteKind::Manage),
        ApiRoute::new(routes!(value::get_segment_value_picture), RouteKind::Manage),
        ApiRoute::new(routes!(effects::get_strategy_effects), RouteKind::Manage)
            .with_expensive(ExpensiveRequests::All),
        ApiRoute::new(routes!(habits::get_segment_habits), RouteKind::Manage)
            .with_expensive(ExpensiveRequests::All),
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
pub(crate) struct SegmentBody {
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
    /// Name, summary, owner and strategy given by users; null: none yet.
    persona: Option<PersonaBody>,
    /// Changes of the segment since the last change of its persona, largest first. If there are any,
    /// the persona may be outdated.
    standout_changes: Vec<StandoutChangeBody>,
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
    let active = served_segments(&state, &deployment).await?;
    Ok(Json(SegmentListBody { active, canary }))
}

/// Get a segment that is served.
///
/// The segment with its present size, its description from training, and its persona.
#[utoipa::path(
    get,
    path = "/v1/segments/{segment_id}",
    tag = "Segments",
    security(("key" = ["read"])),
    params(("segment_id" = String, Path, description = "Id of the segment: `seg_…`")),
    responses(
        (status = 200, body = SegmentBody, description = "The segment"),
        (status = 404, description = "No model that is served has this segment"),
    )
)]
pub(super) async fn get_segment(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(segment_id): PathParameters<String>,
) -> Result<Json<SegmentBody>, ApiError> {
    Ok(Json(find_served(&state, &segment_id).await?))
}

/// A segment of the active model, or else of the canary, with its present size.
async fn find_served(state: &ApiState, segment_id: &str) -> Result<SegmentBody, ApiError> {
    let deployment = state.deployments.snapshot();
    let (model, segment) = deployment.find_segment(segment_id).ok_or_else(|| {
        ApiError::not_found(&format!("segment with the id `{segment_id}` that is served"))
    })?;
    let counts = assignments::count_by_segment(&state.db, Some(model.id())).await?;
    Ok(model_segment(state, model, segment, &counts, &deployment.personas))
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
        Some(model) => model_segments(state, model, &counts, &deployment.personas),
    };
    Ok(ServedSegmentsBody {
        model_id: model.map(|model| model.id().to_string()),
        fallback: model.is_none(),
        generation: deployment.generation,
        segments,
    })
}

/// The segments of a model; those without a count are empty.
fn model_segments(
    state: &ApiState,
    model: &Model,
    counts: &[SegmentCount],
    personas: &CurrentPersonas,
) -> Vec<SegmentBody> {
    let segments = model.segments().iter();
    let mut segments: Vec<SegmentBody> =
        segments.map(|segment| model_segment(state, model, segment, counts, personas)).collect();
    if model.decision_function().has_radius() {
        let unassigned = NamedSegment::unassigned();
        let count = count_of(counts, &unassigned.id);
        segments.push(SegmentBody::new(unassigned, count));
    }
    segments
}

fn model_segment(
    state: &ApiState,
    model: &Model,
    segment: &ModelSegment,
    counts: &[SegmentCount],
    personas: &CurrentPersonas,
) -> SegmentBody {
    let persona = personas.of_segment(&segment.id);
    let changes = personas.standout_changes(model, &segment.id);
    SegmentBody {
        profile: Some(SegmentProfileBody::new(segment, model)),
        persona: persona.map(|persona| PersonaBody::new(persona, &state.api_keys)),
        standout_changes: changes.into_iter().map(Into::into).collect(),
        ..SegmentBody::new(segment.into(), count_of(counts, &segment.id))
    }
}

fn count_of<'c>(counts: &'c [SegmentCount], segment_id: &str) -> Option<&'c SegmentCount> {
    counts.iter().find(|count| *count.segment_id == *segment_id)
}

impl SegmentBody {
    /// A segment without description; `count`: `None` if it is empty.
    fn new(segment: NamedSegment, count: Option<&SegmentCount>) -> Self {
        let (customers, outliers) = count.map_or((0, 0), |count| (count.customers, count.outliers));
        Self {
            segment: segment.into(),
            customers,
            outliers,
            profile: None,
            persona: None,
            standout_changes: Vec::new(),
        }
    }
}
