//! Figures of a back-test.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::id::ModelId;
use crate::domain::model::NamedSegment;
use crate::domain::time::Timestamp;

/// Back-test of a training run: one comparison for each horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BacktestReport {
    /// In the order of the horizons.
    pub horizons: Vec<HorizonBacktest>,
    /// Unit of spend.
    pub unit: Box<str>,
}

/// Assignments at the beginning of a period, compared with what customers did in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HorizonBacktest {
    /// Length of the period.
    pub horizon_days: u32,
    /// Beginning of the period: the instant of the compared assignments.
    pub from: Timestamp,
    /// End of the period: the beginning of the day of the training run.
    pub until: Timestamp,
    /// Customers with an assignment by a model at the beginning of the period.
    pub customers: u64,
    /// The models of these assignments, that of most customers first.
    pub models: Vec<AssigningModel>,
    /// Empty if there is a gap.
    pub outcomes: Vec<OutcomeBacktest>,
    /// Why nothing is compared; `None` if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Box<str>>,
}

/// A model that had assigned customers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AssigningModel {
    pub model_id: ModelId,
    pub customers: u64,
}

/// What customers did in the period.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum BacktestOutcome {
    /// Whether the customer placed an order.
    Ordered,
    /// Days with an order.
    Orders,
    /// Value of the orders, net of returns.
    Spend,
    /// Whether a customer with an earlier order placed none.
    Churned,
    /// Value of this outcome feature at the training, over its own window within the period.
    Feature(Box<str>),
}

/// One outcome by segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutcomeBacktest {
    pub outcome: BacktestOutcome,
    /// Customers of the compared segments; for `churned`, those with an earlier order, and for an
    /// outcome feature, those with a number.
    pub customers: u64,
    /// Mean over these customers: the base rate.
    pub base: f64,
    /// Share of the variance that the segments explain (epsilon squared); `None` for an outcome
    /// that is the same for all.
    pub explained_share: Option<f64>,
    /// p-value of the F test that all segments have the same mean.
    pub p_value: Option<f64>,
    /// The share that the customers' days with an order in the equally long period before explain
    /// by themselves (adjusted R²): what could be predicted without segments. `None` if either is
    /// the same for all.
    pub explained_by_previous_orders: Option<f64>,
    /// The compared segments, highest mean first.
    pub segments: Vec<SegmentOutcome>,
}

/// One outcome in one segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentOutcome {
    pub segment: NamedSegment,
    pub customers: u64,
    /// Rate or mean of the segment.
    pub mean: f64,
    /// `mean` divided by the base rate; `None` if that is 0, and for an outcome that may be negative.
    pub lift: Option<f64>,
    /// 95 % confidence interval of the lift; `None` if too few customers have the outcome.
    pub interval: Option<[f64; 2]>,
}

/// Why a horizon has no figures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BacktestGap {
    #[error("the feature set declares no `[orders]`, by which outcomes are counted")]
    NoOrders,
    #[error("the history of assignments begins at {0} (`history.retention_days`)")]
    ChangesDeleted(Timestamp),
    #[error("no customer had a segment of a model at {0}")]
    NoAssignments(Timestamp),
    #[error(
        "at {at}, {compared} segment(s) had at least {least} customers with known orders; two are \
         needed"
    )]
    FewSegments { compared: usize, least: u64, at: Timestamp },
    #[error("no customer ordered in the period")]
    NoOrdersInPeriod,
}

/// Prefix of the names of outcome features.
const FEATURE_PREFIX: &str = "features.";

impl BacktestOutcome {
    /// Outcomes from the orders in the period.
    pub const OF_ORDERS: [Self; 4] = [Self::Ordered, Self::Orders, Self::Spend, Self::Churned];
}

impl fmt::Display for BacktestOutcome {
    /// `orders`, or `features.survey_score`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ordered => f.write_str("ordered"),
            Self::Orders => f.write_str("orders"),
            Self::Spend => f.write_str("spend"),
            Self::Churned => f.write_str("churned"),
            Self::Feature(name) => write!(f, "{FEATURE_PREFIX}{name}"),
        }
    }
}

impl From<BacktestOutcome> for String {
    fn from(outcome: BacktestOutcome) -> Self {
        outcome.to_string()
    }
}

impl From<String> for BacktestOutcome {
    fn from(text: String) -> Self {
        match &*text {
            "ordered" => Self::Ordered,
            "orders" => Self::Orders,
            "spend" => Self::Spend,
            "churned" => Self::Churned,
            name => Self::Feature(name.strip_prefix(FEATURE_PREFIX).unwrap_or(name).into()),
        }
    }
}

impl BacktestReport {
    /// The lift of the best segment in days with an order, over the longest horizon with
    /// figures: the largest lower bound of the intervals. The bound and not the lift itself: the
    /// best of many lifts exceeds 1 by chance alone.
    pub fn best_segment_lift(&self) -> Option<f64> {
        let compared = self.horizons.iter().filter(|horizon| horizon.gap.is_none());
        let longest = compared.max_by_key(|horizon| horizon.horizon_days)?;
        let orders = longest.outcomes.iter().find(|one| one.outcome == BacktestOutcome::Orders)?;
        let bounds = orders.segments.iter().filter_map(|segment| segment.interval);
        bounds.map(|[lower, _]| lower).reduce(f64::max)
    }
}
