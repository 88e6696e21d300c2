//! Models in service: registry, rollout, gates, shadow scoring, preview of a promotion.

pub mod gate_evidence;
pub mod policy;
pub mod preview;
pub mod registry;
pub mod rollout;
pub mod shadow;
