//! Training: feature rows in, a sealed model out.
//!
//! *Architecture invariant:* the same rows, spec and code give the same bytes,
//! whatever the number of threads. Rows come in canonical order (by customer
//! id); work runs in the rayon pool the caller has installed.

mod spec;
pub mod dataset;
mod columns;
pub mod seed;
pub mod swap;
mod assign;
pub mod kmeans;
pub mod minibatch;
pub mod clusters;
mod profile;
mod finish;

use serde::Serialize;

use crate::domain::encode::{self, Encoder};
use crate::domain::feature::{FeatureDef, FeatureRow};
use crate::domain::id::FeatureSetId;
use crate::domain::model::{ArtifactError, Model};
use crate::domain::stats::Rng;
use crate::domain::time::Timestamp;

pub use clusters::Clusters;
pub use dataset::Dataset;
pub use spec::{CheckedSpec, TrainSpec};

/// Random streams of one seed; the starts of k-means take those from 16 on.
const SPLIT_STREAM: u64 = 0;
const SELF_TEST_STREAM: u64 = 1;

/// Watches a run and may end it. Called from any thread.
pub trait Progress: Sync {
    /// `done` of `total` steps of a stage (`encode`, `cluster`, `finish`) are over.
    fn report(&self, stage: &'static str, done: u64, total: u64);
    /// Asked between steps; `true` ends the run with [`FitError::Stopped`].
    fn should_stop(&self) -> bool;
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
    #[error("training was stopped before it was finished")]
    Stopped,
    #[error(transparent)]
    Encoder(#[from] encode::FitError),
    #[error("the trained model does not pass its own checks: {0}")]
    Artifact(#[from] ArtifactError),
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
    /// Features with an encoding that had no value in any fitted row.
    pub left_out: Vec<Box<str>>,
    /// Rows in each segment, in the order of the segments.
    pub sizes: Vec<u64>,
    /// Sum of squared distances of the fitted rows to their prototypes.
    pub inertia: f64,
    /// Lloyd iterations of the winning start.
    pub iterations: usize,
    /// The start that won, counted from 0.
    pub start: usize,
    /// The inertia each start ended with.
    pub inertia_by_start: Vec<f64>,
    /// Mean simplified silhouette of the fitted rows; `None` with one segment.
    pub silhouette: Option<f64>,
    /// One half of the held-out rows judged by limits from the other half.
    pub outliers: Vec<OutlierCheck>,
}

/// How many rows that a limit has not seen lie beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OutlierCheck {
    pub alpha: f64,
    /// Rows judged; about `alpha` of them should be flagged.
    pub rows: u64,
    pub flagged: u64,
}

/// Splits `rows`, fits the encoder, clusters, calibrates, describes and seals.
///
/// `rows` are in canonical order, each with one value for every one of `defs`;
/// `as_of` is the instant they describe.
pub fn train(
    spec: &CheckedSpec,
    feature_set: &FeatureSetId,
    defs: &[FeatureDef],
    rows: &[FeatureRow],
    as_of: Timestamp,
    progress: &dyn Progress,
) -> Result<Trained, FitError> {
    let settings = spec.spec();
    check_rows(settings, defs, rows)?;

    progress.report("encode", 0, 1);
    let mut rng = Rng::new(settings.seed, SPLIT_STREAM);
    let split = dataset::Split::draw(rows.len(), settings.holdout_share, &mut rng);
    let fitted: Vec<&FeatureRow> = split.fitted.iter().map(|row| &rows[*row]).collect();
    let encoder = Encoder::fit_some(defs, &fitted)?;
    let encoded = Dataset::encode(&encoder, rows);
    progress.report("encode", 1, 1);

    let best = kmeans::best_of(&encoded.select(&split.fitted), settings, progress)?;
    if progress.should_stop() {
        return Err(FitError::Stopped);
    }

    progress.report("finish", 0, 1);
    let given = finish::Given { settings, feature_set, defs, rows, as_of };
    let trained = finish::finish(&given, encoder, &encoded, &split, best)?;
    progress.report("finish", 1, 1);
    Ok(trained)
}

fn check_rows(spec: &TrainSpec, defs: &[FeatureDef], rows: &[FeatureRow]) -> Result<(), FitError> {
    if rows.len() < spec.minimum_rows {
        return Err(FitError::TooFewRows { rows: rows.len(), minimum: spec.minimum_rows });
    }
    match rows.iter().position(|row| row.0.len() != defs.len()) {
        None => Ok(()),
        Some(row) => {
            Err(FitError::RowLength { row, found: rows[row].0.len(), expected: defs.len() })
        }
    }
}
