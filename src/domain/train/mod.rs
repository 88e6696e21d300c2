//! Training: feature rows in, a sealed model out.
//!
//! *Architecture invariant:* the same rows, spec and code give the same bytes,
//! whatever the number of threads. Rows come in canonical order (by customer
//! id); work runs in the rayon pool the caller has installed.

pub(crate) mod assembly;
pub mod clustering;
pub mod data;
pub mod evaluation;
pub mod lineage;
pub mod projection;
mod run;
pub mod selection;
mod spec;
mod spec_patch;

use serde::Serialize;

use crate::domain::encode;
use crate::domain::fault::Faults;
use crate::domain::model::{ArtifactError, MAX_SEGMENTS, Model};
use crate::domain::train::clustering::ward::Merge;
use crate::domain::train::data::split::SplitCheck;
use crate::domain::train::selection::leaderboard::{Cost, Leaderboard};

pub use assembly::decision_function::Found;
pub use clustering::algorithm::Algorithm;
pub use clustering::clusters::Clusters;
pub use data::dataset::{Dataset, Pause};
pub use data::feature_selection::{FeatureChoice, Filter};
pub use data::reservoir::{DataReport, Gather};
pub use projection::metric_space::Distance;
pub use run::{train, train_by};
pub use selection::effort::Effort;
pub use spec::{CheckedSpec, SegmentRange, Segments, TrainSpec};

/// Random streams of one seed. The silhouette's sample takes 3, the starts of
/// k-means those from 16 on, trials of stability those from 2³² on.
const SPLIT_STREAM: u64 = 0;
const SELF_TEST_STREAM: u64 = 1;
const SAMPLE_STREAM: u64 = 2;

/// Watches a run and may end it. Called from any thread.
pub trait Progress: Sync {
    /// `done` of `total` steps of a stage are over. The stages, after whoever gathers
    /// the rows had theirs, are `encode`, `baseline`, `candidates`, `stability`, `cluster` and `finish`.
    fn report(&self, stage: &'static str, done: u64, total: u64);
    /// Asked between steps; `true` ends the run with [`FitError::Stopped`].
    fn should_stop(&self) -> bool;
    /// How a thread that works pauses now and then; not at all where nobody minds.
    fn pause(&self) -> Pause {
        data::dataset::no_pause
    }
    /// What was taken since this was last asked; nothing where nobody measures.
    fn cost(&self) -> Cost {
        Cost::default()
    }
}

/// Why nothing was trained; says what would be right.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    #[error("there are {rows} rows; training needs at least {minimum} (`minimum_rows`)")]
    TooFewRows { rows: usize, minimum: usize },
    #[error(
        "{segments} segments need as many different rows, but there are {distinct}: ask for \
         at most {distinct} segments"
    )]
    TooFewDistinct { distinct: usize, segments: usize },
    #[error("segment {segment} of {segments} is left without rows: ask for fewer segments")]
    EmptySegment { segment: usize, segments: usize },
    #[error("row {row} has {found} values, the feature set has {expected}")]
    RowLength { row: usize, found: usize, expected: usize },
    #[error("the spec does not fit the features: {0}")]
    Spec(Faults),
    #[error("no candidate passes the gates: {refusals}")]
    NoneQualifies { refusals: String },
    #[error("row {row} is not finite in column {column} of its encoding")]
    NotFinite { row: usize, column: usize },
    #[error(
        "a covariance has no inverse: raise the mixture's `floor`, which is {floor}, or ask for \
         fewer segments"
    )]
    Degenerate { floor: f64 },
    #[error(
        "all {rows} rows are noise: nowhere are they dense enough for a segment; lower \
         `min_cluster_size` or `min_samples`, or raise `eps`"
    )]
    AllNoise { rows: usize },
    #[error("it finds {found} segments, a model has {MAX_SEGMENTS} at most")]
    TooManySegments { found: usize },
    #[error("the encoded columns differ too little, or too much, to take other axes of them")]
    Axes,
    #[error("training was stopped before it was finished")]
    Stopped,
    #[error(transparent)]
    Encoder(#[from] encode::FitError),
    #[error("the trained model does not pass its own checks: {0}")]
    Artifact(#[from] ArtifactError),
}

impl FitError {
    /// Whether another algorithm, or another number of segments, may do with these
    /// rows.
    pub fn is_of_one_candidate(&self) -> bool {
        matches!(
            self,
            Self::TooFewDistinct { .. }
                | Self::EmptySegment { .. }
                | Self::Degenerate { .. }
                | Self::AllNoise { .. }
                | Self::TooManySegments { .. }
        )
    }
}

/// A finished run.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The sealed document; the model's id is its address.
    pub bytes: Vec<u8>,
    /// What opening `bytes` gives.
    pub model: Model,
    pub report: TrainReport,
}

/// The figures of one run, for people and for gates.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainReport {
    /// Rows given = fitted + held out.
    pub rows: u64,
    pub fitted_rows: u64,
    pub held_out_rows: u64,
    /// Width of the encoded vector.
    pub columns: usize,
    /// Along how many axes rows are compared: the columns, or the components kept.
    pub axes: usize,
    /// Features with an encoding that had no value in any fitted row.
    pub left_out: Vec<Box<str>>,
    /// Rows in each segment, in the order of the segments.
    pub sizes: Vec<u64>,
    /// Of a hierarchy: which segments join first when there are to be fewer. 0 is the
    /// first segment; their number + i is what join i made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub joins: Vec<Merge>,
    /// Rows in none.
    pub unassigned: u64,
    /// Sum of squared distances of the fitted rows to their prototypes.
    pub inertia: f64,
    /// Of k-means.
    #[serde(flatten)]
    pub search: Option<Search>,
    /// Mean simplified silhouette of the fitted rows; `None` with one segment.
    pub silhouette: Option<f64>,
    /// One half of the held-out rows, how far they are from everything judged by
    /// the other half.
    pub outliers: Vec<OutlierCheck>,
    /// How alike the fitted, the validation and the held-out rows are.
    pub split: SplitCheck,
    /// Every candidate with its figures and the reason for its place.
    pub leaderboard: Leaderboard,
    /// Which segments kept their names: see [`lineage::inherit`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lineage: Option<lineage::Lineage>,
}

/// How many rows that a limit has not seen lie beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OutlierCheck {
    pub alpha: f64,
    /// Rows judged; about `alpha` of them should be flagged.
    pub rows: u64,
    pub flagged: u64,
}

/// How k-means came by its clusters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Search {
    /// Iterations of the winning start.
    pub iterations: usize,
    /// The start that won, counted from 0.
    pub start: usize,
    /// The inertia each start ended with.
    pub inertia_by_start: Vec<f64>,
}
