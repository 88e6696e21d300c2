//! Whether a partition would be found again: on other customers, from another
//! seed, within a country, and with features that are slightly off.
//!
//! Each segment's bootstrap Jaccard is Hennig's (2007, *Cluster-wise assessment
//! of cluster stability*): the algorithm is run again on rows drawn with
//! replacement, and the segment is compared with the new segment most like it,
//! over the rows drawn. The limits of the reading are those of his R package.

use std::collections::BTreeMap;

use ndarray::Array2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::domain::feature::{FeatureRow, Value};
use crate::domain::stats::Rng;
use crate::domain::train::evaluation::external_indices::{Contingency, Label, adjusted_rand};
use crate::domain::train::{Clusters, Dataset, FitError};

/// How much is tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trials {
    /// Runs on rows drawn with replacement, 0..=1000.
    pub bootstraps: usize,
    /// Runs from other seeds, 0..=100.
    pub seeds: usize,
    /// Standard deviation of the noise on each encoded column, as a share of
    /// the column's own. 0..=1; 0: not tried.
    pub noise: f64,
    /// Of more rows than this, a sample is drawn for all of it. At least 100.
    pub rows: usize,
}

impl Default for Trials {
    fn default() -> Self {
        Self { bootstraps: 20, seeds: 3, noise: 0.05, rows: 20_000 }
    }
}

/// Rows by the value of one feature, to be clustered apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slices {
    pub feature: Box<str>,
    /// Value → rows, ascending.
    pub rows: BTreeMap<Box<str>, Vec<usize>>,
}

/// Slices looked at, the largest first.
pub(crate) const MAX_SLICES: usize = 12;
/// A slice with fewer rows for each segment says nothing.
const SLICE_ROWS_PER_SEGMENT: usize = 20;

impl Slices {
    /// Numbers are slices too: a month, a store.
    pub fn by(feature: &str, index: usize, rows: &[&FeatureRow]) -> Self {
        let mut slices: BTreeMap<Box<str>, Vec<usize>> = BTreeMap::new();
        for (place, row) in rows.iter().enumerate() {
            let name: Box<str> = match row.0.get(index) {
                Some(Value::Category(name)) => name.clone(),
                Some(Value::Number(number)) => number.to_string().into(),
                Some(Value::Missing) | None => continue,
            };
            slices.entry(name).or_default().push(place);
        }
        Self { feature: feature.into(), rows: slices }
    }

    /// The largest with at least `least` rows, of equally large ones the first
    /// by name.
    fn largest(&self, least: usize) -> Vec<(&str, &[usize])> {
        let mut found: Vec<(&str, &[usize])> =
            self.rows.iter().map(|(name, rows)| (&**name, &rows[..])).collect();
        found.retain(|(_, rows)| rows.len() >= least);
        found.sort_by_key(|(_, rows)| std::cmp::Reverse(rows.len()));
        found.truncate(MAX_SLICES);
        found
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stability {
    /// One a segment, in the candidate's order; empty when not tried.
    pub segments: Vec<SegmentStability>,
    /// Mean of the segments'; `None` when not tried.
    pub mean_jaccard: Option<f64>,
    /// Adjusted Rand index with runs from other seeds.
    pub seeds: Option<Agreement>,
    pub slices: Vec<SliceAgreement>,
    /// Share of rows that stay where they are under noise.
    pub kept_under_noise: Option<f64>,
    /// Rows all this was tried on.
    pub rows: usize,
}

/// How well one segment is found again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SegmentStability {
    /// Mean bootstrap Jaccard similarity, 0..=1.
    pub jaccard: f64,
    pub reading: Reading,
}

/// What a mean bootstrap Jaccard says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// Below 0.60: not to be trusted.
    Unstable,
    /// Below 0.75: something is there, but not just these customers.
    Doubtful,
    /// Below 0.85.
    Stable,
    HighlyStable,
}

impl Reading {
    pub fn of(jaccard: f64) -> Self {
        match jaccard {
            j if j < 0.60 => Self::Unstable,
            j if j < 0.75 => Self::Doubtful,
            j if j < 0.85 => Self::Stable,
            _ => Self::HighlyStable,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Agreement {
    pub mean: f64,
    pub least: f64,
}

impl Agreement {
    fn of(values: &[f64]) -> Option<Self> {
        let least = values.iter().copied().reduce(f64::min)?;
        Some(Self { mean: values.iter().sum::<f64>() / values.len() as f64, least })
    }
}

/// Adjusted Rand index of a slice clustered apart with the same rows clustered
/// among all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SliceAgreement {
    pub feature: Box<str>,
    pub value: Box<str>,
    pub rows: usize,
    pub adjusted_rand: f64,
}

/// Runs the candidate's algorithm again, on other rows or from another seed.
pub type Refit<'a> = dyn Fn(&Dataset, u64) -> Result<Clusters, FitError> + Sync + 'a;

/// A candidate, and how to make it again.
pub struct Subject<'a> {
    pub data: &'a Dataset,
    pub clusters: &'a Clusters,
    pub slices: &'a [Slices],
    pub refit: &'a Refit<'a>,
    /// The seed it was made from.
    pub seed: u64,
}

impl std::fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl Subject<'_> {
    /// Tries everything asked for; random choices are from streams of `seed`
    /// from `first_stream` on.
    pub fn measure(
        &self,
        trials: &Trials,
        seed: u64,
        first_stream: u64,
    ) -> Result<Stability, FitError> {
        let mut rows: Vec<usize> = (0..self.data.rows()).collect();
        if rows.len() > trials.rows {
            Rng::new(seed, first_stream).shuffle(&mut rows);
            rows.truncate(trials.rows);
            rows.sort_unstable();
        }
        let jaccards = self.bootstrap(&rows, trials.bootstraps, seed, first_stream + 2)?;
        let segments: Vec<SegmentStability> = jaccards
            .into_iter()
            .map(|jaccard| SegmentStability { jaccard, reading: Reading::of(jaccard) })
            .collect();
        let mean_jaccard = Agreement::of(&segments.iter().map(|s| s.jaccard).collect::<Vec<_>>());
        Ok(Stability {
            mean_jaccard: mean_jaccard.map(|all| all.mean),
            segments,
            seeds: Agreement::of(&self.other_seeds(&rows, trials.seeds)?),
            slices: self.by_slice(&rows)?,
            kept_under_noise: (trials.noise > 0.0).then(|| {
                self.under_noise(&rows, trials.noise, &mut Rng::new(seed, first_stream + 1))
            }),
            rows: rows.len(),
        })
    }

