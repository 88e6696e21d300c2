//! Deployment of models: stages and gates of the life cycle, probation, automatic policy.

pub mod lifecycle;
pub mod policy;
pub mod probation;
