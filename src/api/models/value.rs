//! `GET /v1/models/{model_id}/value`: the model of customer value, and how well it predicted.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::models::find_model;
use crate::api::models::ids::ModelIdPath;
use crate::api::request::{AuthorizedCaller, PathParameters, Read};
use crate::api::{ApiError, ApiState, html_page};
use crate::domain::value::evaluation::{
    CalibrationRow, CandidateEvaluation, ForecastErrors, ValueEvaluation,
};
use crate::domain::value::{PurchaseModelKind, ValueModel, draw_calibration};
use crate::service::models::registry;

/// The model of customer value of a model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelValueBody {
    /// Id of the model.
    #[schema(example = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")]
    model_id: String,
    /// Null if there is none.
    value: Option<ValueModelBody>,
    /// Reason why there is no value model; null if there is one, and for an imported model.
    #[schema(example = "the orders span 120 days; 270 are needed")]
    missing: Option<String>,
}

/// A model of customer value: fitted to all orders, after the family was chosen by the orders of a
/// hold-out.
#[derive(Debug, Serialize, ToSchema)]
struct ValueModelBody {
    /// Whether the forecasts of the hold-out were good enough to be relied on.
    reliable: bool,
    /// Why they were not; empty if they were.
    #[schema(example = json!([]))]
    shortcomings: Vec<String>,
    model: PurchaseModelBody,
    /// Parameters of the model of orders, for times in days.
    #[schema(example = json!({ "r": 0.7, "alpha": 30.2, "a": 0.8, "b": 2.5 }))]
    parameters: BTreeMap<&'static str, f64>,
    /// Parameters of the Gamma-Gamma model of order values, in `unit`; null if orders have no
    /// values, or if these were predicted badly.
    #[schema(example = json!({ "p": 4.0, "q": 3.5, "v": 60.0 }))]
    spend_parameters: Option<BTreeMap<&'static str, f64>>,
    /// Unit of order values.
    #[schema(example = "USD")]
    unit: String,
    /// Customers with an order.
    #[schema(example = 2487)]
    customers: u64,
    holdout: HoldoutBody,
}

/// A family of models of future orders. `bg_nbd`: a customer leaves after an order, but not after the
/// first. `mbg_nbd`: after any order. `pareto_nbd`: at any time.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "the names of the literature")]
enum PurchaseModelBody {
    BgNbd,
    MbgNbd,
    ParetoNbd,
}

/// Forecasts made at the beginning of a period at the end of the data, compared with what came.
#[derive(Debug, Serialize, ToSchema)]
struct HoldoutBody {
    /// Length of the period.
    #[schema(example = 120)]
    days: u32,
    /// Customers compared: those with an order before the period, of more than 200,000 a part.
    #[schema(example = 2301)]
    customers: u64,
    /// Days with an order in the period, of all these customers.
    #[schema(example = 5120)]
    actual_orders: u64,
    /// Every family that could be fitted, best first.
    candidates: Vec<ValueCandidateBody>,
    /// Errors of assuming that each customer repeats the previous period.
    same_as_before: ForecastErrorsBody,
    /// Mean orders in the period by repeat orders before it, of the best family. Groups of fewer than
    /// five customers are left out.
    calibration: Vec<CalibrationRowBody>,
    /// Expected spend in the period over actual spend; null without a model of order values.
    #[schema(example = 1.04)]
    spend_ratio: Option<f64>,
}

/// A family of models on the period.
#[derive(Debug, Serialize, ToSchema)]
struct ValueCandidateBody {
    model: PurchaseModelBody,
    /// Mean over the customers of the logarithm of the probability that the family gave to the number of
    /// orders that came. The highest of the candidates with about the right total is chosen.
    #[schema(example = -1.42)]
    mean_log_likelihood: f64,
    /// Expected days with an order, of all customers.
    #[schema(example = 5033.7)]
    expected_orders: f64,
    errors: ForecastErrorsBody,
}

/// Errors of forecasts of orders.
#[derive(Debug, Serialize, ToSchema)]
struct ForecastErrorsBody {
    /// Mean absolute error, in orders.
    #[schema(example = 1.1)]
    mean_absolute: f64,
    /// Spearman's rank correlation of forecasts and orders; null if either is constant.
    #[schema(example = 0.62)]
    rank_correlation: Option<f64>,
}

/// Customers with about equally many repeat orders before the period.
#[derive(Debug, Serialize, ToSchema)]
struct CalibrationRowBody {
    /// Days with an order after the first one: from this number on, up to the next row.
    #[schema(example = 2)]
    repeat_orders_from: u32,
    /// Customers in the row.
    #[schema(example = 120)]
    customers: u64,
    /// Mean orders in the period.
    #[schema(example = 0.84)]
    actual: f64,
    /// Mean of the forecasts.
    #[schema(example = 0.79)]
    expected: f64,
}

