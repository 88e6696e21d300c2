//! The domain of customer segmentation: events, features, encoders, models, training, drift.
//!
//! *Architecture invariant:* everything here is pure. No I/O, no clock, no environment, no
//! async, no globals: time, randomness and cancellation come in as arguments. This folder names
//! none of tokio, sqlx, axum, tracing, prometheus.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts, bins and days become floats and back all over numerical code; every site is bounded by construction"
)]

pub mod access;
pub mod alert;
pub mod audience;
pub mod customer_move;
pub mod deployment;
pub mod drift;
pub mod encode;
pub mod event;
pub mod experiment;
pub mod fault;
pub mod feature;
pub mod hysteresis;
pub mod id;
pub mod identity;
pub mod json;
pub mod model;
pub mod nearest;
pub mod objective;
pub mod persona;
pub mod presentation;
pub mod rescore_schedule;
pub mod secret;
pub mod segment_value;
pub mod stats;
pub mod text;
pub mod time;
pub mod token_bucket;
pub mod train;
pub mod value;
pub mod wire;
pub mod workspace;

pub use feature::rfm;
