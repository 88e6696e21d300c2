//! Statistical tests and distances on binned counts.

pub mod chi_square;
pub(crate) mod contingency_table;
pub mod dispersion;
pub mod kolmogorov_smirnov;
pub mod psi;
pub mod wasserstein;
pub mod welch;
