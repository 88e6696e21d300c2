//! Numerical building blocks shared by encoders, training and drift detection.

pub mod analysis_of_variance;
pub mod describe;
pub mod estimate;
pub mod group_contrast;
pub mod group_lift;
pub mod group_total;
pub mod maximise;
pub mod minimise;
pub mod quadrature;
pub mod rank_correlation;
pub mod rng;
pub mod running_moments;
pub mod special;
pub mod symmetric;

pub use analysis_of_variance::AnalysisOfVariance;
pub use describe::{mean, quantile, sorted, variance};
pub use estimate::{Estimate, NORMAL_975};
pub use group_contrast::{ColumnMoments, group_contrast};
pub use group_lift::GroupLift;
pub use group_total::GroupTotal;
pub use rank_correlation::rank_correlation;
pub use rng::RandomStream;
pub use running_moments::{RunningMoments, RunningPairs};
