//! Figures of a group of rows, and how they differ from those of all rows or of other groups.

pub mod analysis_of_variance;
pub mod group_contrast;
pub mod group_lift;
pub mod group_total;
pub mod meta_analysis;
pub mod rank_weighted_effect;
