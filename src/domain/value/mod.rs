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
pub use customer_value::{CustomerValue, Forecast, ValueSummary};
use evaluation::{HOLDOUT_DAYS, ValueEvaluation};
pub use purchase_model::{PurchaseModel, PurchaseModelKind};
pub use value_model::ValueModel;

/// Fewest customers with a repeat order before the hold-out.
const LEAST_REPEAT_CUSTOMERS: usize = 100;
/// Orders must span this many times the hold-out.
const LEAST_SPAN: u32 = 3;

/// Why there is no value model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueModelGap {
    #[error("the feature set declares no `[orders]`, or no customer has an order")]
    NoOrders,
    #[error(
        "{found} customers ordered on at least two days before the last {HOLDOUT_DAYS} days; \
         {LEAST_REPEAT_CUSTOMERS} are needed"
    )]
    FewRepeatCustomers { found: usize },
    #[error("the orders span {found} days; {} are needed", LEAST_SPAN * HOLDOUT_DAYS)]
    ShortSpan { found: u32 },
}

/// The orders of one customer, for the fit of a value model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CustomerPurchases {
    pub history: PurchaseHistory,
    /// The history before the hold-out, and the orders in it; `None` for a customer whose first
    /// order is in the hold-out.
    pub split: Option<PurchaseSplit>,
}

/// Fits the families of models to the orders before the last 90 days. Of those with about the right
/// total, chooses the one that gives the orders since the highest likelihood, and fits it again to all
/// orders. Results depend on the customers
/// and their order only, not on the number of threads.
/// Working threads call `pause` between pieces of work of well under a millisecond.
pub fn fit_value_model(
    customers: &[CustomerPurchases],
    unit: &str,
    pause: fn(),
) -> Result<ValueModel, ValueModelGap> {
    let splits: Vec<PurchaseSplit> = customers.iter().filter_map(|one| one.split).collect();
    let Some(span) = customers.iter().map(|one| one.history.age_days).max() else {
        return Err(ValueModelGap::NoOrders);
    };
    if span < LEAST_SPAN * HOLDOUT_DAYS {
        return Err(ValueModelGap::ShortSpan { found: span });
    }
    let repeating = splits.iter().filter(|split| split.before.repeat_days > 0).count();
    if repeating < LEAST_REPEAT_CUSTOMERS {
        return Err(ValueModelGap::FewRepeatCustomers { found: repeating });
    }
    let evaluation = ValueEvaluation::compare(&splits, pause);
    let kind = evaluation.candidates.first().map_or(PurchaseModelKind::BgNbd, |best| best.model);
    let histories: Vec<PurchaseHistory> = customers.iter().map(|one| one.history).collect();
    let fitted = fit::fit_purchases(kind, &histories, pause);
    let spend =
        evaluation.is_spend_calibrated().then(|| fit::fit_spend(&histories, pause)).flatten();
    Ok(ValueModel {
        purchases: fitted.model,
        covariance: fitted.covariance,
        spend,
        unit: unit.into(),
        customers: customers.len() as u64,
        evaluation,
    })
}
