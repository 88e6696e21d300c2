//! History of properties: those that were dropped before they were declared.
//!
//! - `properties`: since when each property is stored.
//! - `stored`: the properties that a feature set stores.
//! - `gaps`: the events of a customer that arrived before.

pub(super) mod gaps;
pub(super) mod properties;
mod stored;
