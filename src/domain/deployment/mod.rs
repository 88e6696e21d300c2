//! Model deployment: life-cycle stages and gates, probation after promotion, and the
//! policy of automatic reactions.

pub mod lifecycle;
pub mod policy;
pub mod probation;
