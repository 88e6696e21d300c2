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

use crate::domain::model::Metric;
use crate::domain::stats::Rng;
use crate::domain::train::clustering::gaussian_mixture::em::{Density, Mixture, Spread, Sums};
use crate::domain::train::clustering::kmeans::{init, local_search};
use crate::domain::train::clustering::prototype_approximation::Cover;
use crate::domain::train::clustering::{kmeans, sample};
use crate::domain::train::{Clusters, Dataset, FitError, Progress};

/// Random stream of the start.
const START_STREAM: u64 = 1 << 32;
/// Limits of the k-means start, as in scikit-learn.
const START_ITERATIONS: usize = 300;
const START_TOLERANCE: f64 = 1e-4;
/// Minimum size of the sample for the start, in total and per component.
const START_ROWS: usize = 16_384;
const START_ROWS_PER_COMPONENT: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covariance {
    /// Each component has its own variance along each column.
    #[default]
    Diagonal,
    /// Each component has its own covariance matrix.
    Full,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gmm {
    pub covariance: Covariance,
    /// Regularisation: added to every variance.
    pub floor: f64,
    /// Convergence criterion: the mean log-likelihood per row changes by less.
    pub tolerance: f64,
    pub max_iterations: usize,
    /// Prototype approximation of full covariances.
    pub cover: Cover,
}

impl Default for Gmm {
    fn default() -> Self {
        Self {
            covariance: Covariance::Diagonal,
            floor: 1e-6,
            tolerance: 1e-3,
            max_iterations: 100,
            cover: Cover::default(),
        }
    }
}

/// Result of EM.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    pub mixture: Mixture,
    /// Most likely component of each row.
    pub labels: Vec<u32>,
    /// Natural logarithm of the density of all rows.
    pub log_likelihood: f64,
    /// Mean log-likelihood per row before each step; it never falls, except by the effect of
    /// the floor.
    pub course: Vec<f64>,
    pub converged: bool,
}

impl Fitted {
    /// Number of free parameters, for information criteria.
    pub fn parameters(&self) -> usize {
        let (components, columns) = self.mixture.means.dim();
        let spread = match self.mixture.spread {
            Spread::Diagonal(_) => columns,
            Spread::Full(_) => columns * (columns + 1) / 2,
        };
        components * (columns + spread) + components - 1
    }

    /// Exact served form of a diagonal mixture: −2 ln(share × density), without the terms common
    /// to all components. Components without rows are left out.
    pub fn serve_diagonal(&self, variances: &Array2<f64>) -> Clusters {
        let components = self.mixture.shares.len();
        let mut is_used = vec![false; components];
        for label in &self.labels {
            is_used[*label as usize] = true;
        }
        let used: Vec<usize> = (0..components).filter(|c| is_used[*c]).collect();
        let place = |label: u32| used.partition_point(|c| *c < label as usize) as u32;
        let offset = |c: &usize| {
            variances.row(*c).iter().map(|variance| variance.ln()).sum::<f64>()
                - 2.0 * self.mixture.shares[*c].ln()
        };
        let rows = ndarray::Axis(0);
        Clusters {
            labels: self.labels.iter().map(|label| Some(place(*label))).collect(),
            prototypes: self.mixture.means.select(rows, &used),
            segment_of: (0..used.len() as u32).collect(),
            weights: Some(variances.select(rows, &used).mapv(f64::recip)),
            offsets: Some(used.iter().map(offset).collect()),
            reach: None,
            metric: Metric::Euclidean,
        }
    }
}

/// Fits a mixture with `components`, from one k-means start. Uses the current rayon pool; the
/// result does not depend on its size.
pub fn fit(
    data: &Dataset,
    components: usize,
    settings: &Gmm,
    seed: u64,
    progress: &dyn Progress,
) -> Result<Fitted, FitError> {
    let distinct = data.distinct_rows(components);
    if distinct < components {
        return Err(FitError::TooFewDistinct { distinct, segments: components });
    }
    let start = start(data, components, &mut Rng::new(seed, START_STREAM), progress)?;
    let shape = Mixture {
        shares: vec![0.0; components],
        spread: match settings.covariance {
            Covariance::Diagonal => Spread::Diagonal(Array2::zeros(start.centres.dim())),
            Covariance::Full => Spread::Full(Vec::new()),
        },
        means: start.centres,
    };
    let first = em::sums_of(data, &start.labels, &shape).maximise(&shape, settings.floor);
    improve(data, first, settings, progress)
}

/// One k-means run; with many rows a sample is clustered first, so that few passes over all rows
/// remain.
fn start(
    data: &Dataset,
    components: usize,
    rng: &mut Rng,
    progress: &dyn Progress,
) -> Result<kmeans::Partition, FitError> {
    let lloyd = |data: &Dataset, centres| {
        kmeans::lloyd(data, centres, START_ITERATIONS, START_TOLERANCE, progress)
    };
    let spread = |data: &Dataset, rng: &mut Rng| {
        let seeds = init::plus_plus(data, components, rng);
        local_search::improve(data, seeds, rng)
    };
    let sample_rows = START_ROWS.max(START_ROWS_PER_COMPONENT * components);
    if data.rows() <= 2 * sample_rows {
        return lloyd(data, spread(data, rng));
    }
    let sample = data.select(&sample::draw(data.rows(), sample_rows, rng));
    let centres = lloyd(&sample, spread(&sample, rng))?.centres;
    lloyd(data, centres)
}

/// Runs EM from `mixture` to convergence.
pub fn improve(
    data: &Dataset,
    mut mixture: Mixture,
    settings: &Gmm,
    progress: &dyn Progress,
) -> Result<Fitted, FitError> {
    let per_row = 1.0 / data.rows().max(1) as f64;
    let mut course: Vec<f64> = Vec::new();
    let mut converged = false;
    while !converged && course.len() < settings.max_iterations {
        if progress.should_stop() {
            return Err(FitError::Stopped);
        }
        let density =
            Density::of(&mixture).ok_or(FitError::Degenerate { floor: settings.floor })?;
        let partial = data.map_chunks(|rows| density.gather(data, rows));
        let mut sums = Sums::zero(&mixture);
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
    let density = Density::of(&mixture).ok_or(FitError::Degenerate { floor: settings.floor })?;
    let parts = data.map_chunks(|rows| density.label(data, rows));
    let log_likelihood = parts.iter().map(|(_, logs)| logs).sum();
    let labels = parts.into_iter().flat_map(|(labels, _)| labels).collect();
    Ok(Fitted { mixture, labels, log_likelihood, course, converged })
}
