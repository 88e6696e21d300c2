//! Use cases and background work: what segmentd does, without saying how it is asked.
//!
//! *Architecture invariant:* nothing here knows an HTTP status, and only
//! services write to the store. Every transaction says what commits together.
//!
//! The modules stand in import order: each may import only those above it.

pub mod error;
pub mod clock;
pub mod random;
pub mod clock_check;
mod attempts;
pub mod fair_share;
pub mod resource_user;
pub mod round_robin;
pub mod memory;
pub mod heavy;
pub mod event_quota;
pub mod access;
pub mod alerts;
pub mod storage;
pub mod observe;
pub mod live;
pub mod evidence;
pub mod shadow;
pub mod policy;
pub mod registry;
pub mod rollout;
pub mod scoring;
pub mod history;
pub mod rebuild;
pub mod migration;
pub mod drift;
pub mod watch;
mod rescore;
pub mod failed;
pub mod intake;
pub mod sources;
pub mod reassign;
pub mod recheck;
pub mod skew;
pub mod database_check;
pub mod backfill;
pub mod repair;
pub mod training;
pub mod probation;
pub mod react;
pub mod changes;
pub mod export;

pub use error::ServiceError;
