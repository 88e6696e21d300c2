//! Alerts: routing, channel targets, message formats, the guard of addresses.

mod address_guard;
mod messages;
pub(crate) mod notices;
mod routing;
mod target;
