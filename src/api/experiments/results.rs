//! `GET /v1/experiments/{key}/results` and its picture.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::experiments::ExperimentKeyPath;
use crate::api::experiments::definition::ExperimentStatusBody;
use crate::api::experiments::effects::MetricResultsBody;
use crate::api::request::{AuthorizedCaller, PathParameters, QueryParameters, Read, heavy_work};
use crate::api::{ApiError, ApiState, html_page};
use crate::domain::experiment::VariationResult;
use crate::domain::experiment::sample_ratio::{SampleRatioReport, SampleRatioVerdict};
use crate::domain::model::NamedSegment;
use crate::domain::presentation::effect_plot::{EffectLabels, draw_effects};
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::experiments::results::{ExperimentData, ExperimentResults, ExposureChecks};
use crate::service::limits::resource_user::ResourceUser;

/// Effects of an experiment, with the checks that decide whether they can be trusted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExperimentResultsBody {
    /// Key of the experiment.
    #[schema(example = "spring-mail")]
    experiment: String,
    status: ExperimentStatusBody,
    /// Instant of the results.
    read_at: Timestamp,
    /// The exposed customers, control first.
    variations: Vec<ExposedVariationBody>,
    sample_ratio: SampleRatioBody,
    checks: ExposureChecksBody,
    /// Why there are no metrics: the sample ratio is mismatched, so the variations have different kinds
    /// of customers. Find the cause, or set `mismatch_override` of the experiment. Null: not withheld.
    #[schema(example = json!(null))]
    withheld: Option<String>,
    /// Why the results are shown although the sample ratio is mismatched; null: not needed, or none given.
    #[schema(example = json!(null))]
    mismatch_override: Option<String>,
    /// Effects by metric; empty if they are withheld.
    metrics: Vec<MetricResultsBody>,
    /// Other causes that may explain a difference.
    #[schema(example = json!(["412 customers were also exposed to the experiment `menu`."]))]
    confounders: Vec<String>,
}

/// The exposed customers of one variation.
#[derive(Debug, Serialize, ToSchema)]
struct ExposedVariationBody {
    /// Key of the variation.
    #[schema(example = "mail")]
    variation: String,
    /// Planned share of the participants.
    #[schema(minimum = 0, maximum = 1, example = 0.5)]
    planned_share: f64,
    /// Exposed customers, without those that saw several variations.
    #[schema(example = 20_412)]
    customers: u64,
}

/// Test whether the variations have as many customers as planned.
#[derive(Debug, Serialize, ToSchema)]
struct SampleRatioBody {
    verdict: SampleRatioVerdictBody,
    /// P-value of the chi-square test over all customers.
    #[schema(minimum = 0, maximum = 1, example = 0.43)]
    p_value: f64,
    /// Ids of segments whose ratio is mismatched.
    #[schema(example = json!([]))]
    mismatched_segments: Vec<String>,
    /// Days (UTC) whose exposures are mismatched.
    #[schema(example = json!([]))]
    mismatched_days: Vec<String>,
}

/// Conclusion about the sample ratio. `mismatched`: p < 0.001 overall, in a segment or on a day
/// (Bonferroni). `too_few_customers`: a variation has fewer than 5 expected customers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum SampleRatioVerdictBody {
    AsPlanned,
    Mismatched,
    TooFewCustomers,
}

/// Numbers of exposed customers that were left out, or that need an explanation.
#[derive(Debug, Serialize, ToSchema)]
struct ExposureChecksBody {
    /// Left out: customers that saw several variations.
    #[schema(example = 3)]
    several_variations: u64,
    /// Left out: customers of a variation that the definition does not have.
    #[schema(example = 0)]
    unknown_variation: u64,
    /// Included: customers that saw another variation than the one assigned.
    #[schema(example = 0)]
    not_as_assigned: u64,
    /// Included: customers that were not in the target at their exposure.
    #[schema(example = 0)]
    not_targeted: u64,
    /// Not in the effects yet: customers whose `outcome_days` are not over.
    #[schema(example = 1_204)]
    incomplete: u64,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExperimentResultsQuery {
    /// Also evaluate whether treating by segment is worth it, for the first metric and at most 100,000
    /// customers. Takes some seconds.
    #[serde(default)]
    with_segmentation_worth: bool,
}

/// Get the results of an experiment.
///
/// Every exposed customer counts, also without any outcome. The variation and the segment are those at
/// the first exposure. Outcomes are read from stored events, late ones included, so a
/// repeated request can give other results.
///
/// The results are withheld if the sample ratio is mismatched, until the experiment has a
/// `mismatch_override`.
#[utoipa::path(
    get,
    path = "/v1/experiments/{key}/results",
    tag = "Experiments",
    security(("key" = ["read"])),
    params(ExperimentKeyPath, ExperimentResultsQuery),
    responses(
        (status = 200, body = ExperimentResultsBody, description = "The results"),
        (status = 404, description = "There is no such experiment"),
        (status = 409, description = "The experiment was never started"),
    )
)]
pub(super) async fn get_experiment_results(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Read>,
    PathParameters(key): PathParameters<String>,
    QueryParameters(query): QueryParameters<ExperimentResultsQuery>,
) -> Result<Json<ExperimentResultsBody>, ApiError> {
    let (data, results) =
        analyse(&state, caller.user(), &key, query.with_segmentation_worth).await?;
    Ok(Json(ExperimentResultsBody::new(&state, &data, &results)))
}

