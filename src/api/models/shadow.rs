//! `GET /v1/models/{id}/shadow`: scores of a shadow model compared with the served scores.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::api::models::find_model;
use crate::api::request::{AuthorizedCaller, PathParameters, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::model::UNASSIGNED;
use crate::service::models::gate_evidence::{ratio_of_counts, shadow_agreement};
use crate::store::models::shadow;
use crate::store::models::shadow::{AnswerPair, PairCount};

#[derive(Debug, Serialize)]
pub(crate) struct ShadowBody {
    model: String,
    stage: String,
    /// One entry for each model that served meanwhile, and for the fallback.
    beside: Vec<ShadowComparisonBody>,
}

#[derive(Debug, Serialize)]
struct ShadowComparisonBody {
    /// Null for the rule-based fallback.
    model: Option<String>,
    customers: i64,
    /// Share of customers in the same segment; null if the models share no segment.
    agreement: Option<f64>,
    outlier_rate: Option<f64>,
    shadow_outlier_rate: Option<f64>,
    unassigned_rate: Option<f64>,
    shadow_unassigned_rate: Option<f64>,
    /// Most frequent first.
    pairs: Vec<SegmentPairBody>,
}

#[derive(Debug, Serialize)]
struct SegmentPairBody {
    segment: String,
    shadow_segment: String,
    is_same: Option<bool>,
    customers: i64,
}

pub(crate) async fn get_shadow(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(id): PathParameters<String>,
) -> Result<Json<ShadowBody>, ApiError> {
    let row = find_model(&state, &id).await?;
    let counts = shadow::list_counts(&state.db, &row.model_id).await?;
    // The counts are ordered by the serving model.
    let beside = counts.chunk_by(|(a, _), (b, _)| a.live == b.live).map(ShadowComparisonBody::new);
    Ok(Json(ShadowBody { model: row.model_id.into(), stage: row.stage, beside: beside.collect() }))
}

impl ShadowComparisonBody {
    /// `counts`: all pairs of one serving model.
    fn new(counts: &[(AnswerPair, PairCount)]) -> Self {
        let mut customers = 0;
        let (mut outliers, mut shadow_outliers) = (0, 0);
        let (mut unassigned, mut shadow_unassigned) = (0, 0);
        for (pair, count) in counts {
            customers += count.customers;
            outliers += count.live_outliers;
            shadow_outliers += count.shadow_outliers;
            if &*pair.live_segment == UNASSIGNED {
                unassigned += count.customers;
            }
            if &*pair.shadow_segment == UNASSIGNED {
                shadow_unassigned += count.customers;
            }
        }
        Self {
            model: counts.first().and_then(|(pair, _)| pair.live.clone()).map(Into::into),
            customers,
            agreement: shadow_agreement(counts.iter()),
            outlier_rate: ratio_of_counts(outliers, customers),
            shadow_outlier_rate: ratio_of_counts(shadow_outliers, customers),
            unassigned_rate: ratio_of_counts(unassigned, customers),
            shadow_unassigned_rate: ratio_of_counts(shadow_unassigned, customers),
            pairs: counts.iter().map(|(pair, count)| SegmentPairBody::new(pair, count)).collect(),
        }
    }
}

impl SegmentPairBody {
    fn new(pair: &AnswerPair, count: &PairCount) -> Self {
        Self {
            segment: pair.live_segment.to_string(),
            shadow_segment: pair.shadow_segment.to_string(),
            is_same: pair.is_same,
            customers: count.customers,
        }
    }
}
