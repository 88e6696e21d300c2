//! Tests that need neither a database nor a network.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "small counts become floats; what must be exact is compared exactly"
)]
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod advisories;
mod alert;
mod audience;
mod circles;
mod clock;
mod drift;
mod event;
mod experiment;
mod fair_share;
mod feature;
mod habits;
mod inference;
mod model;
mod openapi;
mod redact;
mod round_robin;
mod schedule;
mod source_map;
mod stats;
mod tables;
mod telemetry;
mod tidy;
mod token_bucket;
mod train;
mod value;
