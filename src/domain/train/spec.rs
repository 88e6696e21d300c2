//! What to train: the settings of one run, checked before anything starts.
//!
//! Everything that came after the first models has a default, so that a spec
//! stored by an older run stays readable and means what it meant.

use serde::{Deserialize, Serialize};

use crate::domain::fault::{Fault, Faults};
use crate::domain::feature::FeatureDef;
use crate::domain::model::MAX_SEGMENTS;
use crate::domain::train::clustering::algorithm::Algorithm;
use crate::domain::train::clustering::kmeans::Kmeans;
use crate::domain::train::data::feature_selection::{FeatureChoice, Filter};
use crate::domain::train::evaluation::stability::Trials;
use crate::domain::train::projection::metric_space::Distance;
use crate::domain::train::selection::baseline::RfmFeatures;
use crate::domain::train::selection::leaderboard::{Gates, Weights};

/// Settings of one training run. Only the checked kind can train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSpec {
    /// Segments to find, 1..=256: a number, or a range to choose from.
    pub segments: Segments,
    /// Which algorithms compete; those that find the number of segments themselves
    /// are tried once. Empty: k-means alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<Algorithm>,
    pub distance: Distance,
    /// Rows are compared along the principal components that keep this share of
    /// their variance, above 0 and at most 1. `None`: by the encoded columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub components: Option<f64>,
    /// Independent starts of k-means; the one of lowest inertia wins. 1..=1000.
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
    /// Share of the other rows that candidates are compared on and not fitted
    /// to, 0..=0.5.
    pub validation_share: f64,
    /// With fewer rows than this no model is trained: at least 20, and at
    /// least two a segment.
    pub minimum_rows: usize,
    /// The only features to cluster by; empty: all that have an encoding.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<FeatureChoice>,
    /// Features that have an encoding and are yet not clustered by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<FeatureChoice>,
    /// Rows that meet all of these are trained on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// Of more rows than this, as many are drawn by the seed. At least 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<usize>,
    /// Features whose values part the rows into slices that should be
    /// segmented alike: a country, a channel, a month.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Box<str>>,
    /// What the RFM baseline is scored by; without it there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<RfmFeatures>,
    pub stability: Trials,
    pub gates: Gates,
    pub weights: Weights,
}

/// How many segments to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number of segments, or a range: {\"from\": 4, \"to\": 8}")]
pub enum Segments {
    Exactly(usize),
    Within(SegmentRange),
}

/// Both ends are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentRange {
    pub from: usize,
    pub to: usize,
}

impl Segments {
    pub fn fewest(self) -> usize {
        match self {
            Self::Exactly(segments) => segments,
            Self::Within(range) => range.from,
        }
    }

    pub fn most(self) -> usize {
        match self {
            Self::Exactly(segments) => segments,
            Self::Within(range) => range.to,
        }
    }
}

impl From<usize> for Segments {
    fn from(segments: usize) -> Self {
        Self::Exactly(segments)
    }
}

