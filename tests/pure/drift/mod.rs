//! Drift: observations, statistics, checks, sequential detectors, alarms.

mod alarm;
mod alert_groups;
pub(crate) mod check;
mod dependence;
mod detectors;
mod key_influence;
mod observations;
mod statistics;
mod unseen;
mod within_segments;
