//! Scoring: the current deployment, assignments, their history, and counts for drift.

pub mod assignment;
pub mod deployment;
pub mod history;
pub(crate) mod inputs;
pub mod observations;
pub(crate) mod segment_sizes;
pub mod serving;
