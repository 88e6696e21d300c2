//! Assembly of a model from the selected clustering: decision function, outlier reference,
//! segment statistics, profiles, names, revenue, value.

pub(crate) mod decision_function;
pub(crate) mod finish;
pub(crate) mod outlier_reference;
pub(crate) mod profile;
mod revenue;
pub(crate) mod segment_moments;
mod segment_names;
mod segment_rows;
pub(crate) mod value;
