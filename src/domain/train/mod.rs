//! Training: from feature rows to a sealed model.
//!
//! *Architecture invariant:* the same rows, spec and code give the same bytes, for any number
//! of threads. Rows come in canonical order (by customer id). Parallel work runs in the rayon
//! pool that the caller has installed.

pub(crate) mod assembly;
pub mod backtest;
pub mod clustering;
pub mod data;
pub mod evaluation;
pub mod lineage;
pub mod projection;
mod range_check;
mod run;
pub mod selection;
mod spec;
mod spec_patch;

use serde::Serialize;

use crate::domain::encode;
use crate::domain::encode::FittedNumber;
use crate::domain::fault::ValidationFaults;
use crate::domain::model::{ArtifactError, MAX_SEGMENTS, Model};
use crate::domain::train::clustering::ward::DendrogramMerge;
use crate::domain::train::data::split::SplitBalance;
use crate::domain::train::selection::leaderboard::{Leaderboard, ResourceCost};

pub use assembly::decision_function::ProjectedClusters;
pub use assembly::value::add_value;
pub use clustering::algorithm::ClusteringAlgorithm;
pub use clustering::clusters::PrototypeClusters;
pub use data::dataset::{EncodedDataset, PauseFunction};
pub use data::feature_selection::{FeatureChoice, RowFilter};
pub use data::prepared_rows::TrainingData;
pub use data::reservoir::{RowReservoir, SampledCustomers, SamplingReport, TrainingCustomer};
pub use projection::distance::DistanceMeasure;
pub use run::{train_model, train_with_algorithm};
pub use selection::effort::SearchEffort;
pub use spec::{
    AutomaticSegmentCount, CheckedTrainingSpec, SegmentCount, SegmentCountRange, TrainingSpec,
};

/// Random streams of one seed. Other modules use further streams: 3 for the silhouette sample,
/// 5 to 7 for screening and the test for structure, from 16 on for the k-means starts, from 2³² on
/// for stability trials.
const SPLIT_STREAM: u64 = 0;
const SELF_TEST_STREAM: u64 = 1;
const SAMPLE_STREAM: u64 = 2;
const COMPARISON_STREAM: u64 = 4;

/// Progress observer with cooperative cancellation. Called from any thread.
pub trait TrainingProgress: Sync {
    /// Reports that `done` of `total` steps of a stage are finished. After the stages of the
    /// caller that loads the rows, the stages are `encode`, `baseline`, `candidates`,
    /// `stability`, `structure`, `cluster`, `finish` and `value`.
    fn report(&self, stage: &'static str, done: u64, total: u64);
    /// Cancellation flag, polled between steps; `true` ends the run with
    /// [`TrainingError::Stopped`].
    fn should_stop(&self) -> bool;
    /// Function that working threads call to yield the processor; the default does nothing.
    fn pause(&self) -> PauseFunction {
        data::dataset::no_pause
    }
    /// Cost since the previous call; zero in the default, which does not measure.
    fn take_cost(&self) -> ResourceCost {
        ResourceCost::default()
    }
}

/// Progress adapter that suppresses reports and passes on the rest, for work within a stage.
pub(crate) struct QuietProgress<'a>(pub(crate) &'a dyn TrainingProgress);

impl TrainingProgress for QuietProgress<'_> {
    fn report(&self, _: &'static str, _: u64, _: u64) {}

    fn should_stop(&self) -> bool {
        self.0.should_stop()
    }

    fn pause(&self) -> PauseFunction {
        self.0.pause()
    }

    fn take_cost(&self) -> ResourceCost {
        self.0.take_cost()
    }
}

