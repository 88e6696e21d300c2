//! k-means: Lloyd's algorithm from several starts.
//!
//! Lloyd (1982), *Least squares quantization in PCM*. The rules for stopping
//! and for empty clusters are scikit-learn's, so that from the same initial
//! centres both give the same labels. Data are `f32`, all arithmetic is `f64`,
//! and partial sums are added in an order that does not depend on threads.

use std::sync::atomic::{AtomicU64, Ordering};

use ndarray::Array2;
use rayon::prelude::*;

use crate::domain::stats::{self, Rng};
use crate::domain::train::{Dataset, FitError, Progress, TrainSpec, seed, swap};

/// The random stream of the first start; each start has its own.
const FIRST_START_STREAM: u64 = 16;

/// One complete outcome of clustering. Starts compete by whole partitions:
/// labels, centres and inertia never come from different ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Partition {
    /// One a row: the index of its nearest centre.
    pub labels: Vec<u32>,
    /// (`clusters`, `n_columns`)
    pub centres: Array2<f64>,
    /// Sum of squared distances of the rows to their centres.
    pub inertia: f64,
    /// Lloyd iterations taken.
    pub iterations: usize,
}

/// The best partition of several starts.
#[derive(Debug, Clone, PartialEq)]
pub struct BestOf {
    pub partition: Partition,
    /// The start that won.
    pub start: usize,
    /// The inertia each start ended with.
    pub inertias: Vec<f64>,
}

/// Runs `spec.starts` k-means++ starts and keeps the one of lowest inertia,
/// of equal ones the first. Uses the current rayon pool; the result does not
/// depend on its size.
pub fn best_of(
    data: &Dataset,
    spec: &TrainSpec,
    progress: &dyn Progress,
) -> Result<BestOf, FitError> {
    let clusters = spec.segments.fewest();
    let distinct = data.distinct_rows(clusters);
    if distinct < clusters {
        return Err(FitError::TooFewDistinct { distinct, segments: clusters });
    }
    let finished = AtomicU64::new(0);
    let partitions = (0..spec.starts)
        .into_par_iter()
        .map(|start| {
            let mut rng = Rng::new(spec.seed, FIRST_START_STREAM + start as u64);
            let seeds = seed::plus_plus(data, clusters, &mut rng);
            let centres = swap::improve(data, seeds, &mut rng);
            let partition = lloyd(data, centres, spec.max_iterations, spec.tolerance, progress)?;
            let done = finished.fetch_add(1, Ordering::Relaxed) + 1;
            progress.report("cluster", done, spec.starts as u64);
            Ok(partition)
        })
        .collect::<Result<Vec<_>, FitError>>()?;

    let inertias: Vec<f64> = partitions.iter().map(|partition| partition.inertia).collect();
    let (start, partition) = partitions
        .into_iter()
        .enumerate()
        .min_by(|(_, a), (_, b)| a.inertia.total_cmp(&b.inertia))
        .ok_or(FitError::TooFewDistinct { distinct, segments: clusters })?;
    Ok(BestOf { partition, start, inertias })
}

/// Moves `centres` until no label changes, or until the squared movement of
/// all centres is at most `tolerance` times the mean variance of the columns,
/// or `max_iterations` times.
pub fn lloyd(
    data: &Dataset,
    mut centres: Array2<f64>,
    max_iterations: usize,
    tolerance: f64,
    progress: &dyn Progress,
) -> Result<Partition, FitError> {
    let enough_movement = tolerance * stats::mean(&data.column_moments().1);
    let mut labels = vec![u32::MAX; data.rows()];
    let mut iterations = 0;
    let mut labels_fit_centres = false;
    while iterations < max_iterations {
        if progress.should_stop() {
            return Err(FitError::Stopped);
        }
        iterations += 1;
        let mut sums = assign(data, &centres, &mut labels);
        relocate_empty(data, &centres, &labels, &mut sums);
        let moved = sums.centres(&centres);
        let movement: f64 = (&moved - &centres).iter().map(|x| x * x).sum();
        centres = moved;
        if !sums.changed {
            labels_fit_centres = true;
            break;
        }
        if movement <= enough_movement {
            break;
        }
    }
    if !labels_fit_centres {
        assign(data, &centres, &mut labels);
    }
    let inertia = inertia(data, &centres, &labels);
    Ok(Partition { labels, centres, inertia, iterations })
}

