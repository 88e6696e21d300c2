//! `POST /v1/experiment-plan`: sample size, days and smallest detectable effect.

use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::ApiError;
use crate::api::request::{AuthorizedCaller, JsonBody, Read, parse_json};
use crate::domain::experiment::{PlanAnswer, PlanQuestion};
use crate::service::ServiceError;

/// A question about an experiment to come. Either `lift` or `customers` is needed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PlanExperimentRequest {
    /// Mean of the metric in the control; a rate from 0 to 1 without `standard_deviation`.
    #[schema(example = 0.1)]
    baseline: f64,
    /// Standard deviation of the metric between customers, for a mean such as spend; null: the metric is
    /// a rate.
    #[schema(example = json!(null))]
    standard_deviation: Option<f64>,
    /// Relative effect to find; null if `customers` is given.
    #[schema(example = 0.1)]
    lift: Option<f64>,
    /// Customers of the control, to compute the smallest effect that they can show; null if `lift` is
    /// given.
    #[schema(minimum = 1, example = json!(null))]
    customers: Option<u64>,
    /// Probability of finding a true effect of this size.
    #[serde(default = "default_power")]
    #[schema(exclusive_minimum = 0, exclusive_maximum = 1, default = 0.8)]
    power: f64,
    /// Significance level of the two-sided test.
    #[serde(default = "default_alpha")]
    #[schema(exclusive_minimum = 0, exclusive_maximum = 1, default = 0.05)]
    alpha: f64,
    /// Customers of the treatment for each customer of the control.
    #[serde(default = "equal_sizes")]
    #[schema(exclusive_minimum = 0, default = 1.0)]
    treatment_ratio: f64,
    /// Newly exposed customers of both variations each day, to compute the days; null: unknown.
    #[schema(minimum = 1, example = 2000)]
    daily_customers: Option<u64>,
}

fn default_power() -> f64 {
    0.8
}

fn default_alpha() -> f64 {
    0.05
}

fn equal_sizes() -> f64 {
    1.0
}

/// Customers and effect that belong together.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExperimentPlanBody {
    /// Difference between treatment and control, in the unit of the metric.
    #[schema(example = 0.01)]
    difference: f64,
    /// The difference relative to the baseline.
    #[schema(example = 0.1)]
    lift: f64,
    /// Customers of the control.
    #[schema(example = 14751)]
    control_customers: u64,
    /// Customers of the treatment.
    #[schema(example = 14751)]
    treatment_customers: u64,
    /// Days until that many customers are exposed; null without `daily_customers`. Add the days that
    /// outcomes need.
    #[schema(example = 15)]
    days: Option<u64>,
}

/// Plan the sample size or the smallest effect.
///
/// Two-sided z-test of a difference (Fleiss, Levin and Paik 2003). For effects by segment, each segment
/// needs the sample size by itself.
#[utoipa::path(
    post,
    path = "/v1/experiment-plan",
    tag = "Experiments",
    security(("key" = ["read"])),
    request_body = PlanExperimentRequest,
    responses((status = 200, body = ExperimentPlanBody, description = "The plan"))
)]
pub(super) async fn plan_experiment(
    _: AuthorizedCaller<Read>,
    JsonBody(body): JsonBody,
) -> Result<Json<ExperimentPlanBody>, ApiError> {
    let request: PlanExperimentRequest = parse_json(&body)?;
    let question = PlanQuestion {
        baseline: request.baseline,
        standard_deviation: request.standard_deviation,
        lift: request.lift,
        customers: request.customers,
        power: request.power,
        alpha: request.alpha,
        treatment_ratio: request.treatment_ratio,
        daily_customers: request.daily_customers,
    };
    let answer = question.answer().map_err(ServiceError::Invalid)?;
    let PlanAnswer { difference, lift, control_customers, treatment_customers, days } = answer;
    Ok(Json(ExperimentPlanBody { difference, lift, control_customers, treatment_customers, days }))
}
