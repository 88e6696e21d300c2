//! Gaussian mixture models by expectation maximisation (EM).
//!
//! Dempster, Laird and Rubin (1977), *Maximum likelihood from incomplete data via the EM
//! algorithm*. Start (one k-means), covariance floor and stopping rule are those of scikit-learn:
//! from the same initial parameters both converge to the same mixture. A diagonal mixture is
//! served exactly, by weights and offsets. The served form of a full mixture is a prototype
//! approximation (`cover`).

pub mod em;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::domain::model::DistanceMetric;
use crate::domain::stats::RandomStream;
use crate::domain::train::clustering::gaussian_mixture::em::{
    ComponentCovariances, MixtureDensity, MixtureParameters, SufficientStatistics,
};
use crate::domain::train::clustering::prototype_approximation::ApproximationSettings;
use crate::domain::train::clustering::{kmeans, sample};
use crate::domain::train::{EncodedDataset, PrototypeClusters, TrainingError, TrainingProgress};

/// Random stream of the start.
const START_STREAM: u64 = 1 << 32;
/// Limits of the k-means start, as in scikit-learn.
const START_ITERATIONS: usize = 300;
const START_TOLERANCE: f64 = 1e-4;
/// Minimum size of the sample for the start, in total and per component.
const START_ROWS: usize = 16_384;
const START_ROWS_PER_COMPONENT: usize = 512;

/// Covariance type of the components.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CovarianceType {
    /// Full with at most 32 columns, otherwise diagonal: a matrix of more columns has more entries
    /// than most segments have rows.
    #[default]
    Automatic,
    /// Each component has its own variance along each column.
    Diagonal,
    /// Each component has its own covariance matrix.
    Full,
}

/// Largest number of columns with full covariances by default.
const MAX_FULL_COLUMNS: usize = 32;

impl CovarianceType {
    /// The type for rows with `columns` columns.
    fn for_columns(self, columns: usize) -> Self {
        match self {
            Self::Automatic if columns <= MAX_FULL_COLUMNS => Self::Full,
            Self::Automatic => Self::Diagonal,
            chosen => chosen,
        }
    }
}

/// Settings of a Gaussian mixture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GaussianMixtureSettings {
    pub covariance: CovarianceType,
    /// Regularisation: added to every variance.
    pub floor: f64,
    /// Convergence criterion: the mean log-likelihood per row changes by less.
    pub tolerance: f64,
    pub max_iterations: usize,
    /// Prototype approximation of full covariances.
    pub cover: ApproximationSettings,
}

impl Default for GaussianMixtureSettings {
    fn default() -> Self {
        Self {
            covariance: CovarianceType::Automatic,
            floor: 1e-6,
            tolerance: 1e-3,
            max_iterations: 100,
            cover: ApproximationSettings::default(),
        }
    }
}

impl GaussianMixtureSettings {
    /// Largest number of components with fewer parameters than there are rows: with more, a mixture
    /// describes single rows.
    pub(crate) fn most_components(&self, rows: usize, columns: usize) -> usize {
        let spread = match self.covariance.for_columns(columns) {
            CovarianceType::Full => columns * (columns + 1) / 2,
            CovarianceType::Automatic | CovarianceType::Diagonal => columns,
        };
        rows / (columns + spread).max(1)
    }
}

/// Result of EM.
#[derive(Debug, Clone, PartialEq)]
pub struct MixtureFit {
    pub mixture: MixtureParameters,
    /// Most likely component of each row.
    pub labels: Vec<u32>,
    /// Natural logarithm of the density of all rows.
    pub log_likelihood: f64,
    /// Mean log-likelihood per row before each step; it never falls, except by the effect of
    /// the floor.
    pub log_likelihood_history: Vec<f64>,
    pub converged: bool,
}

impl MixtureFit {
    /// Number of free parameters, for information criteria.
    pub fn parameters(&self) -> usize {
        let (components, columns) = self.mixture.means.dim();
        let spread = match self.mixture.covariances {
            ComponentCovariances::Diagonal(_) => columns,
            ComponentCovariances::Full(_) => columns * (columns + 1) / 2,
        };
        components * (columns + spread) + components - 1
    }

