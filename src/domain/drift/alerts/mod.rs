//! From findings to alerts: each finding has an alarm that debounces it over repeated checks, and
//! the alarms that fire are grouped into alerts.
//!
//! The modules are listed in import order.

pub(super) mod alarm;
pub(super) mod grouping;
pub(super) mod step;
