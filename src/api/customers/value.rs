//! Forecasts of a customer's orders and spend.
//!
//! Field names follow Klaviyo's predictive analytics object where it has the figure.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::feature::PurchaseHistory;
use crate::domain::time::Timestamp;
use crate::domain::value::{CustomerValue, Forecast, ValueModel, ValueSummary};

/// Forecasts of a customer's orders and spend. All orders of one day count once.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "reliable": true, "churn_probability": 0.08, "predicted_number_of_orders": 14.2,
    "predicted_clv": 604.1, "expected_date_of_next_order": "2026-03-14T20:10:00.000Z"
}))]
pub(in crate::api) struct ValueSummaryBody {
    /// Whether the model predicted orders well that it had not seen (`GET /v1/models/{model_id}/value`).
    reliable: bool,
    /// Probability that the customer has left for good.
    #[schema(minimum = 0, maximum = 1, example = 0.08)]
    churn_probability: f64,
    /// Expected number of days with an order in the next 365 days.
    #[schema(minimum = 0, example = 14.2)]
    predicted_number_of_orders: f64,
    /// Expected spend in the next 365 days, net of returns; null without a model of order values.
    #[schema(minimum = 0, example = 604.1)]
    predicted_clv: Option<f64>,
    /// The instant by which the next order has come with a probability of 50 %; null if that is never
    /// reached, or only after ten years.
    expected_date_of_next_order: Option<Timestamp>,
}

/// What a customer ordered, and forecasts of orders and spend. All orders of one day count once, except
/// in `historic_number_of_orders`. Amounts are in `unit`, net of returns, and null without a model of
/// order values.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct CustomerValueBody {
    #[serde(flatten)]
    summary: ValueSummaryBody,
    /// Unit of amounts.
    #[schema(example = "USD")]
    unit: String,
    /// All orders up to now.
    #[schema(example = 12)]
    historic_number_of_orders: u64,
    /// Spend up to now.
    #[schema(example = 512.3)]
    historic_clv: Option<f64>,
    /// `historic_clv` and `predicted_clv`.
    #[schema(example = 1116.4)]
    total_clv: Option<f64>,
    /// Mean value of an order up to now.
    #[schema(example = 42.7)]
    average_order_value: Option<f64>,
    /// Mean days between days with an order; null with one such day.
    #[schema(example = 21.5)]
    average_days_between_orders: Option<f64>,
    /// Expected value of a day with an order: between the customer's own mean and that of all customers.
    #[schema(example = 42.5)]
    expected_order_value: Option<f64>,
    /// Expected number of days with an order in the next 30 days.
    #[schema(minimum = 0, example = 1.4)]
    predicted_number_of_orders_30d: f64,
    /// Expected number of days with an order in the next 90 days.
    #[schema(minimum = 0, example = 4.0)]
    predicted_number_of_orders_90d: f64,
    /// Expected spend in the next 30 days.
    #[schema(minimum = 0, example = 59.5)]
    predicted_clv_30d: Option<f64>,
    /// Expected spend in the next 90 days.
    #[schema(minimum = 0, example = 170.2)]
    predicted_clv_90d: Option<f64>,
    /// Expected spend in the next three years, discounted by 10 % a year.
    #[schema(minimum = 0, example = 1480.6)]
    lifetime_value: Option<f64>,
    intervals: ValueIntervalsBody,
}

