//! Training spec: the settings of one run, validated before the run starts.
//!
//! Every field added after the first release of the format has a default, so the stored spec
//! of an older run stays readable and keeps its meaning.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::feature::{FeatureDefinition, Sensitivity};
use crate::domain::model::MAX_SEGMENTS;
use crate::domain::train::backtest;
use crate::domain::train::clustering::algorithm::ClusteringAlgorithm;
use crate::domain::train::clustering::kmeans::KmeansSettings;
use crate::domain::train::data::feature_selection::{self, FeatureChoice, RowFilter};
use crate::domain::train::data::outcomes;
use crate::domain::train::evaluation::stability::StabilityTrials;
use crate::domain::train::projection::distance::DistanceMeasure;
use crate::domain::train::range_check::check_range;
use crate::domain::train::selection::baseline::RfmFeatures;
use crate::domain::train::selection::criteria::{CandidateGates, CriterionWeights};

/// Settings of one training run. Only a [`CheckedTrainingSpec`] can train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingSpec {
    /// Number of segments, 1..=256: a number, a range to select from, or `automatic`.
    pub segments: SegmentCount,
    /// Algorithms to compare; one that finds the number of segments itself is tried once.
    /// Empty: k-means, Gaussian mixtures, and HDBSCAN with several sizes of the smallest segment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<ClusteringAlgorithm>,
    pub distance: DistanceMeasure,
    /// Explained variance ratio of the principal components in which rows are compared, above
    /// 0 and at most 1. `None`: rows are compared in the encoded columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub components: Option<f64>,
    /// Independent k-means starts; the one with the lowest inertia wins. 1..=1000.
    pub starts: usize,
    /// Upper limit of the Lloyd iterations of one start, 1..=10000.
    pub max_iterations: usize,
    /// Convergence criterion of a start: the squared movement of all centres is at most this
    /// share of the mean variance of the columns. 0..=1.
    pub tolerance: f64,
    pub seed: u64,
    /// Share of rows excluded from clustering, to calibrate outlier limits on (split conformal
    /// calibration). 0.05..=0.5.
    pub holdout_share: f64,
    /// Share of the other rows on which candidates are compared but not fitted, 0..=0.5.
    pub validation_share: f64,
    /// Minimum number of rows to train a model: at least 20, and at least two per segment.
    pub minimum_rows: usize,
    /// The only features to cluster by; empty: all features with an encoding.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<FeatureChoice>,
    /// Features with an encoding that are excluded from clustering.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<FeatureChoice>,
    /// Conditions that a row must meet to be used for training.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<RowFilter>,
    /// Maximum number of training rows; more rows are sampled by the seed. At least 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<usize>,
    /// Features that divide the rows into slices, which should give similar segments:
    /// for example a country, a channel or a month.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Box<str>>,
    /// Features that no model reads, by which candidates are judged and earlier models are
    /// back-tested: at most ten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<Box<str>>,
    /// Features of the RFM baseline; `None`: no baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<RfmFeatures>,
    /// Lengths in days of the periods over which the assignments of earlier models are back-tested:
    /// at most six, 1..=730 each. Empty: no back-test. No effect on the model.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backtest_horizons_days: Vec<u32>,
    pub stability: StabilityTrials,
    pub gates: CandidateGates,
    pub weights: CriterionWeights,
}

/// Number of segments to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a number of segments, a range: {\"from\": 4, \"to\": 8}, or \"automatic\""
)]
pub enum SegmentCount {
    Exact(usize),
    Range(SegmentCountRange),
    Automatic(AutomaticSegmentCount),
}

/// The word `automatic`: from two segments to as many as the rows allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutomaticSegmentCount {
    Automatic,
}

/// Inclusive range of segment numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentCountRange {
    pub from: usize,
    pub to: usize,
}

/// End of the automatic range, and the fewest rows per segment in it.
const MOST_AUTOMATIC_SEGMENTS: usize = 64;
const AUTOMATIC_ROWS_PER_SEGMENT: usize = 20;

impl SegmentCount {
    /// From two segments to as many as the rows allow.
    pub const AUTOMATIC: Self = Self::Automatic(AutomaticSegmentCount::Automatic);

    /// The numbers of segments to try with `rows` rows for training.
    pub fn range(self, rows: usize) -> SegmentCountRange {
        match self {
            Self::Exact(segments) => SegmentCountRange { from: segments, to: segments },
            Self::Range(range) => range,
            Self::Automatic(_) => {
                let most = (rows / AUTOMATIC_ROWS_PER_SEGMENT).min(MOST_AUTOMATIC_SEGMENTS);
                SegmentCountRange { from: 2, to: most.max(2) }
            }
        }
    }

