//! The back-test in the report of a training run, as it is stored.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::named_segment::NamedSegmentBody;
use crate::domain::time::Timestamp;

/// Back-test: the assignments of earlier models, compared with what customers then did. The models
/// could not know these orders. The figures describe the models listed here, not the model of this
/// training run.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "horizons": [
        {
            "horizon_days": 30, "from": "2026-01-30T00:00:00.000Z", "until": "2026-03-01T00:00:00.000Z",
            "customers": 4800,
            "models": [{
                "model_id": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
                "customers": 4800,
            }],
            "outcomes": [{
                "outcome": "orders", "customers": 4790, "base": 0.42, "explained_share": 0.18,
                "p_value": 0.0001, "explained_by_previous_orders": 0.15,
                "segments": [{
                    "segment": { "segment_id": "seg_5f2c8d10b7a94e36", "name": "Loyal Customers" },
                    "customers": 640, "mean": 0.92, "lift": 2.19, "interval": [2.01, 2.39],
                }],
            }],
        },
        {
            "horizon_days": 90, "from": "2025-12-01T00:00:00.000Z", "until": "2026-03-01T00:00:00.000Z",
            "customers": 0, "models": [], "outcomes": [],
            "gap": "no customer had a segment of a model at 2025-12-01T00:00:00.000Z",
        },
    ],
    "unit": "USD",
}))]
pub(super) struct BacktestBody {
    /// One comparison for each of `backtest_horizons_days`.
    horizons: Vec<HorizonBacktestBody>,
    /// Unit of spend.
    #[schema(example = "USD")]
    unit: String,
}

/// Assignments at the beginning of a period, compared with the orders in it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct HorizonBacktestBody {
    /// Length of the period in whole days, in the time zone of the feature set.
    #[schema(example = 30)]
    horizon_days: u32,
    /// Beginning of the period: the instant of the compared assignments.
    from: Timestamp,
    /// End of the period: the beginning of the day of the training run.
    until: Timestamp,
    /// Customers with known orders and an assignment by a model at the beginning of the period.
    #[schema(example = 4800)]
    customers: u64,
    /// The models of these assignments, that of most customers first.
    models: Vec<AssigningModelBody>,
    /// Each outcome for which at least two segments have 30 customers. Empty if there is a `gap`.
    outcomes: Vec<OutcomeBacktestBody>,
    /// Why nothing is compared. Left out if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "no customer had a segment of a model at 2026-01-15T00:00:00.000Z")]
    gap: Option<String>,
}

/// A model that had assigned customers.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct AssigningModelBody {
    /// Id of the model.
    #[schema(example = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")]
    model_id: String,
    /// Customers with an assignment by this model.
    #[schema(example = 4800)]
    customers: u64,
}

/// One outcome by segment.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct OutcomeBacktestBody {
    /// What customers did in the period. `ordered`: placed an order; `orders`: days with an order;
    /// `spend`: value of the orders, net of returns; `churned`: placed no order, of the customers
    /// with an order before the period; `features.` and a name: value at the training of this
    /// outcome, which covers its own window within the period.
    #[schema(
        pattern = "^(ordered|orders|spend|churned|features\\.[a-z0-9_]+)$",
        example = "features.survey_score"
    )]
    outcome: String,
    /// Customers of the compared segments; for `churned`, those with an order before the period; for
    /// a feature, those with a number.
    #[schema(example = 4790)]
    customers: u64,
    /// Base rate: the rate or mean over these customers.
    #[schema(example = 0.21)]
    base: f64,
    /// Share of the variance of the outcome that the segments explain (epsilon squared, the adjusted
    /// R²): about 0, perhaps below it, if the segments predict nothing; null for an outcome that is
    /// the same for all.
    #[schema(maximum = 1, example = 0.18)]
    explained_share: Option<f64>,
    /// p-value of the F test that all segments have the same mean; null for an outcome that is the
    /// same for all.
    #[schema(minimum = 0, maximum = 1, example = 0.0001)]
    p_value: Option<f64>,
    /// Share of the variance that a regression on the customers' days with an order in the equally
    /// long period before explains (adjusted R²): what can be predicted without segments. Null if
    /// either is the same for all.
    #[schema(maximum = 1, example = 0.15)]
    explained_by_previous_orders: Option<f64>,
    /// Segments of at least 30 customers, highest mean first. Smaller ones are not in the base rate
    /// either.
    segments: Vec<SegmentOutcomeBody>,
}

/// One outcome in one segment.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct SegmentOutcomeBody {
    segment: NamedSegmentBody,
    /// Customers of the segment at the beginning of the period.
    #[schema(example = 640)]
    customers: u64,
    /// Rate or mean of these customers.
    #[schema(example = 0.46)]
    mean: f64,
    /// `mean` divided by the base rate; null if that is 0, and for a feature that may be negative.
    #[schema(minimum = 0, example = 2.19)]
    lift: Option<f64>,
    /// 95 % confidence interval of the lift; null if fewer than five customers have the outcome.
    #[schema(min_items = 2, max_items = 2, example = json!([2.01, 2.39]))]
    interval: Option<[f64; 2]>,
}
