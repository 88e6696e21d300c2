//! Limits that share bounded resources between callers: quotas, memory, threads for heavy
//! work, fair shares.

pub mod event_quota;
pub mod fair_share;
pub mod heavy;
pub mod memory;
pub mod resource_user;
pub mod round_robin;
