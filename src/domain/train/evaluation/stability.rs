//! Stability of a partition: bootstrap, other seeds, slices of the rows, and noise on features.
//!
//! The bootstrap Jaccard index of a segment follows Hennig (2007, *Cluster-wise assessment of
//! cluster stability*). The algorithm runs again on rows drawn with replacement, and the segment
//! is compared with the most similar new segment, over the rows drawn. The limits of the reading
//! are those of Hennig's R package `fpc`.

use std::collections::BTreeMap;

use ndarray::Array2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::domain::feature::{FeatureRow, FeatureValue};
use crate::domain::stats::RandomStream;
use crate::domain::train::evaluation::external_indices::{
    LabelContingency, SegmentLabel, adjusted_rand,
};
use crate::domain::train::{EncodedDataset, PrototypeClusters, TrainingError};

/// Number and kind of stability trials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StabilityTrials {
    /// Runs on rows drawn with replacement (bootstrap), 0..=1000.
    pub bootstraps: usize,
    /// Runs from other seeds, 0..=100.
    pub seeds: usize,
    /// Standard deviation of the noise on each encoded column, as a share of the standard
    /// deviation of the column. 0..=1; 0: no such trial.
    pub noise: f64,
    /// Maximum number of rows for all trials; more rows are sampled. At least 100.
    pub rows: usize,
}

impl Default for StabilityTrials {
    fn default() -> Self {
        Self { bootstraps: 20, seeds: 3, noise: 0.05, rows: 5000 }
    }
}

/// Row sets for separate clusterings, by the values of one feature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSlices {
    pub feature: Box<str>,
    /// Value → rows, ascending.
    pub rows: BTreeMap<Box<str>, Vec<usize>>,
}

/// Maximum number of slices per feature; the largest are used.
pub(crate) const MAX_SLICES: usize = 12;
/// Minimum number of rows per segment in a slice; smaller slices are not informative.
const SLICE_ROWS_PER_SEGMENT: usize = 20;

impl RowSlices {
    /// Groups rows by a feature. Numbers are values too, for example a month or a store.
    pub fn by_feature(feature: &str, index: usize, rows: &[&FeatureRow]) -> Self {
        let mut slices: BTreeMap<Box<str>, Vec<usize>> = BTreeMap::new();
        for (place, row) in rows.iter().enumerate() {
            let name: Box<str> = match row.0.get(index) {
                Some(FeatureValue::Category(name)) => name.clone(),
                Some(FeatureValue::Number(number)) => number.to_string().into(),
                Some(FeatureValue::Missing) | None => continue,
            };
            slices.entry(name).or_default().push(place);
        }
        Self { feature: feature.into(), rows: slices }
    }

    /// The largest slices with at least `least` rows; of equally large ones the first by name.
    fn largest_slices(&self, least: usize) -> Vec<(&str, &[usize])> {
        let mut found: Vec<(&str, &[usize])> =
            self.rows.iter().map(|(name, rows)| (&**name, &rows[..])).collect();
        found.retain(|(_, rows)| rows.len() >= least);
        found.sort_by_key(|(_, rows)| std::cmp::Reverse(rows.len()));
        found.truncate(MAX_SLICES);
        found
    }
}

/// Results of the stability trials.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StabilityReport {
    /// One entry per segment, in the candidate's order; empty without bootstraps.
    pub segments: Vec<SegmentStability>,
    /// Mean over the segments; `None` without bootstraps.
    pub mean_jaccard: Option<f64>,
    /// Adjusted Rand index of runs from other seeds.
    pub seeds: Option<RandAgreement>,
    pub slices: Vec<SliceStability>,
    /// Share of rows that retain their segment under noise.
    pub kept_under_noise: Option<f64>,
    /// Rows used in the trials.
    pub rows: usize,
}

/// Stability of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SegmentStability {
    /// Mean bootstrap Jaccard index, 0..=1.
    pub jaccard: f64,
    pub reading: StabilityRating,
}

/// Interpretation of a mean bootstrap Jaccard index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StabilityRating {
    /// Below 0.60: not reliable.
    Unstable,
    /// Below 0.75: a pattern exists, but its members are uncertain.
    Doubtful,
    /// Below 0.85.
    Stable,
    HighlyStable,
}

