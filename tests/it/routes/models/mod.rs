//! Models, their life cycle, training runs and the promotion policy.

mod canary;
mod diff;
mod lifecycle;
mod policy;
mod shadow;
mod training_limits;
mod training_runs;
