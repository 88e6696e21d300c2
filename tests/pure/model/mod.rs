//! Models: encoder, scoring, calibration, hysteresis, artifacts, life cycle.

mod answer_bounds;
mod artifact;
mod conformal;
mod decision_function;
mod encoder;
mod hysteresis;
mod lifecycle;
mod outliers;
mod persona;
mod probation;
mod scoring;
mod simd_kernel;
pub(crate) mod support;
