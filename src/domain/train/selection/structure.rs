//! Test for structure: whether the rows form groups at all, or one cloud that any clustering
//! merely cuts into slices.
//!
//! A parametric bootstrap, as in the gap statistic (Tibshirani, Walther and Hastie 2001,
//! *Estimating the number of clusters in a data set via the gap statistic*) and in `SigClust` (Liu,
//! Hayes, Nobel and Marron 2008): the chosen algorithm clusters reference rows that have no
//! groups, with the same number of segments, and is judged by the same criteria. There are two
//! kinds of reference rows: a Gaussian cloud with the covariance of the rows, and uniform rows in
//! their box along the principal axes.

use ndarray::Array2;
use serde::Serialize;

use crate::domain::stats::{RandomStream, symmetric};
use crate::domain::train::clustering::sample;
use crate::domain::train::projection::axes;
use crate::domain::train::selection::screening::ScreeningSample;
use crate::domain::train::{
    ClusteringAlgorithm, EncodedDataset, QuietProgress, TrainingError, TrainingProgress,
    TrainingSpec,
};

/// Reference datasets of each kind: the fewest with which a p-value can reach 0.05.
pub(crate) const REFERENCES: usize = 19;
/// Divisions into halves per dataset.
pub(crate) const DIVISIONS: usize = 2;
/// Rows of each dataset.
const ROWS: usize = 600;
/// With more columns than this the test takes too long.
const MAX_COLUMNS: usize = 128;
/// A p-value up to this is evidence for groups.
const SIGNIFICANCE: f64 = 0.05;
/// Slices are reproducible from this agreement between halves on (the threshold of Tibshirani and
/// Walther 2005).
const REPRODUCIBLE: f64 = 0.8;
/// Random streams of the rows and of the reference rows.
const ROWS_STREAM: u64 = 7;
const REFERENCE_STREAM: u64 = 1 << 20;

/// Result of the test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StructureTest {
    pub verdict: StructureVerdict,
    /// Score of the chosen candidate on the tested rows.
    pub score: f64,
    /// Largest score on rows without groups.
    pub reference_score: f64,
    /// Share of reference datasets with at least the same score, of the kind with more of them.
    pub p_value: f64,
    /// Reference datasets of each kind.
    pub references: usize,
    /// Rows of each dataset.
    pub rows: usize,
}

/// What the segments are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StructureVerdict {
    /// Groups: rows without groups never give such segments.
    Groups,
    /// Slices of one cloud: other rows give the same segments, but their borders are arbitrary.
    Slices,
    /// Neither: other rows give other segments.
    NoStructure,
}

impl StructureTest {
    /// The result in one sentence.
    pub fn explanation(&self) -> &'static str {
        match self.verdict {
            StructureVerdict::Groups => {
                "the rows form groups: rows without groups never give segments as good as these"
            }
            StructureVerdict::Slices => {
                "no separate groups were found: the segments are slices of one cloud, which other \
                 samples reproduce, so that another number of segments can be as useful"
            }
            StructureVerdict::NoStructure => {
                "no structure was found: rows without groups give segments as good as these, and \
                 another sample gives other segments"
            }
        }
    }
}

/// The candidate whose segments are tested.
pub(crate) struct StructureSubject<'a> {
    pub algorithm: ClusteringAlgorithm,
    pub segments: usize,
    /// Agreement of halves that the candidate was chosen by.
    pub reproducibility: f64,
    pub spec: &'a TrainingSpec,
    pub progress: &'a dyn TrainingProgress,
}