    /// Exact served form of a diagonal mixture: −2 ln(share × density), without the terms common
    /// to all components. Components without rows are left out.
    pub(crate) fn serve_diagonal(&self, variances: &Array2<f64>) -> PrototypeClusters {
        let components = self.mixture.mixing_weights.len();
        let mut is_used = vec![false; components];
        for label in &self.labels {
            is_used[*label as usize] = true;
        }
        // A segment needs rows, so components without any are dropped.
        let used: Vec<usize> = (0..components).filter(|c| is_used[*c]).collect();
        let mut number = vec![0; components];
        let mut offsets = Vec::with_capacity(used.len());
        for (new, component) in used.iter().enumerate() {
            number[*component] = new as u32;
            let ln_determinant: f64 = variances.row(*component).iter().map(|v| v.ln()).sum();
            offsets.push(ln_determinant - 2.0 * self.mixture.mixing_weights[*component].ln());
        }
        let rows = ndarray::Axis(0);
        PrototypeClusters {
            labels: self.labels.iter().map(|label| Some(number[*label as usize])).collect(),
            prototypes: self.mixture.means.select(rows, &used),
            segment_of: (0..used.len() as u32).collect(),
            weights: Some(variances.select(rows, &used).mapv(f64::recip)),
            offsets: Some(offsets),
            radius: None,
            metric: DistanceMetric::Euclidean,
        }
    }
}

/// Fits a mixture with `components`, from one k-means start. Uses the current rayon pool; the
/// result does not depend on its size.
pub fn fit(
    data: &EncodedDataset,
    components: usize,
    settings: &GaussianMixtureSettings,
    seed: u64,
    progress: &dyn TrainingProgress,
) -> Result<MixtureFit, TrainingError> {
    let distinct = data.distinct_rows(components);
    if distinct < components {
        return Err(TrainingError::TooFewDistinct { distinct, segments: components });
    }
    let start =
        start_partition(data, components, &mut RandomStream::new(seed, START_STREAM), progress)?;
    let shape = MixtureParameters {
        mixing_weights: vec![0.0; components],
        covariances: match settings.covariance.for_columns(data.columns()) {
            CovarianceType::Automatic | CovarianceType::Diagonal => {
                ComponentCovariances::Diagonal(Array2::zeros(start.centres.dim()))
            }
            CovarianceType::Full => ComponentCovariances::Full(Vec::new()),
        },
        means: start.centres,
    };
    let first =
        em::statistics_of_partition(data, &start.labels, &shape).maximise(&shape, settings.floor);
    run_em(data, first, settings, progress)
}

/// One k-means run; with many rows a sample is clustered first, so that few passes over all rows
/// remain.
fn start_partition(
    data: &EncodedDataset,
    components: usize,
    rng: &mut RandomStream,
    progress: &dyn TrainingProgress,
) -> Result<kmeans::KmeansPartition, TrainingError> {
    let sample_rows = START_ROWS.max(START_ROWS_PER_COMPONENT * components);
    let centres = if data.rows() <= 2 * sample_rows {
        kmeans::initial_centres(data, components, rng)
    } else {
        // Centres that converged on the sample need few iterations on all rows.
        let sample = data.select(&sample::draw(data.rows(), sample_rows, rng));
        let centres = kmeans::initial_centres(&sample, components, rng);
        kmeans::run_lloyd(&sample, centres, START_ITERATIONS, START_TOLERANCE, progress)?.centres
    };
    kmeans::run_lloyd(data, centres, START_ITERATIONS, START_TOLERANCE, progress)
}

/// Runs EM from `mixture` to convergence.
pub fn run_em(
    data: &EncodedDataset,
    mut mixture: MixtureParameters,
    settings: &GaussianMixtureSettings,
    progress: &dyn TrainingProgress,
) -> Result<MixtureFit, TrainingError> {
    let per_row = 1.0 / data.rows().max(1) as f64;
    let mut course: Vec<f64> = Vec::new();
    let mut converged = false;
    while !converged && course.len() < settings.max_iterations {
        if progress.should_stop() {
            return Err(TrainingError::Stopped);
        }
        let density = MixtureDensity::prepare(&mixture)
            .ok_or(TrainingError::Degenerate { floor: settings.floor })?;
        let partial = data.map_chunks(|rows| density.accumulate(data, rows));
        let mut sums = SufficientStatistics::zero(&mixture);
        for part in &partial {
            sums.add(part);
        }
        mixture = sums.maximise(&mixture, settings.floor);
        let reached = sums.log_likelihood * per_row;
        converged =
            course.last().is_some_and(|before| (reached - before).abs() < settings.tolerance);
        course.push(reached);
        progress.report("cluster", course.len() as u64, settings.max_iterations as u64);
    }
    let density = MixtureDensity::prepare(&mixture)
        .ok_or(TrainingError::Degenerate { floor: settings.floor })?;
    // Labels and likelihood must belong to the final mixture, which no pass has evaluated yet.
    let parts = data.map_chunks(|rows| density.label_rows(data, rows));
    let log_likelihood = parts.iter().map(|(_, logs)| logs).sum();
    let labels = parts.into_iter().flat_map(|(labels, _)| labels).collect();
    Ok(MixtureFit { mixture, labels, log_likelihood, log_likelihood_history: course, converged })
}
