//! Settings of models: training, its schedule, the life cycle and automatic policies.

pub(crate) mod lifecycle;
pub(crate) mod policy;
pub(crate) mod schedule;
pub(crate) mod training;
