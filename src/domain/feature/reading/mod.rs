//! What folds read of an event: numbers, conditions, elements of arrays, and money.
//!
//! - `event`: an event or an element of its array, with its calendar day.
//! - `amount`: number expressions.
//! - `filter`: filters of events and conditions on properties.
//! - `money`, `rates`: amounts in one currency.

pub(super) mod amount;
pub(super) mod event;
pub(super) mod filter;
pub(super) mod money;
pub(super) mod rates;
