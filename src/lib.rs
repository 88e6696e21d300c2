//! segmentd: the architecture.
pub mod domain;
pub mod store;