    /// Mean bootstrap Jaccard of each segment; empty without bootstraps.
    fn bootstrap(
        &self,
        rows: &[usize],
        bootstraps: usize,
        seed: u64,
        first_stream: u64,
    ) -> Result<Vec<f64>, FitError> {
        let segments = self.clusters.segments();
        let once = |bootstrap: usize| {
            let mut rng = Rng::new(seed, first_stream + bootstrap as u64);
            let mut drawn: Vec<usize> =
                (0..rows.len()).map(|_| rows[rng.below(rows.len())]).collect();
            drawn.sort_unstable();
            let Some(found) = self.again(&drawn, self.seed)? else {
                return Ok(vec![0.0; segments]);
            };
            let (mut before, mut after) = (Vec::new(), Vec::new());
            for (place, row) in drawn.iter().enumerate() {
                if place == 0 || drawn[place - 1] != *row {
                    before.push(self.clusters.labels[*row]);
                    after.push(found.labels[place]);
                }
            }
            let table = Contingency::new(&before, &after);
            Ok((0..segments as u32).map(|segment| table.best_jaccard(segment)).collect())
        };
        let all: Vec<Vec<f64>> =
            (0..bootstraps).into_par_iter().map(once).collect::<Result<_, FitError>>()?;
        if all.is_empty() {
            return Ok(vec![]);
        }
        let mean = |segment: usize| {
            all.iter().map(|jaccards| jaccards[segment]).sum::<f64>() / bootstraps as f64
        };
        Ok((0..segments).map(mean).collect())
    }

    fn other_seeds(&self, rows: &[usize], seeds: usize) -> Result<Vec<f64>, FitError> {
        let labels = self.labels(rows);
        let once = |other: usize| {
            let found = self.again(rows, self.seed.wrapping_add(1 + other as u64))?;
            Ok(found.map_or(0.0, |found| adjusted_rand(&labels, &found.labels)))
        };
        (0..seeds).into_par_iter().map(once).collect()
    }

    fn by_slice(&self, rows: &[usize]) -> Result<Vec<SliceAgreement>, FitError> {
        let least = SLICE_ROWS_PER_SEGMENT * self.clusters.segments();
        let mut found = Vec::new();
        for slices in self.slices {
            for (value, slice) in slices.largest(least) {
                let inside: Vec<usize> =
                    slice.iter().copied().filter(|row| rows.binary_search(row).is_ok()).collect();
                let Some(apart) = self.again(&inside, self.seed)? else { continue };
                found.push(SliceAgreement {
                    feature: slices.feature.clone(),
                    value: value.into(),
                    rows: inside.len(),
                    adjusted_rand: adjusted_rand(&self.labels(&inside), &apart.labels),
                });
            }
        }
        Ok(found)
    }

    /// Uniform noise: its width is √12 times its standard deviation.
    fn under_noise(&self, rows: &[usize], share: f64, rng: &mut Rng) -> f64 {
        let still = self.data.select(rows);
        let (_, variance) = self.data.column_moments();
        let widths: Vec<f64> = variance.iter().map(|v| (12.0 * v).sqrt() * share).collect();
        let moved = Array2::from_shape_fn((rows.len(), still.columns()), |(row, column)| {
            let noise = widths[column] * (rng.unit() - 0.5);
            (f64::from(still.row(row)[column]) + noise) as f32
        });
        let before = self.clusters.place(&still);
        let after = self.clusters.place(&still.like(moved));
        let kept = before.iter().zip(&after).filter(|(a, b)| a == b).count();
        kept as f64 / rows.len().max(1) as f64
    }

    fn labels(&self, rows: &[usize]) -> Vec<Label> {
        rows.iter().map(|row| self.clusters.labels[*row]).collect()
    }

    /// `None`: these rows cannot be clustered so.
    fn again(&self, rows: &[usize], seed: u64) -> Result<Option<Clusters>, FitError> {
        match (self.refit)(&self.data.select(rows), seed) {
            Ok(clusters) => Ok(Some(clusters)),
            Err(FitError::TooFewDistinct { .. } | FitError::EmptySegment { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
