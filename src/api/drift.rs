//! `GET /v1/drift…`: scored rows compared with the model's drift baseline, and churn.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::api::models::parse_model_id;
use crate::api::request::{AuthorizedCaller, PathParameters, QueryParameters, Read};
use crate::api::request_layer::RouteKind;
use crate::api::route::ApiRoute;
use crate::api::{ApiError, ApiState, html_page};
use crate::domain::drift::{ApiKeyShare, ChurnReport, DetectorReport, DriftCheck, ScoreSource};
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::id::ModelId;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::drift::{
    DriftPeriod, DriftQuery, DriftReport, HistoryInterval, MAX_WINDOW_HOURS, SegmentFlows,
};
use axum::routing::get;

pub(super) fn routes() -> Vec<ApiRoute> {
    vec![
        ApiRoute::undescribed("/v1/drift", &["GET"], get(get_drift), RouteKind::Manage),
        ApiRoute::undescribed("/v1/drift/history", &["GET"], get(get_history), RouteKind::Manage),
        ApiRoute::undescribed("/v1/drift/flow", &["GET"], get(get_churn), RouteKind::Manage),
        ApiRoute::undescribed(
            "/v1/drift/features/{name}/picture.svg",
            &["GET"],
            get(get_picture),
            RouteKind::Manage,
        ),
    ]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DriftParameters {
    hours: Option<u32>,
    model: Option<String>,
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DriftHistoryQuery {
    hours: Option<u32>,
    model: Option<String>,
    source: Option<String>,
    by: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct DriftBody {
    model: ModelId,
    /// Start of the first hour.
    since: Timestamp,
    until: Timestamp,
    #[serde(flatten)]
    check: DriftCheck,
    /// Sequential detectors over all whole hours; `None`: detectors are disabled.
    stream: Option<DetectorReport>,
    /// Share of each API key in the rows, largest first; empty where rows are not counted
    /// by key.
    keys: Vec<ApiKeyShare>,
}

pub(super) async fn get_drift(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<DriftParameters>,
) -> Result<Json<DriftBody>, ApiError> {
    let report = state.drift.report(&drift_request(&query)?).await?;
    let DriftReport { model, since, until, check, detectors: stream, key_shares: keys } = report;
    Ok(Json(DriftBody { model, since, until, check, stream, keys }))
}

#[derive(Debug, Serialize)]
pub(super) struct DriftHistoryBody {
    model: ModelId,
    /// Oldest first; hours and days without a score are left out.
    history: Vec<DriftPointBody>,
}

#[derive(Debug, Serialize)]
struct DriftPointBody {
    at: Timestamp,
    scored: u64,
    outlier_rate: Option<f64>,
    unassigned_rate: Option<f64>,
    findings: usize,
    largest_psi: Option<PsiBody>,
}

#[derive(Debug, Serialize)]
struct PsiBody {
    feature: String,
    psi: f64,
}

pub(super) async fn get_history(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(query): QueryParameters<DriftHistoryQuery>,
) -> Result<Json<DriftHistoryBody>, ApiError> {
    let step = match query.by.as_deref() {
        None | Some("hour") => HistoryInterval::Hour,
        Some("day") => HistoryInterval::Day,
        Some(other) => {
            let problem = format!("is `{other}`, not `hour` or `day`");
            return Err(ApiError::invalid("by", problem));
        }
    };
    let DriftHistoryQuery { hours, model, source, .. } = query;
    let request = drift_request(&DriftParameters { hours, model, source })?;
    let (model, checks) = state.drift.history(&request, step).await?;
    let history = checks.into_iter().map(|(at, check)| DriftPointBody::new(at, &check)).collect();
    Ok(Json(DriftHistoryBody { model, history }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChurnQuery {
    hours: Option<u32>,
}

#[derive(Debug, Serialize)]
pub(super) struct ChurnBody {
    model: ModelId,
    since: Timestamp,
    until: Timestamp,
    #[serde(flatten)]
    churn: ChurnReport,
}

pub(super) async fn get_churn(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    QueryParameters(ChurnQuery { hours }): QueryParameters<ChurnQuery>,
) -> Result<Json<ChurnBody>, ApiError> {
    let mut faults = Vec::new();
    check_hours(hours, &mut faults);
    if !faults.is_empty() {
        return Err(ServiceError::Invalid(ValidationFaults(faults)).into());
    }
    let SegmentFlows { model, since, until, churn } = state.drift.segment_flows(hours).await?;
    Ok(Json(ChurnBody { model, since, until, churn }))
}

pub(super) async fn get_picture(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(name): PathParameters<String>,
    QueryParameters(query): QueryParameters<DriftParameters>,
) -> Result<Response, ApiError> {
    let picture = state.drift.draw_picture(&drift_request(&query)?, &name).await?;
    Ok(html_page::svg(picture.svg))
}

fn check_hours(hours: Option<u32>, faults: &mut Vec<ValidationFault>) {
    if hours.is_some_and(|hours| !(1..=MAX_WINDOW_HOURS).contains(&hours)) {
        faults.push(ValidationFault::new("hours", format!("must be from 1 to {MAX_WINDOW_HOURS}")));
    }
}

fn drift_request(query: &DriftParameters) -> Result<DriftQuery, ApiError> {
    let mut faults = Vec::new();
    check_hours(query.hours, &mut faults);
    let source = match query.source.as_deref() {
        None => Some(ScoreSource::Rows),
        Some("all") => None,
        Some(name) => {
            let source = ScoreSource::parse(name);
            if source.is_none() {
                let problem = format!("is `{name}`, not `rows`, `events`, `customers` or `all`");
                faults.push(ValidationFault::new("source", problem));
            }
            source
        }
    };
    if !faults.is_empty() {
        return Err(ServiceError::Invalid(ValidationFaults(faults)).into());
    }
    let model = query.model.as_deref().map(parse_model_id).transpose()?;
    let period = query.hours.map_or(DriftPeriod::ConfiguredHours, DriftPeriod::Hours);
    Ok(DriftQuery { model, source, period })
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
                .map(|(feature, psi)| PsiBody { feature: feature.feature.to_string(), psi }),
        }
    }
}
