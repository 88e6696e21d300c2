//! `GET /v1/segments` and `GET /v1/features`: the deployed segments with their current
//! sizes, and the feature set.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::api::request::{Caller, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::feature::FeatureDef;
use crate::domain::model::{Segment, UNASSIGNED};
use crate::service::scoring::deployment::Lineup;
use crate::store::customers::assignments;

#[derive(Debug, Serialize)]
pub(super) struct SegmentsBody {
    #[serde(flatten)]
    live: AnsweringBody,
    /// The canary, which scores a share of the customers instead.
    canary: Option<CanaryBody>,
}

#[derive(Debug, Serialize)]
struct CanaryBody {
    share: f64,
    #[serde(flatten)]
    live: AnsweringBody,
}

/// Segments of one model, or of the rule-based fallback.
#[derive(Debug, Serialize)]
struct AnsweringBody {
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
    profile: Option<Segment>,
}

pub(super) async fn get_segments(
    State(state): State<ApiState>,
    _: Caller<Read>,
) -> Result<Json<SegmentsBody>, ApiError> {
    let lineup = state.live.snapshot();
    let canary = match &lineup.canary {
        None => None,
        Some(canary) => {
            Some(CanaryBody { share: canary.share, live: answering(&state, &canary.lineup).await? })
        }
    };
    Ok(Json(SegmentsBody { live: answering(&state, &lineup).await?, canary }))
}

async fn answering(state: &ApiState, lineup: &Lineup) -> Result<AnsweringBody, ApiError> {
    let model = lineup.active.as_ref();
    let sizes = assignments::sizes(&state.db, model.map(|model| model.id())).await?;
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
            let body = |segment: &Segment| {
                let (customers, outliers) = sizes.get(&*segment.key).copied().unwrap_or_default();
                SegmentBody {
                    segment: segment.key.to_string(),
                    customers,
                    outliers,
                    profile: Some(segment.clone()),
                }
            };
            let mut segments: Vec<SegmentBody> = model.segments().iter().map(body).collect();
            if model.form().has_reach() {
                let (customers, outliers) = sizes.get(UNASSIGNED).copied().unwrap_or_default();
                let segment = UNASSIGNED.to_owned();
                segments.push(SegmentBody { segment, customers, outliers, profile: None });
            }
            segments
        }
    };
    Ok(AnsweringBody {
        model: model.map(|model| model.id().to_string()),
        fallback: model.is_none(),
        generation: lineup.generation,
        segments,
    })
}

#[derive(Debug, Serialize)]
pub(super) struct FeaturesBody {
    feature_set: String,
    features: Vec<FeatureDef>,
}

pub(super) async fn get_features(
    State(state): State<ApiState>,
    _: Caller<Read>,
) -> Json<FeaturesBody> {
    let lineup = state.live.snapshot();
    Json(FeaturesBody {
        feature_set: lineup.features.id().to_string(),
        features: lineup.features.features().to_vec(),
    })
}
