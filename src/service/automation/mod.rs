//! Actions that the service takes by itself: probation of a new model, policy actions.

pub mod actions;
pub mod probation;