impl StabilityRating {
    /// Applies the limits above.
    pub fn from_jaccard(jaccard: f64) -> Self {
        match jaccard {
            j if j < 0.60 => Self::Unstable,
            j if j < 0.75 => Self::Doubtful,
            j if j < 0.85 => Self::Stable,
            _ => Self::HighlyStable,
        }
    }
}

/// Mean and minimum of the adjusted Rand index over several runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RandAgreement {
    pub mean: f64,
    pub least: f64,
}

impl RandAgreement {
    fn from_values(values: &[f64]) -> Option<Self> {
        let least = values.iter().copied().reduce(f64::min)?;
        Some(Self { mean: values.iter().sum::<f64>() / values.len() as f64, least })
    }
}

/// Adjusted Rand index of a slice clustered separately, compared with the same rows in the
/// clustering of all rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SliceStability {
    pub feature: Box<str>,
    pub value: Box<str>,
    pub rows: usize,
    pub adjusted_rand: f64,
}

/// Runs the candidate's algorithm again, on other rows or from another seed.
pub(crate) type RefitFunction<'a> =
    dyn Fn(&EncodedDataset, u64) -> Result<PrototypeClusters, TrainingError> + Sync + 'a;

/// A candidate, with the function that fits it again.
pub(crate) struct StabilitySubject<'a> {
    pub data: &'a EncodedDataset,
    pub clusters: &'a PrototypeClusters,
    pub slices: &'a [RowSlices],
    pub refit: &'a RefitFunction<'a>,
    /// Seed of the candidate.
    pub seed: u64,
}

