//! Evaluation of a clustering: internal and external indices, stability under resampling.

pub mod external_indices;
pub mod internal_indices;
pub mod stability;
