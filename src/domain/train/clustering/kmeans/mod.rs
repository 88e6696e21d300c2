//! k-means: Lloyd's algorithm with several k-means++ starts.
//!
//! Lloyd (1982), *Least squares quantization in PCM*. The rules for stopping and for empty
//! clusters are those of scikit-learn, so the same initial centres give the same labels. Data are
//! `f32`; labels, sums and inertia are those of `f64` arithmetic, in an order that does not
//! depend on the number of threads.
//!
//! With many rows a start first runs on a sample: centres that have converged on the sample need
//! few passes over all rows.

pub mod bisecting;
pub(crate) mod column_blocks;
pub(crate) mod coreset;
pub mod init;
pub mod kmedians;
pub(crate) mod lloyd;
pub mod local_search;
pub mod minibatch;

use std::sync::atomic::{AtomicU64, Ordering};

use ndarray::Array2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::domain::stats::{self, RandomStream};
use crate::domain::train::clustering::kmeans::lloyd::{ClusterSums, LloydAssignment};
use crate::domain::train::{EncodedDataset, KmeansDiagnostics, TrainingError, TrainingProgress};

/// Random stream of the first start; each start has its own.
const FIRST_START_STREAM: u64 = 16;
/// Minimum size of the sample for a start, in total and per cluster.
const SAMPLE_ROWS: usize = 16_384;
const SAMPLE_ROWS_PER_CLUSTER: usize = 512;

/// Settings of k-means. Omitted settings are those of the run, or the defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KmeansSettings {
    /// Independent k-means++ starts; the one with the lowest inertia wins. 1..=1000, 10 by
    /// default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts: Option<usize>,
    /// Upper limit of the Lloyd iterations of one start. 1..=10000, 300 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_iterations: Option<usize>,
    /// As `tol` in scikit-learn. 0..=1, 1e-4 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
}

impl KmeansSettings {
    /// These settings, completed by those of `run`.
    pub(crate) fn with_defaults_from(&self, run: &Self) -> Self {
        Self {
            starts: self.starts.or(run.starts),
            max_iterations: self.max_iterations.or(run.max_iterations),
            tolerance: self.tolerance.or(run.tolerance),
        }
    }

    pub(crate) fn starts(&self) -> usize {
        self.starts.unwrap_or(10)
    }

    pub(crate) fn max_iterations(&self) -> usize {
        self.max_iterations.unwrap_or(300)
    }

    pub(crate) fn tolerance(&self) -> f64 {
        self.tolerance.unwrap_or(1e-4)
    }
}

/// Result of one k-means start. Starts compete as whole partitions: labels, centres and inertia
/// always belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct KmeansPartition {
    /// Index of the nearest centre of each row.
    pub labels: Vec<u32>,
    /// (`clusters`, `n_columns`)
    pub centres: Array2<f64>,
    /// Sum of squared distances of the rows to their centres.
    pub inertia: f64,
    /// Lloyd iterations.
    pub iterations: usize,
}

/// Best partition of several starts, with diagnostics.
#[derive(Debug, Clone, PartialEq)]
pub struct BestStart {
    pub partition: KmeansPartition,
    pub search: KmeansDiagnostics,
}

/// Runs all starts and returns the one with the lowest inertia, of equal ones the first. Uses the
/// current rayon pool; the result does not depend on its size.
pub fn fit_best_start(
    data: &EncodedDataset,
    clusters: usize,
    settings: &KmeansSettings,
    seed: u64,
    progress: &dyn TrainingProgress,
) -> Result<BestStart, TrainingError> {
    let starts = settings.starts();
    let distinct = data.distinct_rows(clusters);
    if distinct < clusters {
        return Err(TrainingError::TooFewDistinct { distinct, segments: clusters });
    }
    let finished = AtomicU64::new(0);
    let partitions = (0..starts)
        .into_par_iter()
        .map(|start| {
            let mut rng = RandomStream::new(seed, FIRST_START_STREAM + start as u64);
            let stop = (settings.max_iterations(), settings.tolerance());
            let partition = run_start(data, clusters, stop, &mut rng, progress)?;
            let done = finished.fetch_add(1, Ordering::Relaxed) + 1;
            progress.report("cluster", done, starts as u64);
            Ok(partition)
        })
        .collect::<Result<Vec<_>, TrainingError>>()?;

    let inertia_by_start: Vec<f64> = partitions.iter().map(|partition| partition.inertia).collect();
    let (start, partition) = partitions
        .into_iter()
        .enumerate()
        // Of equal inertias `min_by` returns the first start.
        .min_by(|(_, a), (_, b)| a.inertia.total_cmp(&b.inertia))
        .ok_or(TrainingError::TooFewDistinct { distinct, segments: clusters })?;
    let search = KmeansDiagnostics { iterations: partition.iterations, start, inertia_by_start };
    Ok(BestStart { partition, search })
}

