//! Automation: probation and rollback of new models, policy actions on drift.

pub mod actions;
pub mod probation;
