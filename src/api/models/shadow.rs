//! `GET /v1/models/{id}/shadow`: scores of a shadow model compared with the served scores.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::api::models::found;
use crate::api::request::{Caller, Path, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::model::UNASSIGNED;
use crate::service::models::gate_evidence::{agreement, share};
use crate::store::models::shadow;
use crate::store::models::shadow::{Count, Pair};

#[derive(Debug, Serialize)]
pub(crate) struct ShadowBody {
    model: String,
    stage: String,
    /// One entry for each model that served meanwhile, and for the fallback.
    beside: Vec<BesideBody>,
}

#[derive(Debug, Serialize)]
struct BesideBody {
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
    pairs: Vec<PairBody>,
}

#[derive(Debug, Serialize)]
struct PairBody {
    segment: String,
    shadow_segment: String,
    is_same: Option<bool>,
    customers: i64,
}

pub(crate) async fn get_shadow(
    State(state): State<ApiState>,
    _: Caller<Read>,
    Path(id): Path<String>,
) -> Result<Json<ShadowBody>, ApiError> {
    let row = found(&state, &id).await?;
    let counts = shadow::counts(&state.db, &row.model_id).await?;
    // The counts are ordered by the serving model.
    let beside = counts.chunk_by(|(a, _), (b, _)| a.live == b.live).map(BesideBody::new);
    Ok(Json(ShadowBody { model: row.model_id.into(), stage: row.stage, beside: beside.collect() }))
}

impl BesideBody {
    fn new(counts: &[(Pair, Count)]) -> Self {
        let sum = |of: &dyn Fn(&Pair, &Count) -> i64| {
            counts.iter().map(|(pair, count)| of(pair, count)).sum::<i64>()
        };
        let customers = sum(&|_, count| count.customers);
        let in_none = |segment: &str, count: &Count| {
            if segment == UNASSIGNED { count.customers } else { 0 }
        };
        let rate = |part| share(part, customers);
        Self {
            model: counts.first().and_then(|(pair, _)| pair.live.clone()).map(Into::into),
            customers,
            agreement: agreement(counts.iter()),
            outlier_rate: rate(sum(&|_, count| count.live_outliers)),
            shadow_outlier_rate: rate(sum(&|_, count| count.shadow_outliers)),
            unassigned_rate: rate(sum(&|pair, count| in_none(&pair.live_segment, count))),
            shadow_unassigned_rate: rate(sum(&|pair, count| in_none(&pair.shadow_segment, count))),
            pairs: counts
                .iter()
                .map(|(pair, count)| PairBody {
                    segment: pair.live_segment.to_string(),
                    shadow_segment: pair.shadow_segment.to_string(),
                    is_same: pair.is_same,
                    customers: count.customers,
                })
                .collect(),
        }
    }
}