/// Runs one start: k-means++ with local search, then [`fn@run_lloyd`]; `stop` is (iterations,
/// tolerance).
fn run_start(
    data: &EncodedDataset,
    clusters: usize,
    stop: (usize, f64),
    rng: &mut RandomStream,
    progress: &dyn TrainingProgress,
) -> Result<KmeansPartition, TrainingError> {
    let sample_rows = sample_rows(clusters);
    let centres = if data.rows() <= 2 * sample_rows {
        initial_centres(data, clusters, rng)
    } else {
        // Drawn with replacement: no list of all rows is shuffled for a small sample.
        let mut rows: Vec<usize> =
            (0..sample_rows).map(|_| rng.uniform_below(data.rows())).collect();
        rows.sort_unstable();
        rows.dedup();
        let sample = data.select(&rows);
        let centres = initial_centres(&sample, clusters, rng);
        run_lloyd(&sample, centres, stop.0, stop.1, progress)?.centres
    };
    run_lloyd(data, centres, stop.0, stop.1, progress)
}

/// Sample size for a start.
pub(crate) fn sample_rows(clusters: usize) -> usize {
    SAMPLE_ROWS.max(SAMPLE_ROWS_PER_CLUSTER * clusters)
}

/// Initial centres: k-means++ improved by local search.
pub(crate) fn initial_centres(
    data: &EncodedDataset,
    clusters: usize,
    rng: &mut RandomStream,
) -> Array2<f64> {
    let seeds = init::kmeans_plus_plus(data, clusters, rng);
    local_search::improve_centres(data, seeds, rng)
}

/// Lloyd's algorithm from the given centres.
///
/// Stops when no label changes, when the squared movement of all centres is at most `tolerance`
/// times the mean variance of the columns, or after `max_iterations`.
pub fn run_lloyd(
    data: &EncodedDataset,
    mut centres: Array2<f64>,
    max_iterations: usize,
    tolerance: f64,
    progress: &dyn TrainingProgress,
) -> Result<KmeansPartition, TrainingError> {
    let (mean, variance) = data.column_moments();
    let enough_movement = tolerance * stats::mean(&variance);
    let mut assignment = LloydAssignment::new(data, &mean, centres.nrows());
    let mut iterations = 0;
    let mut labels_fit_centres = false;
    while iterations < max_iterations {
        if progress.should_stop() {
            return Err(TrainingError::Stopped);
        }
        iterations += 1;
        let changed = assignment.reassign(&centres);
        let moved = next_centres(data, &centres, &assignment);
        let movement: f64 = (&moved - &centres).iter().map(|x| x * x).sum();
        centres = moved;
        if !changed {
            // The centres are the means of these labels already.
            labels_fit_centres = true;
            break;
        }
        if movement <= enough_movement {
            break;
        }
    }
    // The centres moved after the last pass; labels must belong to the final centres.
    if !labels_fit_centres {
        assignment.reassign(&centres);
    }
    let inertia = inertia(data, &centres, &assignment.labels);
    Ok(KmeansPartition { labels: assignment.labels, centres, inertia, iterations })
}

fn next_centres(
    data: &EncodedDataset,
    centres: &Array2<f64>,
    assignment: &LloydAssignment<'_>,
) -> Array2<f64> {
    if !assignment.sums.counts.contains(&0) {
        return assignment.sums.centres();
    }
    let mut sums = assignment.sums.clone();
    relocate_empty(data, centres, &assignment.labels, &mut sums);
    sums.centres()
}

/// Gives each empty cluster one row, as scikit-learn does: the rows farthest from their centres,
/// taken out of their clusters.
fn relocate_empty(
    data: &EncodedDataset,
    centres: &Array2<f64>,
    labels: &[u32],
    sums: &mut ClusterSums,
) {
    let empty: Vec<usize> = (0..sums.counts.len()).filter(|c| sums.counts[*c] == 0).collect();
    let mut farthest: Vec<(f64, usize)> = (0..data.rows())
        .map(|row| (squared_distance_to_own(data, centres, labels, row), row))
        .collect();
    farthest.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for (cluster, (distance, row)) in empty.into_iter().zip(farthest) {
        // All rows are at their centres: there is nothing to divide.
        if distance <= 0.0 {
            return;
        }
        let from = labels[row] as usize;
        let row = data.row(row).mapv(f64::from);
        let mut source = sums.rows.row_mut(from);
        source -= &row;
        sums.rows.row_mut(cluster).assign(&row);
        sums.counts[from] -= 1;
        sums.counts[cluster] = 1;
    }
}

/// Sum of squared distances of the rows to the centres of their labels.
pub(crate) fn inertia(data: &EncodedDataset, centres: &Array2<f64>, labels: &[u32]) -> f64 {
    let partial = data.map_chunks(|rows| {
        rows.map(|row| squared_distance_to_own(data, centres, labels, row)).sum::<f64>()
    });
    partial.iter().sum()
}

/// Squared distance of a row to the centre of its label.
fn squared_distance_to_own(
    data: &EncodedDataset,
    centres: &Array2<f64>,
    labels: &[u32],
    row: usize,
) -> f64 {
    data.squared_distance(row, centres.row(labels[row] as usize))
}