impl std::fmt::Debug for StabilitySubject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StabilitySubject").field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl StabilitySubject<'_> {
    /// Runs all requested trials, with random streams of `seed` from `first_stream` on.
    pub(crate) fn measure(
        &self,
        trials: &StabilityTrials,
        seed: u64,
        first_stream: u64,
    ) -> Result<StabilityReport, TrainingError> {
        let mut rows: Vec<usize> = (0..self.data.rows()).collect();
        if rows.len() > trials.rows {
            RandomStream::new(seed, first_stream).shuffle(&mut rows);
            rows.truncate(trials.rows);
            rows.sort_unstable();
        }
        // Streams: one for the sample of rows, one for the noise, then one per bootstrap.
        let jaccards = self.bootstrap_jaccard(&rows, trials.bootstraps, seed, first_stream + 2)?;
        let segments: Vec<SegmentStability> = jaccards
            .into_iter()
            .map(|jaccard| SegmentStability {
                jaccard,
                reading: StabilityRating::from_jaccard(jaccard),
            })
            .collect();
        let mean_jaccard =
            RandAgreement::from_values(&segments.iter().map(|s| s.jaccard).collect::<Vec<_>>());
        Ok(StabilityReport {
            mean_jaccard: mean_jaccard.map(|all| all.mean),
            segments,
            seeds: RandAgreement::from_values(&self.seed_agreement(&rows, trials.seeds)?),
            slices: self.slice_stability(&rows)?,
            kept_under_noise: (trials.noise > 0.0).then(|| {
                self.share_kept_under_noise(
                    &rows,
                    trials.noise,
                    &mut RandomStream::new(seed, first_stream + 1),
                )
            }),
            rows: rows.len(),
        })
    }

    /// Mean bootstrap Jaccard index of each segment; empty without bootstraps.
    fn bootstrap_jaccard(
        &self,
        rows: &[usize],
        bootstraps: usize,
        seed: u64,
        first_stream: u64,
    ) -> Result<Vec<f64>, TrainingError> {
        let all: Vec<Vec<f64>> = (0..bootstraps)
            .into_par_iter()
            .map(|bootstrap| {
                self.one_bootstrap(rows, RandomStream::new(seed, first_stream + bootstrap as u64))
            })
            .collect::<Result<_, TrainingError>>()?;
        if all.is_empty() {
            return Ok(vec![]);
        }
        let mut means = vec![0.0; self.clusters.segments()];
        for (segment, mean) in means.iter_mut().enumerate() {
            *mean = all.iter().map(|jaccards| jaccards[segment]).sum::<f64>() / bootstraps as f64;
        }
        Ok(means)
    }

    /// Jaccard index of each segment in one clustering of rows drawn with replacement.
    fn one_bootstrap(
        &self,
        rows: &[usize],
        mut rng: RandomStream,
    ) -> Result<Vec<f64>, TrainingError> {
        let segments = self.clusters.segments();
        let mut drawn: Vec<usize> =
            (0..rows.len()).map(|_| rows[rng.uniform_below(rows.len())]).collect();
        drawn.sort_unstable();
        // A sample that cannot be clustered counts as a segment not found.
        let Some(found) = self.refit_rows(&drawn, self.seed)? else {
            return Ok(vec![0.0; segments]);
        };
        // Rows drawn several times count once, as in Hennig's definition.
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (place, row) in drawn.iter().enumerate() {
            if place == 0 || drawn[place - 1] != *row {
                before.push(self.clusters.labels[*row]);
                after.push(found.labels[place]);
            }
        }
        let table = LabelContingency::new(&before, &after);
        Ok((0..segments as u32).map(|segment| table.best_jaccard(segment)).collect())
    }

    /// Adjusted Rand index of each run from another seed; 0 if the run finds no clusters.
    fn seed_agreement(&self, rows: &[usize], seeds: usize) -> Result<Vec<f64>, TrainingError> {
        let labels = self.labels_of(rows);
        (0..seeds)
            .into_par_iter()
            .map(|other| {
                let found = self.refit_rows(rows, self.seed.wrapping_add(1 + other as u64))?;
                Ok(found.map_or(0.0, |found| adjusted_rand(&labels, &found.labels)))
            })
            .collect()
    }

    fn slice_stability(&self, rows: &[usize]) -> Result<Vec<SliceStability>, TrainingError> {
        let least = SLICE_ROWS_PER_SEGMENT * self.clusters.segments();
        let mut found = Vec::new();
        for slices in self.slices {
            for (value, slice) in slices.largest_slices(least) {
                // `rows` is sorted, so a binary search finds the members of the sample.
                let inside: Vec<usize> =
                    slice.iter().copied().filter(|row| rows.binary_search(row).is_ok()).collect();
                let Some(apart) = self.refit_rows(&inside, self.seed)? else { continue };
                found.push(SliceStability {
                    feature: slices.feature.clone(),
                    value: value.into(),
                    rows: inside.len(),
                    adjusted_rand: adjusted_rand(&self.labels_of(&inside), &apart.labels),
                });
            }
        }
        Ok(found)
    }

    /// Share of rows with the same segment under uniform noise. The width of the noise is √12
    /// times its standard deviation.
    fn share_kept_under_noise(&self, rows: &[usize], share: f64, rng: &mut RandomStream) -> f64 {
        let still = self.data.select(rows);
        let (_, variance) = self.data.column_moments();
        let widths: Vec<f64> = variance.iter().map(|v| (12.0 * v).sqrt() * share).collect();
        let moved = Array2::from_shape_fn((rows.len(), still.columns()), |(row, column)| {
            let noise = widths[column] * (rng.uniform_unit() - 0.5);
            (f64::from(still.row(row)[column]) + noise) as f32
        });
        let before = self.clusters.assign_rows(&still);
        let after = self.clusters.assign_rows(&still.with_matrix(moved));
        let kept = before.iter().zip(&after).filter(|(a, b)| a == b).count();
        kept as f64 / rows.len().max(1) as f64
    }

    fn labels_of(&self, rows: &[usize]) -> Vec<SegmentLabel> {
        rows.iter().map(|row| self.clusters.labels[*row]).collect()
    }

    /// Clusters `rows` again; `None` if the algorithm cannot cluster them.
    fn refit_rows(
        &self,
        rows: &[usize],
        seed: u64,
    ) -> Result<Option<PrototypeClusters>, TrainingError> {
        match (self.refit)(&self.data.select(rows), seed) {
            Ok(clusters) => Ok(Some(clusters)),
            Err(TrainingError::TooFewDistinct { .. } | TrainingError::EmptySegment { .. }) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
