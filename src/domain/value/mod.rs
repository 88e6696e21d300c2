//! Customer value: probability that a customer is alive, expected orders and spend, lifetime value.
//!
//! Models of customers without a contract, who leave without saying so ("buy till you die"). They read a
//! customer's [`PurchaseHistory`] only, in closed form, so value is computed with every answer and
//! moves with the clock.
//!
//! - `beta_geometric`, `pareto_nbd`: the three families of models of future orders, with
//!   `future_orders` (expected orders) and `order_counts` (their distribution); `purchase_model` and
//!   `posterior` (one customer under a model) are their common interface.
//! - `gamma_gamma`: the value of orders.
//! - `purchase_table`, `fit`: maximum likelihood on the distinct histories.
//! - `evaluation`: comparison of the families on orders that the fits have not seen;
//!   `calibration_chart` draws it.
//! - `value_model`, `customer_value`: the fitted model, and its forecasts for one customer.
//!
//! [`PurchaseHistory`]: crate::domain::feature::PurchaseHistory

pub mod beta_geometric;
mod calibration_chart;
pub mod customer_value;
pub mod evaluation;
pub mod fit;
mod future_orders;
pub mod gamma_gamma;
mod order_counts;
pub mod pareto_nbd;
pub mod posterior;
pub mod purchase_model;
mod purchase_table;
pub mod value_model;

use crate::domain::feature::{PurchaseHistory, PurchaseSplit};
pub use calibration_chart::draw_calibration;
pub use customer_value::{CustomerOutlook, CustomerValue, Forecast, PredictedSum, ValueSummary};
use evaluation::ValueEvaluation;
pub use purchase_model::{PurchaseModel, PurchaseModelKind};
pub use value_model::ValueModel;

/// Fewest customers with a repeat order before the hold-out.
const LEAST_REPEAT_CUSTOMERS: usize = 100;
/// The orders span this many hold-outs: most of them are needed to see who leaves.
const SPAN_OF_HOLDOUTS: u32 = 3;
/// Days of a hold-out.
const LEAST_HOLDOUT_DAYS: u32 = 90;
const MOST_HOLDOUT_DAYS: u32 = 365;
/// Least shape of the distribution of order values over customers; their mean is infinite up to 1.
const LEAST_Q: f64 = 1.1;

/// Why there is no value model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueModelGap {
    #[error("the feature set declares no `[orders]`, or no customer has an order")]
    NoOrders,
    #[error(
        "{found} customers ordered on at least two days before the last {holdout_days} days; \
         {LEAST_REPEAT_CUSTOMERS} are needed"
    )]
    FewRepeatCustomers { found: usize, holdout_days: u32 },
    #[error("the orders span {found} days; {} are needed", SPAN_OF_HOLDOUTS * LEAST_HOLDOUT_DAYS)]
    ShortSpan { found: u32 },
    #[error("the fit gave figures that are not finite")]
    NotFinite,
}

/// The orders of all customers, for the fit of a value model.
#[derive(Debug, Clone, PartialEq)]
pub struct ShopOrders {
    /// Customers with an order, in canonical order.
    pub customers: Vec<CustomerPurchases>,
    /// Days from the first orders to the present; customers are split by [`holdout_days`] of it.
    pub span_days: u32,
    /// Unit of order values.
    pub unit: Box<str>,
}

/// The orders of one customer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CustomerPurchases {
    pub history: PurchaseHistory,
    /// The history before the hold-out, and the orders in it; `None` for a customer whose first
    /// order is in the hold-out.
    pub split: Option<PurchaseSplit>,
}

/// Length of the hold-out in days: a third of the span of all orders, at most a year.
pub fn holdout_days(span_days: u32) -> u32 {
    (span_days / SPAN_OF_HOLDOUTS).min(MOST_HOLDOUT_DAYS)
}

/// Fits the families of models to the orders before the hold-out. Of those with about the right total,
/// chooses the one that gives the orders in it the highest likelihood, and fits it again to all orders.
/// Results depend on the customers and their order only, not on the number of threads. Working threads
/// call `pause` between pieces of work of well under a millisecond.
pub fn fit_value_model(orders: &ShopOrders, pause: fn()) -> Result<ValueModel, ValueModelGap> {
    let ShopOrders { customers, span_days, unit } = orders;
    let holdout_days = holdout_days(*span_days);
    if customers.is_empty() {
        return Err(ValueModelGap::NoOrders);
    }
    if holdout_days < LEAST_HOLDOUT_DAYS {
        return Err(ValueModelGap::ShortSpan { found: *span_days });
    }
    let splits: Vec<PurchaseSplit> = customers.iter().filter_map(|one| one.split).collect();
    let found = splits.iter().filter(|split| split.before.repeat_days > 0).count();
    if found < LEAST_REPEAT_CUSTOMERS {
        return Err(ValueModelGap::FewRepeatCustomers { found, holdout_days });
    }
    let evaluation = ValueEvaluation::compare(&splits, holdout_days, pause);
    let kind = evaluation.candidates.first().map_or(PurchaseModelKind::BgNbd, |best| best.model);
    let histories: Vec<PurchaseHistory> = customers.iter().map(|one| one.history).collect();
    let fitted = fit::fit_purchases(kind, &histories, pause);
    let spend =
        evaluation.is_spend_calibrated().then(|| fit::fit_spend(&histories, pause)).flatten();
    let model = ValueModel {
        purchases: fitted.model,
        covariance: fitted.covariance,
        // Close to 1, the mean value of all customers would be decided by a few.
        spend: spend.filter(|spend| spend.q > LEAST_Q),
        valued_share: valued_share(&histories),
        unit: unit.clone(),
        customers: customers.len() as u64,
        evaluation,
    };
    if model.is_sound() { Ok(model) } else { Err(ValueModelGap::NotFinite) }
}

/// Share of the repeat days that have a value above 0.
fn valued_share(histories: &[PurchaseHistory]) -> f64 {
    let days: f64 = histories.iter().map(|one| f64::from(one.repeat_days)).sum();
    let valued: f64 = histories.iter().map(|one| f64::from(one.valued_repeat_days)).sum();
    valued / days.max(1.0)
}
