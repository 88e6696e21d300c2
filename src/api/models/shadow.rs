//! `GET /v1/models/{model_id}/shadow`: scores of a shadow model compared with the served scores.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::models::find_model;
use crate::api::models::ids::ModelIdPath;
use crate::api::models::ids::stored_choice;
use crate::api::request::{AuthorizedCaller, PathParameters, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::deployment::lifecycle::ModelStage;
use crate::domain::model::UNASSIGNED;
use crate::service::models::gate_evidence::{ratio_of_counts, shadow_agreement};
use crate::store::models::shadow;
use crate::store::models::shadow::{AnswerPair, PairCount};

/// The scores of a model in shadow, compared with the served scores.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShadowReportBody {
    /// Id of the model in shadow.
    #[schema(example = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")]
    model_id: String,
    /// Stage of the model now.
    stage: ModelStage,
    /// One entry for each model that served meanwhile, and one for the fallback.
    comparisons: Vec<ShadowComparisonBody>,
}

/// The scores of a model in shadow, compared with those of one serving model.
#[derive(Debug, Serialize, ToSchema)]
struct ShadowComparisonBody {
    /// Id of the serving model; null: the rule-based fallback.
    #[schema(example = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d")]
    model_id: Option<String>,
    /// Compared scores of customers.
    #[schema(example = 2000)]
    customers: i64,
    /// Share of the customers in the same segment; null if the models share no segment.
    #[schema(minimum = 0, maximum = 1, example = 0.94)]
    agreement: Option<f64>,
    /// Share of outliers by the serving model; null without customers.
    #[schema(minimum = 0, maximum = 1, example = 0.011)]
    outlier_rate: Option<f64>,
    /// Share of outliers by the model in shadow; null without customers.
    #[schema(minimum = 0, maximum = 1, example = 0.009)]
    shadow_outlier_rate: Option<f64>,
    /// Share of customers in no segment by the serving model; null without customers.
    #[schema(minimum = 0, maximum = 1, example = 0.0)]
    unassigned_rate: Option<f64>,
    /// Share of customers in no segment by the model in shadow; null without customers.
    #[schema(minimum = 0, maximum = 1, example = 0.0)]
    shadow_unassigned_rate: Option<f64>,
    /// Counts by pair of segments, most frequent first.
    pairs: Vec<SegmentPairBody>,
}

/// Customers by their segment in both models.
#[derive(Debug, Serialize, ToSchema)]
struct SegmentPairBody {
    /// Id of the segment by the serving model.
    #[schema(example = "seg_5f2c8d10b7a94e36")]
    segment_id: String,
    /// Id of the segment by the model in shadow.
    #[schema(example = "seg_5f2c8d10b7a94e36")]
    shadow_segment_id: String,
    /// Whether both are the same segment; null if the models share no segment.
    #[schema(example = true)]
    is_same: Option<bool>,
    /// Compared scores of customers.
    #[schema(example = 480)]
    customers: i64,
}

/// Compare a shadow model with the serving models.
///
/// The counts are some seconds old. They stay after the model has left the shadow.
#[utoipa::path(
    get,
    path = "/v1/models/{model_id}/shadow",
    tag = "Models",
    security(("key" = ["read"])),
    params(ModelIdPath),
    responses(
        (status = 200, body = ShadowReportBody, description = "The comparisons"),
        (status = 404, description = "There is no such model, or several ids begin so"),
    )
)]
pub(crate) async fn get_shadow_report(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(model_id): PathParameters<String>,
) -> Result<Json<ShadowReportBody>, ApiError> {
    let row = find_model(&state, &model_id).await?;
    let counts = shadow::list_counts(&state.db, &row.model_id).await?;
    // The counts are ordered by the serving model.
    let comparisons =
        counts.chunk_by(|(a, _), (b, _)| a.live == b.live).map(ShadowComparisonBody::new);
    Ok(Json(ShadowReportBody {
        stage: stored_choice(&row.stage)?,
        model_id: row.model_id.into(),
        comparisons: comparisons.collect(),
    }))
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
            if &*pair.live_segment_id == UNASSIGNED {
                unassigned += count.customers;
            }
            if &*pair.shadow_segment_id == UNASSIGNED {
                shadow_unassigned += count.customers;
            }
        }
        Self {
            model_id: counts.first().and_then(|(pair, _)| pair.live.clone()).map(Into::into),
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
            segment_id: pair.live_segment_id.to_string(),
            shadow_segment_id: pair.shadow_segment_id.to_string(),
            is_same: pair.is_same,
            customers: count.customers,
        }
    }
}
