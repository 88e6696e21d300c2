//! Clustering algorithms: from encoded rows to clusters that one scoring kernel can serve.

pub mod algorithm;
pub mod clusters;
pub mod consensus;
pub mod density;
pub mod gaussian_mixture;
pub mod kmeans;
pub mod prototype_approximation;
pub mod sample;
pub mod ward;
