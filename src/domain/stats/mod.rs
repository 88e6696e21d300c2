//! Numerical building blocks shared by encoders, training, drift detection and experiments.

pub mod benjamini_hochberg;
pub mod bisection;
pub mod describe;
pub mod estimate;
pub mod groups;
pub mod maximise;
pub mod minimise;
pub mod proportion;
pub mod quadrature;
pub mod rank_correlation;
pub mod rng;
pub mod running_moments;
pub mod special;
pub mod student;
pub mod symmetric;

pub use benjamini_hochberg::benjamini_hochberg;
pub use describe::{mean, quantile, sorted, variance};
pub use estimate::{Estimate, NORMAL_975};
pub use groups::analysis_of_variance::AnalysisOfVariance;
pub use groups::group_contrast::{ColumnMoments, group_contrast};
pub use groups::group_lift::GroupLift;
pub use groups::group_total::GroupTotal;
pub use proportion::Proportion;
pub use rank_correlation::rank_correlation;
pub use rng::RandomStream;
pub use running_moments::{RunningMoments, RunningPairs};
