//! `GET /v1/drift/history`: drift figures by hour or day.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::drift::{DriftReportQuery, DriftSource};
use crate::api::request::{AuthorizedCaller, QueryParameters, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::drift::DriftCheck;
use crate::domain::time::Timestamp;
use crate::service::drift::HistoryInterval;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DriftHistoryQuery {
    /// Number of hours, including the one in progress; default `drift.window_hours`.
    #[param(minimum = 1, maximum = 2208)]
    hours: Option<u32>,
    /// Id of a model that served in this period; default the active model.
    model_id: Option<String>,
    /// The scores to compare; default `rows`.
    #[serde(default)]
    #[param(inline)]
    source: DriftSource,
    /// Length of an interval, in UTC; default `hour`.
    #[serde(default)]
    #[param(inline)]
    by: DriftInterval,
}

/// Length of the intervals of a history.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum DriftInterval {
    #[default]
    Hour,
    Day,
}

/// Drift figures of a model by hour or day.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DriftHistoryBody {
    /// Id of the model.
    #[schema(example = "6c1f0a5e7d2b4c93a8e0f1d25b7c6a4983de12f07b5c4a69d8e3f01c2b7a5d64")]
    model_id: String,
    /// Oldest first; intervals without a score are left out.
    history: Vec<DriftPointBody>,
}

/// Drift figures of one hour or day.
#[derive(Debug, Serialize, ToSchema)]
struct DriftPointBody {
    /// Start of the interval.
    at: Timestamp,
    /// Number of scored rows.
    #[schema(example = 1000)]
    scored: u64,
    /// Rate of outliers, from 0 to 1; null with too few held-out rows at training.
    #[schema(example = 0.012)]
    outlier_rate: Option<f64>,
    /// Share of the rows in no segment, from 0 to 1.
    #[schema(example = 0.0)]
    unassigned_rate: Option<f64>,
    /// Number of findings.
    #[schema(example = 1)]
    findings: usize,
    /// The feature with the largest stability index; null if no feature has one.
    largest_psi: Option<FeaturePsiBody>,
}

/// Population stability index of a feature.
#[derive(Debug, Serialize, ToSchema)]
struct FeaturePsiBody {
    /// Name of the feature.
    #[schema(example = "spend_365d")]
    feature: String,
    /// The index.
    #[schema(example = 0.31)]
    psi: f64,
}

/// List drift figures by hour or day, oldest first.
///
/// Each interval is compared with training on its own. An interval with few rows has no findings.
#[utoipa::path(
    get,
    path = "/v1/drift/history",
    tag = "Drift",
    security(("key" = ["read"])),
    params(DriftHistoryQuery),
    responses(
        (status = 200, body = DriftHistoryBody, description = "The history"),
        (status = 404, description = "There is no such model"),
        (status = 409, description = "No model is active"),
    )
)]
pub(super) async fn get_drift_history(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<DriftHistoryQuery>,
) -> Result<Json<DriftHistoryBody>, ApiError> {
    let DriftHistoryQuery { hours, model_id, source, by } = query;
    let interval = match by {
        DriftInterval::Hour => HistoryInterval::Hour,
        DriftInterval::Day => HistoryInterval::Day,
    };
    let request = DriftReportQuery { hours, model_id, source }.parse()?;
    let (model, checks) = state.drift.history(&request, interval).await?;
    let history = checks.into_iter().map(|(at, check)| DriftPointBody::new(at, &check)).collect();
    Ok(Json(DriftHistoryBody { model_id: model.into(), history }))
}

impl DriftPointBody {
    fn new(at: Timestamp, check: &DriftCheck) -> Self {
        let psi = check.features.iter().filter_map(|feature| Some((feature, feature.psi?.value)));
        let largest = psi.max_by(|(_, a), (_, b)| a.total_cmp(b));
        Self {
            at,
            scored: check.scored,
            outlier_rate: check.outliers.map(|outliers| outliers.now),
            unassigned_rate: check.unassigned.map(|rate| rate.now),
            findings: check.findings.len(),
            largest_psi: largest
                .map(|(feature, psi)| FeaturePsiBody { feature: feature.feature.to_string(), psi }),
        }
    }
}