/// The results of an experiment, computed on the threads for heavy work.
pub(in crate::api) async fn analyse(
    state: &ApiState,
    user: ResourceUser,
    key: &str,
    with_worth: bool,
) -> Result<(ExperimentData, ExperimentResults), ApiError> {
    let data = state.definitions.experiments.read_results(key).await?;
    heavy_work::run(state, user, true, move |_| {
        let results = data.analyse(with_worth);
        Ok((data, results))
    })
    .await
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExperimentPictureQuery {
    /// Name of the metric; left out: the first one.
    metric: Option<String>,
}

/// Draw the effects of an experiment on one metric.
///
/// A forest plot: the effects with their 95 % intervals, overall and by segment.
#[utoipa::path(
    get,
    path = "/v1/experiments/{key}/picture.svg",
    tag = "Experiments",
    security(("key" = ["read"])),
    params(ExperimentKeyPath, ExperimentPictureQuery),
    responses(
        (status = 200, body = String, content_type = "image/svg+xml", description = "The picture"),
        (status = 404, description = "There is no such experiment or metric"),
        (status = 409, description = "The experiment was never started, or its results are withheld"),
    )
)]
pub(super) async fn get_experiment_picture(
    State(state): State<ApiState>,
    caller: AuthorizedCaller<Read>,
    PathParameters(key): PathParameters<String>,
    QueryParameters(query): QueryParameters<ExperimentPictureQuery>,
) -> Result<Response, ApiError> {
    let (_, results) = analyse(&state, caller.user(), &key, false).await?;
    if let Some(withheld) = &results.withheld {
        return Err(ServiceError::Conflict(withheld.to_string()).into());
    }
    let metric = match &query.metric {
        None => results.metrics.first(),
        Some(name) => results.metrics.iter().find(|metric| **name == *metric.metric.name),
    };
    let metric = metric.ok_or_else(|| {
        ApiError::not_found(&format!("metric `{}`", query.metric.unwrap_or_default()))
    })?;
    let segments: Vec<String> =
        name_segments(&state, &results).into_iter().map(|one| one.name.into()).collect();
    let labels = EffectLabels {
        variations: results.sample.variations.names(),
        segments: &segments,
        metric: &metric.metric.name,
    };
    let effects: Vec<&VariationResult> = metric.effects.iter().map(|one| &one.result).collect();
    Ok(html_page::svg(draw_effects(labels, &effects)))
}

/// The segments of the sample with their present names.
fn name_segments(state: &ApiState, results: &ExperimentResults) -> Vec<NamedSegment> {
    let deployment = state.deployments.snapshot();
    results.sample.segments.names().iter().map(|id| deployment.name_segment(id)).collect()
}

impl ExperimentResultsBody {
    fn new(state: &ApiState, data: &ExperimentData, results: &ExperimentResults) -> Self {
        let names = results.sample.variations.names();
        let mut counts = vec![0_u64; names.len()];
        for customer in &results.sample.customers {
            counts[customer.variation] += 1;
        }
        let shares = &data.expected_shares;
        let variations = names.iter().zip(shares).zip(counts);
        let segments = name_segments(state, results);
        Self {
            experiment: data.experiment.key.clone(),
            status: data.experiment.status.into(),
            read_at: data.read_at,
            variations: variations
                .map(|((name, share), customers)| ExposedVariationBody {
                    variation: name.clone(),
                    planned_share: *share,
                    customers,
                })
                .collect(),
            sample_ratio: SampleRatioBody::new(results),
            checks: results.checks.into(),
            withheld: results.withheld.as_ref().map(ToString::to_string),
            mismatch_override: data
                .experiment
                .mismatch_override
                .clone()
                .filter(|_| results.sample_ratio.is_mismatched()),
            metrics: results
                .metrics
                .iter()
                .map(|metric| MetricResultsBody::new(metric, names, &segments))
                .collect(),
            confounders: results.confounders.clone(),
        }
    }
}

impl SampleRatioBody {
    fn new(results: &ExperimentResults) -> Self {
        let report: &SampleRatioReport = &results.sample_ratio;
        let (segments, days) = (results.sample.segments.names(), results.sample.days.names());
        let verdict = match report.overall.verdict {
            _ if report.is_mismatched() => SampleRatioVerdictBody::Mismatched,
            SampleRatioVerdict::TooFewCustomers => SampleRatioVerdictBody::TooFewCustomers,
            SampleRatioVerdict::Balanced | SampleRatioVerdict::Mismatched => {
                SampleRatioVerdictBody::AsPlanned
            }
        };
        Self {
            verdict,
            p_value: report.overall.p_value,
            mismatched_segments: report
                .mismatched_segments()
                .map(|index| segments[index].clone())
                .collect(),
            mismatched_days: report.mismatched_days().map(|index| days[index].clone()).collect(),
        }
    }
}

impl From<ExposureChecks> for ExposureChecksBody {
    fn from(checks: ExposureChecks) -> Self {
        let ExposureChecks {
            several_variations,
            unknown_variation,
            not_as_assigned,
            not_targeted,
            incomplete,
        } = checks;
        Self { several_variations, unknown_variation, not_as_assigned, not_targeted, incomplete }
    }
}