impl Default for TrainSpec {
    fn default() -> Self {
        let kmeans = Kmeans::default();
        Self {
            segments: Segments::Exactly(6),
            algorithms: vec![],
            distance: Distance::Euclidean,
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
            baseline: None,
            stability: Trials::default(),
            gates: Gates::default(),
            weights: Weights::default(),
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
    /// What competes, with all its settings.
    pub fn competitors(&self) -> Vec<Algorithm> {
        let run = Kmeans {
            starts: Some(self.starts),
            max_iterations: Some(self.max_iterations),
            tolerance: Some(self.tolerance),
        };
        if self.algorithms.is_empty() {
            return vec![Algorithm::Kmeans(run)];
        }
        let complete = |listed: &Algorithm| match listed {
            Algorithm::Kmeans(own) => Algorithm::Kmeans(own.or(&run)),
            other => other.clone(),
        };
        self.algorithms.iter().map(complete).collect()
    }

    /// Every setting that is out of range, at once.
    pub fn check(self) -> Result<CheckedSpec, Faults> {
        let mut faults = Faults::default();
        self.check_segments(&mut faults);
        for (place, algorithm) in self.algorithms.iter().enumerate() {
            algorithm.check(&format!("algorithms[{place}]"), &mut faults);
        }
        if let Some(share) = self.components
            && !(share > 0.0 && share <= 1.0)
        {
            let problem = format!("must be above 0 and at most 1, is {share}");
            faults.push(Fault::new("components", problem));
        }
        within(&mut faults, "starts", self.starts, 1..=1000);
        within(&mut faults, "max_iterations", self.max_iterations, 1..=10_000);
        within(&mut faults, "tolerance", self.tolerance, 0.0..=1.0);
        within(&mut faults, "holdout_share", self.holdout_share, 0.05..=0.5);
        within(&mut faults, "validation_share", self.validation_share, 0.0..=0.5);
        let fewest = self.segments.most().saturating_mul(2).max(20);
        if self.minimum_rows < fewest {
            let problem = format!(
                "must be at least {fewest} for {} segments, is {}",
                self.segments.most(),
                self.minimum_rows
            );
            faults.push(Fault::new("minimum_rows", problem));
        }
        if let Some(sample) = self.sample
            && sample < self.minimum_rows
        {
            let least = self.minimum_rows;
            let problem = format!("must be at least {least} (`minimum_rows`), is {sample}");
            faults.push(Fault::new("sample", problem));
        }
        self.check_choices(&mut faults);
        within(&mut faults, "stability.bootstraps", self.stability.bootstraps, 0..=1000);
        within(&mut faults, "stability.seeds", self.stability.seeds, 0..=100);
        within(&mut faults, "stability.noise", self.stability.noise, 0.0..=1.0);
        within(&mut faults, "stability.rows", self.stability.rows, 100..=usize::MAX);
        self.gates.check(&mut faults, self.stability.bootstraps);
        self.weights.check(&mut faults);
        faults.or(CheckedSpec(self))
    }

    fn check_segments(&self, faults: &mut Faults) {
        match self.segments {
            Segments::Exactly(segments) => within(faults, "segments", segments, 1..=MAX_SEGMENTS),
            Segments::Within(range) => {
                within(faults, "segments.from", range.from, 1..=MAX_SEGMENTS);
                within(faults, "segments.to", range.to, range.from..=MAX_SEGMENTS);
            }
        }
    }

    fn check_choices(&self, faults: &mut Faults) {
        for (list, choices) in [("include", &self.include), ("exclude", &self.exclude)] {
            for (place, choice) in choices.iter().enumerate() {
                choice.check(&format!("{list}[{place}]"), faults);
            }
        }
        for choice in &self.exclude {
            if self.include.iter().any(|other| other.feature == choice.feature) {
                let problem = format!("`{}` is in `include` too", choice.feature);
                faults.push(Fault::new("exclude", problem));
            }
        }
        for (place, filter) in self.filters.iter().enumerate() {
            filter.check(&format!("filters[{place}]"), faults);
        }
    }

    /// Every feature named that is not among `defs`, or cannot be what it is
    /// named for, at once.
    pub fn check_features(&self, defs: &[FeatureDef]) -> Result<(), Faults> {
        let mut faults = Faults::default();
        let mut named = |path: String, name: &str, encoded: bool| {
            let def = defs.iter().find(|def| &*def.name == name);
            let problem = match def {
                None => format!("`{name}` is not a feature of this set"),
                Some(def) if encoded && def.encoding.is_none() => {
                    format!("`{name}` has no encoding, so that no model uses it")
                }
                Some(_) => return,
            };
            faults.push(Fault::new(path, problem));
        };
        for (list, choices) in [("include", &self.include), ("exclude", &self.exclude)] {
            for (place, choice) in choices.iter().enumerate() {
                named(format!("{list}[{place}].feature"), &choice.feature, true);
            }
        }
        for (place, filter) in self.filters.iter().enumerate() {
            named(format!("filters[{place}].feature"), &filter.feature, false);
        }
        for (place, slice) in self.slices.iter().enumerate() {
            named(format!("slices[{place}]"), slice, false);
        }
        if let Some(rfm) = &self.baseline {
            named("baseline.recency".into(), &rfm.recency, false);
            named("baseline.frequency".into(), &rfm.frequency, false);
            named("baseline.monetary".into(), &rfm.monetary, false);
        }
        faults.or(())
    }
}

/// Notes a fault unless `value` is within `range`; nothing is within a range
/// from above.
pub(super) fn within<T: PartialOrd + std::fmt::Display + Copy>(
    faults: &mut Faults,
    path: &str,
    value: T,
    range: std::ops::RangeInclusive<T>,
) {
    if !range.contains(&value) {
        let (from, to) = range.into_inner();
        faults.push(Fault::new(path, format!("must be from {from} to {to}, is {value}")));
    }
}