impl StructureSubject<'_> {
    /// Tests a sample of the rows. `None`: there are too many columns, or the algorithm finds no
    /// segments in the sample.
    pub(crate) fn test(
        &self,
        data: &EncodedDataset,
    ) -> Result<Option<StructureTest>, TrainingError> {
        if data.columns() > MAX_COLUMNS {
            return Ok(None);
        }
        let seed = self.spec.seed;
        let rows = data.rows().min(ROWS);
        let mut rng = RandomStream::new(seed, ROWS_STREAM);
        let data = data.select(&sample::draw(data.rows(), rows, &mut rng));
        let Some(score) = self.score(&data)? else { return Ok(None) };
        let cloud = OneCloud::measure(&data);
        let total = 2 * REFERENCES as u64;
        let (mut most, mut reference_score) = (0, f64::NEG_INFINITY);
        for (kind, shape) in [CloudShape::Gaussian, CloudShape::Box].into_iter().enumerate() {
            let mut at_least = 0;
            for reference in 0..REFERENCES {
                let number = (kind * REFERENCES + reference) as u64;
                self.progress.report("structure", number, total);
                let mut rng = RandomStream::new(seed, REFERENCE_STREAM + number);
                let drawn = data.with_matrix(cloud.draw(shape, rows, &mut rng));
                let found = self.score(&drawn)?.unwrap_or(f64::NEG_INFINITY);
                at_least += usize::from(found >= score);
                reference_score = reference_score.max(found);
            }
            most = most.max(at_least);
        }
        self.progress.report("structure", total, total);
        let p_value = (1 + most) as f64 / (1 + REFERENCES) as f64;
        let verdict = if p_value <= SIGNIFICANCE {
            StructureVerdict::Groups
        } else if self.reproducibility >= REPRODUCIBLE {
            StructureVerdict::Slices
        } else {
            StructureVerdict::NoStructure
        };
        let references = REFERENCES;
        Ok(Some(StructureTest { verdict, score, reference_score, p_value, references, rows }))
    }

    /// Score of the candidate fitted to `data`; `None` if it finds no segments.
    fn score(&self, data: &EncodedDataset) -> Result<Option<f64>, TrainingError> {
        let seed = self.spec.seed;
        let quiet = QuietProgress(self.progress);
        let fit = |data: &EncodedDataset| self.algorithm.fit(data, self.segments, seed, &quiet);
        let clusters = match fit(data) {
            Ok(clusters) => clusters,
            Err(error) if error.concerns_one_candidate() => return Ok(None),
            Err(error) => return Err(error),
        };
        let sample = ScreeningSample::new(data.clone(), seed, DIVISIONS);
        let criteria = sample.judge(&clusters.labels, fit)?;
        let score = criteria.score(&self.spec.weights).value;
        Ok(criteria.density_validation.is_some().then_some(score))
    }
}

/// Shape of rows without groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CloudShape {
    Gaussian,
    Box,
}

/// Centre, axes and extent of the rows.
struct OneCloud {
    centre: Vec<f64>,
    /// Unit vectors of the principal axes, (`n_columns`, `n_columns`).
    axes: Array2<f64>,
    /// Standard deviation along each axis.
    deviations: Vec<f64>,
    /// Range along each axis, about the centre.
    ranges: Vec<(f64, f64)>,
}

impl OneCloud {
    fn measure(data: &EncodedDataset) -> Self {
        let (centre, covariance) = axes::covariance(data);
        let eigen = symmetric::eigendecomposition(&covariance);
        let mut ranges = vec![(f64::INFINITY, f64::NEG_INFINITY); centre.len()];
        for row in 0..data.rows() {
            let centred = axes::centred_row(data, row, &centre);
            for (axis, (least, most)) in eigen.vectors.rows().into_iter().zip(&mut ranges) {
                let along: f64 = axis.iter().zip(&centred).map(|(a, x)| a * x).sum();
                (*least, *most) = (least.min(along), most.max(along));
            }
        }
        // Rounding can make a zero eigenvalue negative.
        let deviations = eigen.values.iter().map(|value| value.max(0.0).sqrt()).collect();
        Self { centre, axes: eigen.vectors, deviations, ranges }
    }

    fn draw(&self, shape: CloudShape, rows: usize, rng: &mut RandomStream) -> Array2<f32> {
        let mut drawn = Array2::zeros((rows, self.centre.len()));
        for mut row in drawn.rows_mut() {
            let mut sums = self.centre.clone();
            for (axis, vector) in self.axes.rows().into_iter().enumerate() {
                let along = match shape {
                    CloudShape::Gaussian => self.deviations[axis] * rng.standard_normal(),
                    CloudShape::Box => {
                        let (least, most) = self.ranges[axis];
                        least + (most - least) * rng.uniform_unit()
                    }
                };
                sums.iter_mut().zip(vector).for_each(|(sum, v)| *sum += along * v);
            }
            row.iter_mut().zip(sums).for_each(|(x, sum)| *x = sum as f32);
        }
        drawn
    }
}