    /// The numbers of segments to try at most, with any number of rows.
    pub(crate) fn widest_range(self) -> SegmentCountRange {
        self.range(usize::MAX)
    }

    /// Checks that the numbers are from 1 to [`MAX_SEGMENTS`], and in order.
    pub(crate) fn check(self) -> Result<(), String> {
        let SegmentCountRange { from, to } = self.widest_range();
        if (1..=to).contains(&from) && to <= MAX_SEGMENTS {
            return Ok(());
        }
        Err(format!("must be from 1 to {MAX_SEGMENTS}, the smaller number first"))
    }

    /// The largest number that was asked for; `None`: it depends on the rows.
    pub(crate) fn largest_requested(self) -> Option<usize> {
        match self {
            Self::Exact(segments) => Some(segments),
            Self::Range(range) => Some(range.to),
            Self::Automatic(_) => None,
        }
    }
}

impl FromStr for SegmentCount {
    type Err = String;

    /// Reads `automatic`, a number such as `6`, or a range such as `4..8`.
    fn from_str(text: &str) -> Result<Self, String> {
        let count = |text: &str| {
            let count = text.trim().parse();
            count.map_err(|_| {
                format!("`{text}` is not `automatic`, a number, or a range such as 4..8")
            })
        };
        match text.trim().split_once("..") {
            None if text.trim() == "automatic" => Ok(Self::AUTOMATIC),
            None => count(text).map(Self::Exact),
            Some((from, to)) => {
                Ok(Self::Range(SegmentCountRange { from: count(from)?, to: count(to)? }))
            }
        }
    }
}

impl From<usize> for SegmentCount {
    fn from(segments: usize) -> Self {
        Self::Exact(segments)
    }
}

impl Default for TrainingSpec {
    fn default() -> Self {
        let kmeans = KmeansSettings::default();
        Self {
            segments: SegmentCount::AUTOMATIC,
            algorithms: vec![],
            distance: DistanceMeasure::Euclidean,
            components: None,
            starts: kmeans.starts(),
            max_iterations: kmeans.max_iterations(),
            tolerance: kmeans.tolerance(),
            seed: 0,
            holdout_share: 0.2,
            validation_share: 0.2,
            minimum_rows: 200,
            include: vec![],
            exclude: vec![],
            filters: vec![],
            sample: None,
            slices: vec![],
            outcomes: vec![],
            baseline: None,
            backtest_horizons_days: vec![],
            stability: StabilityTrials::default(),
            gates: CandidateGates::default(),
            weights: CriterionWeights::default(),
        }
    }
}

/// A spec with every setting in its range.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedTrainingSpec(TrainingSpec);

impl CheckedTrainingSpec {
    pub(crate) fn spec(&self) -> &TrainingSpec {
        &self.0
    }
}

impl TrainingSpec {
    /// The algorithms to compare, with all their settings.
    pub(crate) fn competing_algorithms(&self) -> Vec<ClusteringAlgorithm> {
        let run = KmeansSettings {
            starts: Some(self.starts),
            max_iterations: Some(self.max_iterations),
            tolerance: Some(self.tolerance),
        };
        if self.algorithms.is_empty() {
            return ClusteringAlgorithm::automatic(run);
        }
        let mut competitors = self.algorithms.clone();
        for algorithm in &mut competitors {
            if let ClusteringAlgorithm::Kmeans(own) = algorithm {
                *own = own.with_defaults_from(&run);
            }
        }
        competitors
    }

    /// Validates all settings; the error lists every setting out of range.
    pub fn check(self) -> Result<CheckedTrainingSpec, ValidationFaults> {
        let mut faults = ValidationFaults::default();
        self.check_segments(&mut faults);
        for (place, algorithm) in self.algorithms.iter().enumerate() {
            algorithm.check(&format!("algorithms[{place}]"), &mut faults);
        }
        if let Some(share) = self.components
            && !(share > 0.0 && share <= 1.0)
        {
            let problem = format!("must be above 0 and at most 1, is {share}");
            faults.push(ValidationFault::new("components", problem));
        }
        check_range(&mut faults, "starts", self.starts, 1..=1000);
        check_range(&mut faults, "max_iterations", self.max_iterations, 1..=10_000);
        check_range(&mut faults, "tolerance", self.tolerance, 0.0..=1.0);
        check_range(&mut faults, "holdout_share", self.holdout_share, 0.05..=0.5);
        check_range(&mut faults, "validation_share", self.validation_share, 0.0..=0.5);
        let largest = self.segments.largest_requested().unwrap_or_default();
        let fewest = largest.saturating_mul(2).max(20);
        if self.minimum_rows < fewest {
            let problem = format!(
                "must be at least {fewest} for {largest} segments, is {}",
                self.minimum_rows
            );
            faults.push(ValidationFault::new("minimum_rows", problem));
        }
        if let Some(sample) = self.sample
            && sample < self.minimum_rows
        {
            let least = self.minimum_rows;
            let problem = format!("must be at least {least} (`minimum_rows`), is {sample}");
            faults.push(ValidationFault::new("sample", problem));
        }
        self.check_choices(&mut faults);
        outcomes::check_names(&self.outcomes, &mut faults);
        if let Err(problem) = backtest::check_horizons(&self.backtest_horizons_days) {
            faults.push(ValidationFault::new("backtest_horizons_days", problem));
        }
        check_range(&mut faults, "stability.bootstraps", self.stability.bootstraps, 0..=1000);
        check_range(&mut faults, "stability.seeds", self.stability.seeds, 0..=100);
        check_range(&mut faults, "stability.noise", self.stability.noise, 0.0..=1.0);
        check_range(&mut faults, "stability.rows", self.stability.rows, 100..=usize::MAX);
        self.gates.check(&mut faults, self.stability.bootstraps);
        self.weights.check(&mut faults);
        faults.into_result(CheckedTrainingSpec(self))
    }

