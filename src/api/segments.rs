//! `GET /v1/segments` and `GET /v1/features`: the deployed segments with their current
//! sizes, and the feature set.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::api::request::{AuthorizedCaller, Read};
use crate::api::request_layer::RouteKind;
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState};
use crate::domain::feature::FeatureDefinition;
use crate::domain::model::{ModelSegment, UNASSIGNED};
use crate::service::scoring::deployment::Deployment;
use crate::store::customers::assignments;
use axum::routing::get;

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::undescribed("/v1/segments", &["GET"], get(get_segments), RouteKind::Manage),
        ApiRoute::undescribed("/v1/features", &["GET"], get(get_features), RouteKind::Manage),
    ]
}

#[derive(Debug, Serialize)]
pub(super) struct SegmentsBody {
    #[serde(flatten)]
    live: DeployedSegmentsBody,
    /// The canary, which scores a share of the customers instead.
    canary: Option<CanarySegmentsBody>,
}

#[derive(Debug, Serialize)]
struct CanarySegmentsBody {
    share: f64,
    #[serde(flatten)]
    live: DeployedSegmentsBody,
}

/// Segments of one model, or of the rule-based fallback.
#[derive(Debug, Serialize)]
struct DeployedSegmentsBody {
    model: Option<String>,
    fallback: bool,
    generation: i64,
    segments: Vec<SegmentBody>,
}

#[derive(Debug, Serialize)]
struct SegmentBody {
    segment: String,
    /// Customers assigned to the segment now.
    customers: i64,
    outliers: i64,
    /// Description from training; null for the rule-based fallback, and for unassigned
    /// customers.
    profile: Option<ModelSegment>,
}

pub(super) async fn get_segments(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
) -> Result<Json<SegmentsBody>, ApiError> {
    let deployment = state.deployments.snapshot();
    let canary = match &deployment.canary {
        None => None,
        Some(canary) => Some(CanarySegmentsBody {
            share: canary.share,
            live: deployed_segments(&state, &canary.deployment).await?,
        }),
    };
    Ok(Json(SegmentsBody { live: deployed_segments(&state, &deployment).await?, canary }))
}

async fn deployed_segments(
    state: &ApiState,
    deployment: &Deployment,
) -> Result<DeployedSegmentsBody, ApiError> {
    let model = deployment.active.as_ref();
    let sizes = assignments::count_by_segment(&state.db, model.map(|model| model.id())).await?;
    let segments = match model {
        None => sizes
            .into_iter()
            .map(|(segment, customers, outliers)| SegmentBody {
                segment,
                customers,
                outliers,
                profile: None,
            })
            .collect(),
        Some(model) => {
            let sizes: HashMap<String, (i64, i64)> =
                sizes.into_iter().map(|(key, all, outliers)| (key, (all, outliers))).collect();
            let mut segments: Vec<SegmentBody> = model
                .segments()
                .iter()
                .map(|segment| SegmentBody::new(&segment.key, &sizes, Some(segment)))
                .collect();
            if model.decision_function().has_radius() {
                segments.push(SegmentBody::new(UNASSIGNED, &sizes, None));
            }
            segments
        }
    };
    Ok(DeployedSegmentsBody {
        model: model.map(|model| model.id().to_string()),
        fallback: model.is_none(),
        generation: deployment.generation,
        segments,
    })
}

impl SegmentBody {
    /// `sizes`: customers and outliers by segment key; absent segments are empty.
    fn new(key: &str, sizes: &HashMap<String, (i64, i64)>, profile: Option<&ModelSegment>) -> Self {
        let (customers, outliers) = sizes.get(key).copied().unwrap_or_default();
        Self { segment: key.to_owned(), customers, outliers, profile: profile.cloned() }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct FeatureSetBody {
    feature_set: String,
    features: Vec<FeatureDefinition>,
}

pub(super) async fn get_features(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
) -> Json<FeatureSetBody> {
    let deployment = state.deployments.snapshot();
    Json(FeatureSetBody {
        feature_set: deployment.features.id().to_string(),
        features: deployment.features.features().to_vec(),
    })
}
