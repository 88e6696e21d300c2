//! What a model of future orders knows of one customer, after that customer's orders.

use crate::domain::feature::PurchaseHistory;
use crate::domain::value::beta_geometric::BetaGeometric;
use crate::domain::value::future_orders::FutureOrders;
use crate::domain::value::order_counts::CountFigures;
use crate::domain::value::pareto_nbd::ParetoPosterior;
use crate::domain::value::purchase_model::PurchaseModel;

/// Later next orders are not predicted.
const LATEST_NEXT_ORDER_DAYS: f64 = 3_650.0;

/// One customer under one model. Allocates nothing.
#[derive(Debug, Clone, Copy)]
pub struct CustomerPosterior<'m> {
    model: &'m PurchaseModel,
    history: PurchaseHistory,
    alive: f64,
    active: ActiveCustomer,
}

/// The customer if still active.
#[derive(Debug, Clone, Copy)]
enum ActiveCustomer {
    BetaGeometric(FutureOrders),
    Pareto(ParetoPosterior),
}

impl PurchaseModel {
    /// The customer with these orders under this model.
    pub fn posterior(&self, history: &PurchaseHistory) -> CustomerPosterior<'_> {
        let (alive, active) = match self {
            Self::BetaGeometric(model) => (
                model.probability_alive(history),
                ActiveCustomer::BetaGeometric(model.future_orders(history)),
            ),
            Self::ParetoNbd(model) => {
                (model.probability_alive(history), ActiveCustomer::Pareto(model.posterior(history)))
            }
        };
        CustomerPosterior { model: self, history: *history, alive, active }
    }
}

impl CustomerPosterior<'_> {
    /// Probability that the customer has not left for good.
    pub fn probability_alive(&self) -> f64 {
        self.alive
    }

    /// Gradient of the log odds that the customer has left, by the logarithms of the parameters.
    pub(super) fn odds_gradient(&self) -> [f64; 4] {
        match self.model {
            PurchaseModel::BetaGeometric(model) => model.odds_gradient(&self.history),
            PurchaseModel::ParetoNbd(model) => model.odds_gradient(&self.history),
        }
    }

    /// Expected orders within each number of days from now. All orders of a day count once.
    pub fn expected_orders<const N: usize>(&self, days: [f64; N]) -> [f64; N] {
        let expected = match &self.active {
            ActiveCustomer::BetaGeometric(future) => future.expected(days),
            ActiveCustomer::Pareto(posterior) => posterior.expected(days),
        };
        expected.map(|orders| self.alive * orders)
    }

    /// P(exactly `orders` within some days from now).
    pub fn order_probability(&self, days: f64, orders: u32) -> f64 {
        let gone = if orders == 0 { 1.0 - self.alive } else { 0.0 };
        let active = match &self.active {
            ActiveCustomer::BetaGeometric(future) => {
                BetaGeometric::order_counts(future, days).probability(orders)
            }
            ActiveCustomer::Pareto(posterior) => {
                posterior.order_counts_exactly(days).probability(orders)
            }
        };
        gone + self.alive * active
    }

    pub(super) fn order_figures(&self, days: f64, levels: [f64; 2]) -> CountFigures {
        match &self.active {
            ActiveCustomer::BetaGeometric(future) => {
                BetaGeometric::order_counts(future, days).figures(self.alive, levels)
            }
            ActiveCustomer::Pareto(posterior) => {
                posterior.order_counts(days).figures(self.alive, levels)
            }
        }
    }

    /// P(no order) and E[Y (Y − 1)] for the orders Y within some days from now.
    pub(super) fn order_moments(&self, days: f64) -> [f64; 2] {
        match &self.active {
            ActiveCustomer::BetaGeometric(future) => {
                BetaGeometric::order_counts(future, days).moments(self.alive)
            }
            ActiveCustomer::Pareto(posterior) => posterior.order_counts(days).moments(self.alive),
        }
    }

    /// Days from now by which the next order has come with each probability; `None` where it is
    /// never reached, or only after ten years. Levels ascend.
    pub fn next_order_days<const N: usize>(&self, levels: [f64; N]) -> [Option<f64>; N] {
        let levels = levels.map(|level| level / self.alive);
        let days = match &self.active {
            ActiveCustomer::BetaGeometric(future) => levels.map(|level| {
                // P(no order within t | alive) = (rate / (rate + t))^shape
                future.rate * (-(-level).ln_1p() / future.shape).exp_m1()
            }),
            ActiveCustomer::Pareto(posterior) => posterior.next_order_days(levels),
        };
        days.map(|days| (days <= LATEST_NEXT_ORDER_DAYS).then_some(days))
    }
}
