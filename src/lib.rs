//! segmentd: the architecture.
pub mod domain;
