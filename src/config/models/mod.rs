//! Settings of models: training, its schedule, the life cycle, automatic policies and customer value.

pub(crate) mod lifecycle;
pub(crate) mod policy;
pub(crate) mod schedule;
pub(crate) mod training;
pub(crate) mod value;
