//! Models in service: registry, gated rollout, shadow scoring, promotion preview, policy.

pub(crate) mod current;
pub mod gate_evidence;
pub mod policy;
pub mod preview;
pub(crate) mod refusal_alert;
pub mod registry;
mod rollback;
pub mod rollout;
pub mod shadow;
pub mod step_request;
