//! Evaluation of a clustering: internal and external indices, indices without a preference for a
//! shape, reproducibility on halves of the rows, stability under resampling.

pub mod density_validation;
pub mod external_indices;
pub mod internal_indices;
pub mod neighbour_graph;
pub mod reproducibility;
pub mod row_distances;
pub mod stability;
