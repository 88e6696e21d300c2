//! `GET /v1/drift`: the drift report.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::drift::DriftReportQuery;
use crate::api::drift::features::FeatureDriftBody;
use crate::api::drift::findings::{ApiKeyShareBody, DriftFindingBody, DriftTestBody};
use crate::api::drift::segments::SegmentDriftBody;
use crate::api::drift::statistics::{
    ChiSquareTestBody, OutlierRateBody, RateComparisonBody, StabilityIndexBody,
};
use crate::api::request::{AuthorizedCaller, QueryParameters, Read};
use crate::api::{ApiError, ApiState};
use crate::domain::drift::detectors::DetectorState;
use crate::domain::drift::{DetectionMethod, DetectorReport, SegmentShareFigures};
use crate::domain::time::Timestamp;
use crate::service::drift::DriftReport;

/// Scored rows compared with the training rows of a model.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DriftReportBody {
    /// Id of the model.
    #[schema(example = "6c1f0a5e7d2b4c93a8e0f1d25b7c6a4983de12f07b5c4a69d8e3f01c2b7a5d64")]
    model_id: String,
    /// Start of the first hour.
    since: Timestamp,
    /// End of the period: the time of the request.
    until: Timestamp,
    /// Number of scored rows.
    #[schema(example = 1000)]
    scored: u64,
    /// Whether the period has enough rows for tests (`drift.minimum_rows`).
    #[schema(example = true)]
    is_enough: bool,
    /// Figures of each feature.
    features: Vec<FeatureDriftBody>,
    segments: SegmentSharesBody,
    /// Share of the rows in no segment; null without rows.
    unassigned: Option<RateComparisonBody>,
    /// Stability index of the distances to the segments; null without rows.
    distances: Option<StabilityIndexBody>,
    /// Rate of outliers; null with too few held-out rows at training for an outlier limit.
    outliers: Option<OutlierRateBody>,
    /// Stability index of the outlier p-values; null without rows.
    p_values: Option<StabilityIndexBody>,
    /// Mean confidence, from 0 to 1; its value at training is the silhouette of the model. Null
    /// without rows.
    #[schema(example = 0.58)]
    confidence: Option<f64>,
    /// Change within each segment; left out unless `source` is `customers`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    within: Vec<SegmentDriftBody>,
    /// All tests, corrected together; empty with too few rows.
    tests: Vec<DriftTestBody>,
    /// Differences that are significant after the correction and reach a limit, by descending
    /// severity.
    findings: Vec<DriftFindingBody>,
    /// Sequential detectors over all complete hours; null if `drift.detectors` is false.
    stream: Option<DetectorReportBody>,
    /// Share of each API key in the rows, largest first; empty if rows are not counted by key.
    keys: Vec<ApiKeyShareBody>,
}

/// Shares of the segments in the assigned rows, in the order of the model's segments.
#[derive(Debug, Serialize, ToSchema)]
struct SegmentSharesBody {
    /// Shares at training.
    #[schema(example = json!([0.4, 0.6]))]
    before: Vec<f64>,
    /// Shares now.
    #[schema(example = json!([0.5, 0.5]))]
    now: Vec<f64>,
    /// Stability index of the shares; null without rows.
    psi: Option<StabilityIndexBody>,
    /// Chi-square test of the shares; null without rows.
    chi_square: Option<ChiSquareTestBody>,
}

/// State of the sequential change detectors after the last complete hour. They compare each hour
/// with the same hours of earlier weeks and accumulate the evidence.
#[derive(Debug, Serialize, ToSchema)]
struct DetectorReportBody {
    /// Number of hours that were compared.
    #[schema(example = 500)]
    steps: usize,
    /// The first of these hours; null without any.
    since: Option<Timestamp>,
    /// log₁₀ of the test martingale against the hypothesis that nothing has changed.
    #[schema(example = -3.2)]
    martingale_log10: f64,
    /// One entry for each detector.
    detectors: Vec<DetectorStateBody>,
}

