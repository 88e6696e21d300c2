//! Assembly of a model from the selected clustering: decision function, outlier reference,
//! segment statistics, profiles.

pub(crate) mod decision_function;
pub(crate) mod finish;
pub(crate) mod outlier_reference;
pub(crate) mod profile;
pub(crate) mod segment_moments;
mod segment_names;