impl ValueModelBody {
    fn new(model: &ValueModel) -> Self {
        let spend_parameters = model
            .spend
            .map(|spend| BTreeMap::from([("p", spend.p), ("q", spend.q), ("v", spend.v)]));
        Self {
            reliable: model.evaluation.is_reliable(),
            shortcomings: model.evaluation.shortcomings.iter().map(ToString::to_string).collect(),
            model: model.purchases.kind().into(),
            parameters: model.purchases.parameters().into(),
            spend_parameters,
            unit: model.unit.to_string(),
            customers: model.customers,
            holdout: (&model.evaluation).into(),
        }
    }
}

impl From<PurchaseModelKind> for PurchaseModelBody {
    fn from(kind: PurchaseModelKind) -> Self {
        match kind {
            PurchaseModelKind::BgNbd => Self::BgNbd,
            PurchaseModelKind::MbgNbd => Self::MbgNbd,
            PurchaseModelKind::ParetoNbd => Self::ParetoNbd,
        }
    }
}

impl From<&ValueEvaluation> for HoldoutBody {
    fn from(evaluation: &ValueEvaluation) -> Self {
        Self {
            days: evaluation.holdout_days,
            customers: evaluation.customers,
            actual_orders: evaluation.actual_orders,
            candidates: evaluation.candidates.iter().map(ValueCandidateBody::from).collect(),
            same_as_before: evaluation.same_as_before.into(),
            calibration: evaluation.calibration.iter().map(CalibrationRowBody::from).collect(),
            spend_ratio: evaluation.spend_ratio,
        }
    }
}

impl From<&CandidateEvaluation> for ValueCandidateBody {
    fn from(candidate: &CandidateEvaluation) -> Self {
        Self {
            model: candidate.model.into(),
            mean_log_likelihood: candidate.mean_log_likelihood,
            expected_orders: candidate.expected_orders,
            errors: candidate.errors.into(),
        }
    }
}

impl From<ForecastErrors> for ForecastErrorsBody {
    fn from(errors: ForecastErrors) -> Self {
        Self { mean_absolute: errors.mean_absolute, rank_correlation: errors.rank_correlation }
    }
}

impl From<&CalibrationRow> for CalibrationRowBody {
    fn from(row: &CalibrationRow) -> Self {
        Self {
            repeat_orders_from: row.repeat_days,
            customers: row.customers,
            actual: row.actual,
            expected: row.expected,
        }
    }
}

/// Get the model of customer value of a model.
///
/// A training run fits three families of models to the orders of the first two thirds of their span;
/// the last third, at most a year, is the hold-out. Of the families whose total is off by at most a
/// factor of 1.25, the one that gives the orders of the hold-out the highest likelihood is fitted
/// again to all orders. `reliable` is false if its total is off by more than a factor of 1.25, if
/// its mean error is more than a tenth above that of assuming that each customer repeats the
/// previous period, or if customers with higher forecasts did not order more.
#[utoipa::path(
    get,
    path = "/v1/models/{model_id}/value",
    tag = "Models",
    security(("key" = ["read"])),
    params(ModelIdPath),
    responses(
        (status = 200, body = ModelValueBody, description = "The model of customer value"),
        (status = 404, description = "There is no such model, or several ids begin so"),
        (status = 409, description = "The model fails its self-test"),
    )
)]
pub(crate) async fn get_model_value(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(model_id): PathParameters<String>,
) -> Result<Json<ModelValueBody>, ApiError> {
    let row = find_model(&state, &model_id).await?;
    let model = registry::open_model(&state.db, &row.model_id).await?;
    let missing = row.report.get("value_gap").and_then(|gap| gap.as_str()).map(str::to_owned);
    Ok(Json(ModelValueBody {
        model_id: row.model_id.into(),
        value: model.value().map(ValueModelBody::new),
        missing,
    }))
}

/// Get the picture of value forecasts.
///
/// An SVG without scripts: mean orders in the hold-out, as they came and as forecast, by number of
/// earlier orders.
#[utoipa::path(
    get,
    path = "/v1/models/{model_id}/value/picture.svg",
    tag = "Models",
    security(("key" = ["read"])),
    params(ModelIdPath),
    responses(
        (status = 200, body = String, content_type = "image/svg+xml", description = "The picture"),
        (status = 404, description = "There is no such model, several ids begin so, or it has no model of customer value"),
        (status = 409, description = "The model fails its self-test"),
    )
)]
pub(crate) async fn get_model_value_picture(
    State(state): State<ApiState>,
    _: AuthorizedCaller<Read>,
    PathParameters(model_id): PathParameters<String>,
) -> Result<Response, ApiError> {
    let row = find_model(&state, &model_id).await?;
    let model = registry::open_model(&state.db, &row.model_id).await?;
    let value = model.value();
    let value =
        value.ok_or_else(|| ApiError::not_found(&format!("customer value of `{model_id}`")))?;
    Ok(html_page::svg(draw_calibration(&value.evaluation)))
}
