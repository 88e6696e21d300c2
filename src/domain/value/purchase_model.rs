//! The three models of future orders behind one interface.

use serde::{Deserialize, Serialize};

use crate::domain::feature::PurchaseHistory;
use crate::domain::value::beta_geometric::BetaGeometric;
use crate::domain::value::order_counts::{CountFigures, OrderCounts};
use crate::domain::value::pareto_nbd::{ACTIVE_TIMES, ParetoNbd};
use crate::domain::value::purchase_table::PurchaseTable;

/// Steps of the integral over the time of the next order under Pareto/NBD.
const NEXT_ORDER_STEPS: usize = 64;
/// Later next orders are not predicted.
const LATEST_NEXT_ORDER_DAYS: f64 = 3_650.0;

/// A family of models of future orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PurchaseModelKind {
    BgNbd,
    MbgNbd,
    ParetoNbd,
}

/// A fitted model of future orders.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PurchaseModel {
    BetaGeometric(BetaGeometric),
    ParetoNbd(ParetoNbd),
}

impl PurchaseModelKind {
    pub const ALL: [Self; 3] = [Self::BgNbd, Self::MbgNbd, Self::ParetoNbd];

    /// Name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BgNbd => "bg_nbd",
            Self::MbgNbd => "mbg_nbd",
            Self::ParetoNbd => "pareto_nbd",
        }
    }

    /// The model of this family with these parameters.
    pub(super) const fn with_parameters(self, parameters: [f64; 4]) -> PurchaseModel {
        match self {
            Self::BgNbd => {
                PurchaseModel::BetaGeometric(BetaGeometric::from_array(parameters, false))
            }
            Self::MbgNbd => {
                PurchaseModel::BetaGeometric(BetaGeometric::from_array(parameters, true))
            }
            Self::ParetoNbd => PurchaseModel::ParetoNbd(ParetoNbd::from_array(parameters)),
        }
    }
}

impl PurchaseModel {
    pub const fn kind(&self) -> PurchaseModelKind {
        match self {
            Self::BetaGeometric(model) if model.first_order_counts => PurchaseModelKind::MbgNbd,
            Self::BetaGeometric(_) => PurchaseModelKind::BgNbd,
            Self::ParetoNbd(_) => PurchaseModelKind::ParetoNbd,
        }
    }

