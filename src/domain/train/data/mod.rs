//! Training data: sampling, encoding, splits, feature selection.

pub mod dataset;
pub(crate) mod feature_selection;
pub mod outcomes;
pub(crate) mod prepared_rows;
pub(crate) mod reservoir;
pub(crate) mod rows;
pub mod split;
