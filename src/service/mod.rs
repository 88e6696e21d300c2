//! Use cases and background work, independent of the protocol of a request.
//!
//! *Architecture invariant:* services know no HTTP status, and only services write to the
//! store. Every transaction says what commits together.

pub mod alerts;
pub mod api_keys;
pub mod audiences;
pub mod automation;
pub mod backfill;
pub(crate) mod change_cursor;
pub mod change_feed;
pub mod clock;
pub mod consistency_check;
pub mod drift;
pub mod error;
pub mod experiments;
pub mod export;
pub mod failed_events;
pub mod health;
pub mod ingestion;
pub mod limits;
pub mod models;
pub mod personas;
pub mod random;
pub mod rebuild;
pub mod rescoring;
mod retry;
pub mod scoring;
pub mod segment_value;
pub mod sources;
pub(crate) mod stored_properties;
pub mod training;
pub mod unused_events;

pub use error::ServiceError;
