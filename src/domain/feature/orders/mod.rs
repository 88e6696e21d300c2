//! Orders: events that place, return and cancel orders, netted by order id.
//!
//! - `rules`: which events do what to an order.
//! - `ledger`: the order events of a customer, as stored in the state.
//! - `unidentified`: the orders without an id, by day.
//! - `net`: the orders net of returns, computed from the ledger.
//! - `folds`: count, sum, extremes and times of the net orders.
//! - `period`: the orders in a past period, such as that of a back-test.
//! - `purchases`: the summary of the net orders that value models read.

pub(super) mod folds;
pub(super) mod ledger;
pub(super) mod net;
pub(super) mod period;
pub(super) mod purchases;
pub(super) mod rules;
mod unidentified;
