//! What segments are: events, features, encoders, models, training.
//!
//! *Architecture invariant:* everything here is pure. No I/O, no clock, no
//! environment, no async, no globals: time, randomness and "should I stop?"
//! come in as arguments. Names none of tokio, sqlx, axum, tracing, prometheus.
//!
//! The modules stand in import order: each may import only those above it.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts, bins and days become floats and back all over numerical code; every site is bounded by construction"
)]

pub mod fault;
pub mod text;
pub mod secret;
pub mod nearest;
pub mod time;
pub mod objective;
pub mod id;
pub mod identity;
pub mod access;
pub mod event;
pub mod feature;
pub mod stats;
pub mod volume;
pub mod encode;
pub mod model;
pub mod assign;
pub mod recheck;
pub mod lifecycle;
pub mod drift;
pub mod alert;
pub mod policy;
pub mod probation;
pub mod train;
pub mod wire;

pub use feature::rfm;
