//! Experiments: assignment of customers to variations, and analysis of the effects.
//!
//! A service needs:
//!
//! - for definitions and answers: [`spec`];
//! - for assignment: [`ExperimentDefinition`] → [`VariationAssigner`], which gives each customer id a
//!   variation or an [`Exclusion`], bit-equal with the `GrowthBook` SDKs, and the expected shares;
//! - for results: [`MomentTable`], which observes one [`CustomerOutcome`] for each exposed customer and
//!   merges over replicas; [`SampleRatioReport::check`] on counts of exposures;
//!   [`analyse_experiment`], whose results are [`GatedResults`]: withheld if the sample ratio is
//!   mismatched;
//! - for planning: [`ExperimentPlan`];
//! - for the segmentation itself: [`evaluate_segmentation`] and [`compare_segmentations`].
//!
//! Files:
//!
//! - `bucketing`: hash, bucket ranges and namespaces; `variation_assignment`: definition, holdout,
//!   assignment.
//! - `moments`: streaming moments of a metric.
//! - `effect`: difference and lift with Welch's t interval; `cuped`: the same with less variance;
//!   `always_valid`: intervals for any number of looks.
//! - `sample_ratio`: test of the sample ratio.
//! - `segment_effects`: effects by segment.
//! - `analysis`: all of it for one metric, and the gate; `sample`: exposed customers to analyse.
//! - `power`: sample size, duration, minimum detectable effect.
//! - `segmentation_worth`: RATE of treating by segment.

pub mod always_valid;
pub mod analysis;
pub mod bucketing;
pub mod cuped;
pub mod effect;
pub mod moments;
pub mod plan;
pub mod power;
pub mod sample;
pub mod sample_ratio;
pub mod segment_effects;
pub mod segmentation_worth;
pub mod spec;
pub mod variation_assignment;

pub use always_valid::{AlwaysValidResult, SequentialDesign};
pub use analysis::{
    AnalysisSettings, GatedResults, MomentTable, OverriddenResults, OverrideReason,
    ResultsWithheld, VariationResult, analyse_experiment,
};
pub use bucketing::{BucketRange, HashVersion, Namespace};
pub use cuped::ComparedEffect;
pub use effect::{EffectEstimate, EffectScale, VariationEffect};
pub use moments::{CustomerOutcome, MetricMoments};
pub use plan::{PlanAnswer, PlanQuestion};
pub use power::{ExperimentPlan, PlannedMetric, RequiredSample};
pub use sample::{ExperimentSample, ExposedCustomer, NameTable};
pub use sample_ratio::{ExposureCounts, SampleRatioReport};
pub use segment_effects::{SegmentEffect, SegmentEffects, SegmentSettings};
pub use segmentation_worth::{
    PriorityRule, SPLITS, SegmentationWorth, TrialRows, WorthSettings, compare_over_splits,
    compare_segmentations, evaluate_over_splits, evaluate_segmentation, mean_effect_priorities,
};
pub use variation_assignment::{
    Allocation, DefinitionFault, Exclusion, ExperimentDefinition, Holdout, VariationAssigner,
};