    /// Parameters by name.
    pub const fn parameters(&self) -> [(&'static str, f64); 4] {
        match *self {
            Self::BetaGeometric(BetaGeometric { r, alpha, a, b, .. }) => {
                [("r", r), ("alpha", alpha), ("a", a), ("b", b)]
            }
            Self::ParetoNbd(ParetoNbd { r, alpha, s, beta }) => {
                [("r", r), ("alpha", alpha), ("s", s), ("beta", beta)]
            }
        }
    }

    /// Probability that the customer has not left for good.
    pub fn probability_alive(&self, history: &PurchaseHistory) -> f64 {
        match self {
            Self::BetaGeometric(model) => model.probability_alive(history),
            Self::ParetoNbd(model) => model.probability_alive(history),
        }
    }

    /// Gradient of the log odds that the customer has left, by the logarithms of the parameters.
    pub(super) fn odds_gradient(&self, history: &PurchaseHistory) -> [f64; 4] {
        match self {
            Self::BetaGeometric(model) => model.odds_gradient(history),
            Self::ParetoNbd(model) => model.odds_gradient(history),
        }
    }

    /// Expected orders within each number of days from now. All orders of a day count once.
    pub fn expected_orders<const N: usize>(
        &self,
        history: &PurchaseHistory,
        days: [f64; N],
    ) -> [f64; N] {
        let alive = self.probability_alive(history);
        let expected = match self {
            Self::BetaGeometric(model) => model.future_orders(history).expected(days),
            Self::ParetoNbd(model) => model.expected_while_alive(history, days),
        };
        expected.map(|orders| alive * orders)
    }

    /// Distribution of the orders of an active customer within some days from now.
    fn order_counts(&self, history: &PurchaseHistory, days: f64) -> OrderCounts {
        match self {
            Self::ParetoNbd(model) => model.order_counts(history, days),
            Self::BetaGeometric(model) => {
                let future = model.future_orders(history);
                let mut active = [(0.0, 0.0); ACTIVE_TIMES];
                active[0] = (days, 1.0);
                OrderCounts {
                    shape: future.shape,
                    rate: future.rate,
                    active,
                    times: 1,
                    a: future.a,
                    b: future.b,
                }
            }
        }
    }

    /// P(exactly `orders` within some days from now).
    pub fn order_probability(&self, history: &PurchaseHistory, days: f64, orders: u32) -> f64 {
        let alive = self.probability_alive(history);
        let gone = if orders == 0 { 1.0 - alive } else { 0.0 };
        gone + alive * self.order_counts(history, days).probability(orders)
    }

    pub(super) fn order_figures(
        &self,
        history: &PurchaseHistory,
        days: f64,
        levels: [f64; 2],
    ) -> CountFigures {
        let alive = self.probability_alive(history);
        self.order_counts(history, days).figures(alive, levels)
    }

    /// Days from now by which the next order has come with each probability; `None` where it is
    /// never reached, or only after ten years. Levels ascend.
    pub fn next_order_days<const N: usize>(
        &self,
        history: &PurchaseHistory,
        levels: [f64; N],
    ) -> [Option<f64>; N] {
        let alive = self.probability_alive(history);
        match self {
            Self::BetaGeometric(model) => {
                let future = model.future_orders(history);
                levels.map(|level| {
                    // P(no order within t | alive) = (rate / (rate + t))^shape
                    let silent = 1.0 - level / alive;
                    let days = future.rate * (-silent.ln() / future.shape).exp_m1();
                    (silent > 0.0 && days <= LATEST_NEXT_ORDER_DAYS).then_some(days)
                })
            }
            Self::ParetoNbd(model) => {
                let mut reached = [None; N];
                // Steps of equal length in ln(1 + t / scale), where the scale is the mean time between
                // orders of an active customer.
                let scale = (model.alpha + f64::from(history.age_days))
                    / (model.r + f64::from(history.repeat_days));
                let width = (LATEST_NEXT_ORDER_DAYS / scale).ln_1p() / NEXT_ORDER_STEPS as f64;
                let integrand = |u: f64| {
                    let day = scale * u.exp_m1();
                    alive * model.next_order_density(history, day) * (scale + day)
                };
                let (mut probability, mut left) = (0.0, integrand(0.0));
                for step in 0..NEXT_ORDER_STEPS {
                    let from = step as f64 * width;
                    let (middle, right) = (integrand(from + width / 2.0), integrand(from + width));
                    let added = width / 6.0 * (left + 4.0 * middle + right);
                    for (reached, level) in reached.iter_mut().zip(levels) {
                        if reached.is_none() && probability + added >= level {
                            // The density is linear within the step, up to a factor.
                            let missing = (level - probability) / added * (left + right) / 2.0;
                            let root =
                                (left * left + 2.0 * (right - left) * missing).max(0.0).sqrt();
                            let part = (2.0 * missing / (left + root)).min(1.0);
                            *reached = Some(scale * (from + part * width).exp_m1());
                        }
                    }
                    probability += added;
                    left = right;
                }
                reached
            }
        }
    }

    /// Mean log-likelihood of the customers of a table.
    pub(super) fn mean_log_likelihood(&self, table: &PurchaseTable) -> f64 {
        match self {
            Self::BetaGeometric(model) => model.mean_log_likelihood(table),
            Self::ParetoNbd(model) => model.mean_log_likelihood(table),
        }
    }

    /// Whether every parameter is above 0 and finite.
    pub(super) fn is_sound(&self) -> bool {
        self.parameters().iter().all(|(_, value)| value.is_finite() && *value > 0.0)
    }
}