    fn check_segments(&self, faults: &mut ValidationFaults) {
        match self.segments {
            SegmentCount::Exact(segments) => {
                check_range(faults, "segments", segments, 1..=MAX_SEGMENTS);
            }
            SegmentCount::Range(range) => {
                check_range(faults, "segments.from", range.from, 1..=MAX_SEGMENTS);
                check_range(faults, "segments.to", range.to, range.from..=MAX_SEGMENTS);
            }
            SegmentCount::Automatic(_) => {}
        }
    }

    fn check_choices(&self, faults: &mut ValidationFaults) {
        for (list, choices) in [("include", &self.include), ("exclude", &self.exclude)] {
            for (place, choice) in choices.iter().enumerate() {
                choice.check(&format!("{list}[{place}]"), faults);
            }
        }
        for choice in &self.exclude {
            if self.include.iter().any(|other| other.feature == choice.feature) {
                let problem = format!("`{}` is in `include` too", choice.feature);
                faults.push(ValidationFault::new("exclude", problem));
            }
        }
        for (place, filter) in self.filters.iter().enumerate() {
            filter.check(&format!("filters[{place}]"), faults);
        }
    }

    /// Validates the features that the spec names; the error lists every feature that is not
    /// in `defs`, and every included or excluded feature without an encoding.
    pub fn check_features(&self, defs: &[FeatureDefinition]) -> Result<(), ValidationFaults> {
        let mut faults = ValidationFaults::default();
        for (list, choices) in [("include", &self.include), ("exclude", &self.exclude)] {
            for (place, choice) in choices.iter().enumerate() {
                let (path, name) = (format!("{list}[{place}].feature"), &*choice.feature);
                if let Some(def) = find_feature(defs, &path, name, &mut faults)
                    && def.encoding.is_none()
                {
                    let problem = format!("`{name}` has no encoding, so no model uses it");
                    faults.push(ValidationFault::new(path, problem));
                }
            }
        }
        for (place, filter) in self.filters.iter().enumerate() {
            find_feature(defs, &format!("filters[{place}].feature"), &filter.feature, &mut faults);
        }
        for (place, slice) in self.slices.iter().enumerate() {
            find_feature(defs, &format!("slices[{place}]"), slice, &mut faults);
        }
        let read = feature_selection::selected(defs, &self.include, &self.exclude);
        for (place, name) in self.outcomes.iter().enumerate() {
            let path = format!("outcomes[{place}]");
            let Some(def) = find_feature(&read, &path, name, &mut faults) else { continue };
            let problem = if def.sensitivity == Sensitivity::Sensitive {
                "is sensitive: it must not decide on segments"
            } else if def.encoding.is_some() {
                "has an encoding, so the model reads it and segments differ in it in any case: \
                 list it in `exclude`"
            } else {
                continue;
            };
            faults.push(ValidationFault::new(path, format!("`{name}` {problem}")));
        }
        if let Some(rfm) = &self.baseline {
            find_feature(defs, "baseline.recency", &rfm.recency, &mut faults);
            find_feature(defs, "baseline.frequency", &rfm.frequency, &mut faults);
            find_feature(defs, "baseline.monetary", &rfm.monetary, &mut faults);
        }
        faults.into_result(())
    }
}

/// The feature `name`; adds a fault if it does not exist.
fn find_feature<'a>(
    defs: &'a [FeatureDefinition],
    path: &str,
    name: &str,
    faults: &mut ValidationFaults,
) -> Option<&'a FeatureDefinition> {
    let found = defs.iter().find(|def| &*def.name == name);
    if found.is_none() {
        faults.push(ValidationFault::new(path, format!("`{name}` is not a feature of this set")));
    }
    found
}
