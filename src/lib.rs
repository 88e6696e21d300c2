//! segmentd: the architecture.
pub mod config;
pub mod domain;
pub mod store;
pub mod telemetry;
