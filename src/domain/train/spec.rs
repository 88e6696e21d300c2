//! What to train: the settings of one run, checked before anything starts.

use serde::{Deserialize, Serialize};

use crate::domain::fault::{Fault, Faults};
use crate::domain::model::MAX_SEGMENTS;

/// Settings of one training run. Only the checked kind can train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSpec {
    /// Segments to find, 1..=256.
    pub segments: usize,
    /// Independent k-means++ starts; the one of lowest inertia wins. 1..=1000.
    pub starts: usize,
    /// Lloyd iterations of one start at most, 1..=10000.
    pub max_iterations: usize,
    /// A start has converged once the squared movement of all centres is at
    /// most this share of the mean variance of the columns. 0..=1.
    pub tolerance: f64,
    pub seed: u64,
    /// Share of rows kept from the clustering to calibrate outlier limits on,
    /// 0.05..=0.5.
    pub holdout_share: f64,
    /// With fewer rows than this no model is trained: at least 20, and at
    /// least two a segment.
    pub minimum_rows: usize,
}

impl Default for TrainSpec {
    fn default() -> Self {
        Self {
            segments: 6,
            starts: 10,
            max_iterations: 300,
            tolerance: 1e-4,
            seed: 0,
            holdout_share: 0.2,
            minimum_rows: 200,
        }
    }
}

/// A spec in which every setting is within its range.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedSpec(TrainSpec);

impl CheckedSpec {
    pub fn spec(&self) -> &TrainSpec {
        &self.0
    }
}

impl TrainSpec {
    /// Every setting that is out of range, at once.
    pub fn check(self) -> Result<CheckedSpec, Faults> {
        let mut faults = Faults::default();
        let mut require = |holds: bool, path: &str, problem: String| {
            if !holds {
                faults.push(Fault::new(path, problem));
            }
        };
        require(
            (1..=MAX_SEGMENTS).contains(&self.segments),
            "segments",
            format!("must be from 1 to {MAX_SEGMENTS}, is {}", self.segments),
        );
        require(
            (1..=1000).contains(&self.starts),
            "starts",
            format!("must be from 1 to 1000, is {}", self.starts),
        );
        require(
            (1..=10_000).contains(&self.max_iterations),
            "max_iterations",
            format!("must be from 1 to 10000, is {}", self.max_iterations),
        );
        require(
            (0.0..=1.0).contains(&self.tolerance),
            "tolerance",
            format!("must be from 0 to 1, is {}", self.tolerance),
        );
        require(
            (0.05..=0.5).contains(&self.holdout_share),
            "holdout_share",
            format!("must be from 0.05 to 0.5, is {}", self.holdout_share),
        );
        let fewest = self.segments.saturating_mul(2).max(20);
        require(
            self.minimum_rows >= fewest,
            "minimum_rows",
            format!(
                "must be at least {fewest} for {} segments, is {}",
                self.segments, self.minimum_rows
            ),
        );
        faults.or(CheckedSpec(self))
    }
}
