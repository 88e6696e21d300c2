//! Limits that share bounded resources between callers: rate limits, memory, threads for heavy
//! work, fair shares.

pub mod fair_share;
pub mod heavy;
pub mod memory;
pub mod rate_limits;
pub mod resource_user;
pub mod round_robin;
