//! Tests that need nothing but this program: no database, no network.
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
mod alarm;
mod alert_route;
mod alert_target;
mod algorithm_laws;
mod algorithms;
mod artifact;
mod assign;
mod circles;
mod clock;
mod competition;
mod detectors;
mod drift;
mod drift_check;
mod drift_within;
mod encode;
mod fair_share;
mod feature_faults;
mod feature_folds;
mod feature_journey;
mod feature_laws;
mod feature_set;
mod feature_support;
mod form;
mod gather;
mod identity;
mod identity_oracle;
mod inference;
mod influence;
mod kernel;
mod kmeans;
mod lifecycle;
mod limits;
mod lineage;
mod minibatch;
mod model;
mod model_support;
mod notices;
mod observe;
mod outbound;
mod outbound_guard;
mod probation;
mod quality;
mod recheck;
mod redact;
mod round_robin;
mod schedule;
mod segment;
mod select;
mod stability;
mod stats;
mod telemetry;
mod source_map;
mod tidy;
mod token_bucket;
mod train;
mod volume;
mod wire;