/// Error of a training run; the message says what to change.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    #[error("there are {rows} rows; training needs at least {minimum} (`minimum_rows`)")]
    TooFewRows { rows: usize, minimum: usize },
    #[error(
        "{segments} segments need at least {segments} distinct rows, but there are {distinct}: \
         request at most {distinct} (`segments`)"
    )]
    TooFewDistinct { distinct: usize, segments: usize },
    #[error("segment {segment} of {segments} has no rows: request fewer `segments`")]
    EmptySegment { segment: usize, segments: usize },
    #[error("row {row} has {found} values, the feature set has {expected}")]
    RowLength { row: usize, found: usize, expected: usize },
    #[error("the spec does not fit the features: {0}")]
    Spec(ValidationFaults),
    #[error("no candidate passes the gates of the training spec: {refusals}")]
    NoQualifiedCandidate { refusals: String },
    #[error("the encoding of row {row} is not finite in column {column}")]
    NotFinite { row: usize, column: usize },
    #[error(
        "a covariance matrix is not positive definite: raise the mixture's `floor`, which is \
         {floor}, or request fewer segments"
    )]
    Degenerate { floor: f64 },
    #[error("no region is dense enough for a segment, all {rows} rows are noise: {remedy}")]
    AllNoise { rows: usize, remedy: &'static str },
    #[error("the algorithm found {found} segments; a model has at most {MAX_SEGMENTS}")]
    TooManySegments { found: usize },
    #[error("the algorithm found {found} segments, not {from} to {to} as requested (`segments`)")]
    OutsideRange { found: usize, from: usize, to: usize },
    #[error("the encoded columns vary too little, or too much, to compute a projection")]
    Projection,
    #[error("training was stopped before it finished")]
    Stopped,
    #[error(transparent)]
    Encoder(#[from] encode::EncoderFitError),
    #[error("the trained model fails its own checks: {0}")]
    Artifact(#[from] ArtifactError),
}

impl TrainingError {
    /// Whether the error concerns one candidate only: another algorithm, or another number of
    /// segments, may succeed with the same rows.
    pub(crate) fn concerns_one_candidate(&self) -> bool {
        matches!(
            self,
            Self::TooFewDistinct { .. }
                | Self::EmptySegment { .. }
                | Self::Degenerate { .. }
                | Self::AllNoise { .. }
                | Self::TooManySegments { .. }
                | Self::OutsideRange { .. }
        )
    }
}

/// Result of a training run.
#[derive(Debug, Clone)]
pub struct TrainedModel {
    /// The sealed document; the model id is its content address.
    pub bytes: Vec<u8>,
    /// The model that `bytes` decode to.
    pub model: Model,
    pub report: TrainingReport,
}

/// Figures of one training run, for people and for gates.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainingReport {
    /// Input rows: fitted rows and held-out rows.
    pub rows: u64,
    pub fitted_rows: u64,
    pub held_out_rows: u64,
    /// Width of the encoded vector.
    pub columns: usize,
    /// Dimensions in which rows are compared: the columns, or the retained components.
    pub axes: usize,
    /// Features with an encoding but without a value in any fitted row; of more columns than a
    /// model can have, also those that are most often the same.
    pub left_out: Vec<Box<str>>,
    /// Transform and clipping bounds of each numeric feature.
    pub numbers: Vec<FittedNumber>,
    /// Rows in each segment, in segment order.
    pub sizes: Vec<u64>,
    /// For a hierarchical clustering: the merges that lead to fewer segments, in order. Node 0
    /// is the first segment; number of segments + i is the result of merge i.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub joins: Vec<DendrogramMerge>,
    /// Rows in no segment.
    pub unassigned: u64,
    /// Sum of squared distances of the fitted rows to their prototypes.
    pub inertia: f64,
    /// For k-means only.
    #[serde(flatten)]
    pub kmeans: Option<KmeansDiagnostics>,
    /// Mean simplified silhouette of the fitted rows; `None` with one segment.
    pub silhouette: Option<f64>,
    /// Calibration of the outlier flag.
    pub outliers: OutlierReport,
    /// Similarity of the fitted, validation and held-out rows.
    pub split: SplitBalance,
    /// All candidates with their figures and the reason for their rank.
    pub leaderboard: Leaderboard,
    /// Why the model has no value model; `None` if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_gap: Option<Box<str>>,
    /// Segments that retained their ids: see [`lineage::inherit_segment_ids`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lineage: Option<lineage::SegmentLineage>,
}

/// Calibration of the outlier flag.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutlierReport {
    pub method: CalibrationMethod,
    /// Rows that the p-values are ranks among.
    pub calibrating_rows: u64,
    /// 1 / (calibrating rows + 1): no row is flagged at a smaller rate.
    pub smallest_p_value: f64,
    /// p-values of one half of the calibrating rows, computed from the other half.
    pub checks: Vec<OutlierCheck>,
}

/// The rows that calibrate the outlier flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationMethod {
    /// The held-out rows.
    HeldOut,
    /// All rows, each measured against the others: of few rows too few are held out.
    LeaveOneOut,
}

/// Share of rows flagged at a significance level, on rows that the calibration did not use.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OutlierCheck {
    pub alpha: f64,
    /// Rows tested; the expected share of flagged rows is `alpha`.
    pub rows: u64,
    pub flagged: u64,
}

/// Diagnostics of the k-means starts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KmeansDiagnostics {
    /// Iterations of the best start.
    pub iterations: usize,
    /// Index of the best start, from 0.
    pub start: usize,
    /// Final inertia of each start.
    pub inertia_by_start: Vec<f64>,
}