/// State of one detector, which restarts after an alarm.
#[derive(Debug, Serialize, ToSchema)]
struct DetectorStateBody {
    name: DetectionMethodBody,
    /// The test statistic. An alarm is raised when it reaches `limit`.
    #[schema(example = 120.0)]
    statistic: f64,
    /// Limit of the statistic.
    #[schema(example = 30000.0)]
    limit: f64,
    /// Hour of the last alarm in the last 92 days; null: none.
    changed_at: Option<Timestamp>,
    /// Estimated hour of the change that raised this alarm; null: no alarm.
    about_since: Option<Timestamp>,
}

/// A sequential change detector.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum DetectionMethodBody {
    ShiryaevRoberts,
    PageHinkley,
    Adwin,
}

impl From<DriftReport> for DriftReportBody {
    fn from(report: DriftReport) -> Self {
        let DriftReport { model, since, until, check, detectors, key_shares } = report;
        Self {
            model_id: model.into(),
            since,
            until,
            scored: check.scored,
            is_enough: check.is_enough,
            features: check.features.iter().map(Into::into).collect(),
            segments: (&check.segments).into(),
            unassigned: check.unassigned.as_ref().map(Into::into),
            distances: check.distances.as_ref().map(Into::into),
            outliers: check.outliers.as_ref().map(Into::into),
            p_values: check.p_values.as_ref().map(Into::into),
            confidence: check.confidence,
            within: check.within.iter().map(Into::into).collect(),
            tests: check.tests.iter().map(Into::into).collect(),
            findings: check.findings.iter().map(Into::into).collect(),
            stream: detectors.as_ref().map(Into::into),
            keys: key_shares.iter().map(Into::into).collect(),
        }
    }
}

impl From<&SegmentShareFigures> for SegmentSharesBody {
    fn from(figures: &SegmentShareFigures) -> Self {
        Self {
            before: figures.before.clone(),
            now: figures.now.clone(),
            psi: figures.psi.as_ref().map(Into::into),
            chi_square: figures.chi_square.as_ref().map(Into::into),
        }
    }
}

impl From<&DetectorReport> for DetectorReportBody {
    fn from(report: &DetectorReport) -> Self {
        Self {
            steps: report.steps,
            since: report.since,
            martingale_log10: report.martingale_log10,
            detectors: report.detectors.iter().map(Into::into).collect(),
        }
    }
}

impl From<&DetectorState> for DetectorStateBody {
    fn from(state: &DetectorState) -> Self {
        Self {
            name: match state.name {
                DetectionMethod::ShiryaevRoberts => DetectionMethodBody::ShiryaevRoberts,
                DetectionMethod::PageHinkley => DetectionMethodBody::PageHinkley,
                DetectionMethod::Adwin => DetectionMethodBody::Adwin,
            },
            statistic: state.statistic,
            limit: state.limit,
            changed_at: state.changed_at,
            about_since: state.about_since,
        }
    }
}

/// Compare scored rows with the training rows.
///
/// For every feature the figures, each with the part explained by chance; the same for segments,
/// distances, outliers and p-values; for sampled customers also the changes within each segment.
/// `findings` are the differences that remain after the correction for multiple tests and reach
/// the minimum sample and effect size (`[drift]`), with owner, size and advice. Sensitive features
/// are not compared.
#[utoipa::path(
    get,
    path = "/v1/drift",
    tag = "Drift",
    security(("key" = ["read"])),
    params(DriftReportQuery),
    responses(
        (status = 200, body = DriftReportBody, description = "The report"),
        (status = 404, description = "There is no such model"),
        (status = 409, description = "No model is active"),
    )
)]
pub(super) async fn get_drift_report(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<DriftReportQuery>,
) -> Result<Json<DriftReportBody>, ApiError> {
    Ok(Json(state.drift.report(&query.parse()?).await?.into()))
}