/// What one pass over the rows gathers for each cluster.
struct Sums {
    /// Sum of the rows of each cluster, (`clusters`, `n_columns`).
    rows: Array2<f64>,
    /// Rows in each cluster.
    counts: Vec<u64>,
    /// Whether any label is not what it was.
    changed: bool,
}

impl Sums {
    fn zero(shape: (usize, usize)) -> Self {
        Self { rows: Array2::zeros(shape), counts: vec![0; shape.0], changed: false }
    }

    fn add(&mut self, other: &Self) {
        self.rows += &other.rows;
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.changed |= other.changed;
    }

    /// The mean of each cluster; a cluster that is still empty goes where the
    /// largest one is.
    fn centres(&self, before: &Array2<f64>) -> Array2<f64> {
        let mut centres = before.clone();
        let largest = (0..self.counts.len()).rev().max_by_key(|c| self.counts[*c]).unwrap_or(0);
        for (cluster, mut centre) in centres.rows_mut().into_iter().enumerate() {
            let from = if self.counts[cluster] > 0 { cluster } else { largest };
            let count = self.counts[from].max(1) as f64;
            centre.assign(&self.rows.row(from).mapv(|sum| sum / count));
        }
        centres
    }
}

/// Labels each row with its nearest centre, of equally near ones the first.
fn assign(data: &Dataset, centres: &Array2<f64>, labels: &mut [u32]) -> Sums {
    let length = data.chunk_rows();
    let partial: Vec<Sums> = labels
        .par_chunks_mut(length)
        .enumerate()
        .map(|(chunk, labels)| assign_chunk(data, centres, chunk * length, labels))
        .collect();
    let mut sums = Sums::zero(centres.dim());
    for part in &partial {
        sums.add(part);
    }
    sums
}

fn assign_chunk(
    data: &Dataset,
    centres: &Array2<f64>,
    first_row: usize,
    labels: &mut [u32],
) -> Sums {
    let mut sums = Sums::zero(centres.dim());
    let mut row = vec![0.0_f64; data.columns()];
    for (offset, label) in labels.iter_mut().enumerate() {
        for (x, value) in row.iter_mut().zip(data.row(first_row + offset)) {
            *x = f64::from(*value);
        }
        let mut nearest = (f64::INFINITY, 0);
        for (cluster, centre) in centres.rows().into_iter().enumerate() {
            let squared: f64 = row.iter().zip(centre).map(|(x, c)| (x - c) * (x - c)).sum();
            if squared < nearest.0 {
                nearest = (squared, cluster);
            }
        }
        let cluster = nearest.1;
        sums.changed |= *label != cluster as u32;
        *label = cluster as u32;
        sums.counts[cluster] += 1;
        for (sum, x) in sums.rows.row_mut(cluster).iter_mut().zip(&row) {
            *sum += x;
        }
    }
    sums
}

/// Gives each empty cluster one row: those farthest from their centres, taken
/// out of the clusters they were in.
fn relocate_empty(data: &Dataset, centres: &Array2<f64>, labels: &[u32], sums: &mut Sums) {
    let empty: Vec<usize> = (0..sums.counts.len()).filter(|c| sums.counts[*c] == 0).collect();
    if empty.is_empty() {
        return;
    }
    let mut farthest: Vec<(f64, usize)> =
        (0..data.rows()).map(|row| (to_own_centre(data, centres, labels, row), row)).collect();
    farthest.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for (cluster, (distance, row)) in empty.into_iter().zip(farthest) {
        // All rows sit on their centres: there is nothing to split.
        if distance <= 0.0 {
            return;
        }
        let from = labels[row] as usize;
        let row = data.row(row).mapv(f64::from);
        let mut source = sums.rows.row_mut(from);
        source -= &row;
        sums.rows.row_mut(cluster).assign(&row);
        sums.counts[from] = sums.counts[from].saturating_sub(1);
        sums.counts[cluster] = 1;
    }
}

fn inertia(data: &Dataset, centres: &Array2<f64>, labels: &[u32]) -> f64 {
    let partial = data
        .map_chunks(|rows| rows.map(|row| to_own_centre(data, centres, labels, row)).sum::<f64>());
    partial.iter().sum()
}

/// Squared distance of a row to the centre it is labelled with.
fn to_own_centre(data: &Dataset, centres: &Array2<f64>, labels: &[u32], row: usize) -> f64 {
    data.squared_distance(row, centres.row(labels[row] as usize))
}
