//! Scoring: the current deployment, assignments, their history, counts for drift.

pub mod assignment;
pub mod deployment;
pub mod history;
pub mod observations;