/// Intervals of the forecasts: lower and upper bound. That of `churn_probability` is a 95 % confidence
/// interval by the uncertainty of the fit. The others are nominal 80 % prediction intervals, given the
/// model.
#[derive(Debug, Serialize, ToSchema)]
struct ValueIntervalsBody {
    /// Of `churn_probability`; null if the orders do not determine all parameters.
    #[schema(example = json!([0.06, 0.1]))]
    churn_probability: Option<[f64; 2]>,
    /// Of `predicted_number_of_orders_30d`.
    #[schema(example = json!([0, 3]))]
    predicted_number_of_orders_30d: [f64; 2],
    /// Of `predicted_number_of_orders_90d`.
    #[schema(example = json!([1, 7]))]
    predicted_number_of_orders_90d: [f64; 2],
    /// Of `predicted_number_of_orders`.
    #[schema(example = json!([6, 21]))]
    predicted_number_of_orders: [f64; 2],
    /// Of `predicted_clv_30d`.
    #[schema(example = json!([0.0, 130.4]))]
    predicted_clv_30d: Option<[f64; 2]>,
    /// Of `predicted_clv_90d`.
    #[schema(example = json!([38.2, 310.7]))]
    predicted_clv_90d: Option<[f64; 2]>,
    /// Of `predicted_clv`.
    #[schema(example = json!([240.9, 950.3]))]
    predicted_clv: Option<[f64; 2]>,
    /// Of `lifetime_value`.
    #[schema(example = json!([410.0, 2650.2]))]
    lifetime_value: Option<[f64; 2]>,
    /// The instants by which the next order has come with probabilities of 10 % and 90 %; null where that
    /// is never reached.
    #[schema(example = json!(["2026-03-03T01:00:00.000Z", "2026-04-20T12:00:00.000Z"]))]
    expected_date_of_next_order: [Option<Timestamp>; 2],
}

impl From<&ValueSummary> for ValueSummaryBody {
    fn from(value: &ValueSummary) -> Self {
        Self {
            reliable: value.is_reliable,
            churn_probability: value.churn_probability,
            predicted_number_of_orders: value.predicted_orders,
            predicted_clv: value.predicted_spend,
            expected_date_of_next_order: value.next_order_at,
        }
    }
}

impl CustomerValueBody {
    pub(in crate::api) fn new(
        model: &ValueModel,
        history: &PurchaseHistory,
        now: Timestamp,
    ) -> Self {
        let value = model.forecast(history, now);
        let CustomerValue { orders, spend, next_order_at: [earliest, expected, latest], .. } =
            value;
        let amount = |of: fn(&PurchaseHistory) -> f64| spend.map(|_| of(history));
        let historic_clv = amount(|history| history.total_value);
        let summary = ValueSummaryBody {
            reliable: value.is_reliable,
            churn_probability: value.churn_probability,
            predicted_number_of_orders: orders[2].expected,
            predicted_clv: spend.map(|spend| spend[2].expected),
            expected_date_of_next_order: expected,
        };
        let spend_interval = |place: usize| spend.map(|spend| bounds(spend[place]));
        Self {
            unit: model.unit.to_string(),
            historic_number_of_orders: history.orders,
            total_clv: historic_clv.zip(summary.predicted_clv).map(|(past, next)| past + next),
            historic_clv,
            average_order_value: amount(PurchaseHistory::mean_order_value),
            average_days_between_orders: history.mean_days_between_orders(),
            expected_order_value: value.order_value,
            predicted_number_of_orders_30d: orders[0].expected,
            predicted_number_of_orders_90d: orders[1].expected,
            predicted_clv_30d: spend.map(|spend| spend[0].expected),
            predicted_clv_90d: spend.map(|spend| spend[1].expected),
            lifetime_value: value.lifetime_value.map(|value| value.expected),
            intervals: ValueIntervalsBody {
                churn_probability: value.churn_interval,
                predicted_number_of_orders_30d: bounds(orders[0]),
                predicted_number_of_orders_90d: bounds(orders[1]),
                predicted_number_of_orders: bounds(orders[2]),
                predicted_clv_30d: spend_interval(0),
                predicted_clv_90d: spend_interval(1),
                predicted_clv: spend_interval(2),
                lifetime_value: value.lifetime_value.map(bounds),
                expected_date_of_next_order: [earliest, latest],
            },
            summary,
        }
    }
}

fn bounds(forecast: Forecast) -> [f64; 2] {
    [forecast.low, forecast.high]
}
