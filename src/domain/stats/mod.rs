//! Numerical building blocks shared by encoders, training and drift detection.

pub mod describe;
pub mod group_contrast;
pub mod minimise;
pub mod rng;
pub mod special;
pub mod symmetric;

pub use describe::{mean, quantile, sorted, variance};
pub use group_contrast::{ColumnMoments, GroupContrast};
pub use rng::RandomStream;
