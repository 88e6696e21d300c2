//! Tests that need nothing but the sources and the committed data.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "small counts become floats, and what must be exact is compared exactly"
)]

mod feature_faults;
mod feature_folds;
mod feature_journey;
mod feature_laws;
mod feature_set;
mod feature_support;
mod model_support;
mod stats;
mod encode;
mod kmeans;
mod limits;
mod model;
mod artifact;
mod train;
