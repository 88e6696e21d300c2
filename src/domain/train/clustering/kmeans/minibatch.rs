//! Mini-batch k-means: k-means at the cost of a few rows per step, for many rows.
//!
//! Sculley (2010), *Web-scale k-means clustering*: each step assigns a random batch to the
//! nearest centres and moves every centre towards its rows by a learning rate of its own, the
//! share of the batch in all rows that the centre has received. A centre is thus the mean of
//! all its rows. Initialisation, reassignment of starved centres and early stopping follow
//! scikit-learn's `MiniBatchKMeans`, with one difference: a Lloyd iteration over all rows ends
//! the search. It labels the rows and gives rows to empty segments.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::domain::stats::RandomStream;
use crate::domain::train::clustering::kmeans;
use crate::domain::train::clustering::kmeans::KmeansPartition;
use crate::domain::train::clustering::kmeans::lloyd::LloydAssignment;
use crate::domain::train::{EncodedDataset, TrainingError, TrainingProgress};

/// Random streams: of the batches, of the validation rows, and of the first start.
const BATCH_STREAM: u64 = 9 << 32;
const VALIDATION_STREAM: u64 = BATCH_STREAM + 1;
const FIRST_START_STREAM: u64 = BATCH_STREAM + 2;
/// Size of the sample for a start, in batches, and its minimum in rows per centre.
const START_BATCHES: usize = 3;
const START_ROWS_PER_CENTRE: usize = 3;
/// Rows per centre between two searches for starved centres.
const ROWS_BETWEEN_REASSIGNMENTS: usize = 10;
/// Limit of the additional Lloyd iterations while a segment is empty.
const FILL_ITERATIONS: usize = 100;

/// Settings of mini-batch k-means; names and defaults are those of scikit-learn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MiniBatchKmeansSettings {
    /// Candidates for the initial centres, each from its own sample. The one with the lowest
    /// inertia on other rows is used; the steps run once. 1..=1000.
    pub starts: usize,
    /// Rows per step. 1..=10000000.
    pub batch_size: usize,
    /// Upper limit of the passes over all rows: the steps draw at most this multiple of the
    /// rows. 1..=10000.
    pub max_iterations: usize,
    /// Steps without improvement of the smoothed inertia after which the search stops.
    /// 1..=1000000.
    pub max_no_improvement: usize,
    /// A centre is starved if its rows are below this share of the rows of the largest centre.
    /// 0..=1.
    pub reassignment_ratio: f64,
}

impl Default for MiniBatchKmeansSettings {
    fn default() -> Self {
        Self {
            starts: 3,
            batch_size: 1024,
            max_iterations: 100,
            max_no_improvement: 10,
            reassignment_ratio: 0.01,
        }
    }
}

/// Fits mini-batch k-means. Uses the current rayon pool; the result does not depend on its size.
pub fn fit(
    data: &EncodedDataset,
    clusters: usize,
    settings: &MiniBatchKmeansSettings,
    seed: u64,
    progress: &dyn TrainingProgress,
) -> Result<KmeansPartition, TrainingError> {
    let distinct = data.distinct_rows(clusters);
    if distinct < clusters {
        return Err(TrainingError::TooFewDistinct { distinct, segments: clusters });
    }
    let batch_size = settings.batch_size.min(data.rows());
    let steps = settings.max_iterations.saturating_mul(data.rows()) / batch_size;
    let start_rows = (START_BATCHES * batch_size).max(START_ROWS_PER_CENTRE * clusters);
    let mut centres =
        MovingCentres::new(best_start(data, clusters, start_rows, settings.starts, seed));
    let mut rng = RandomStream::new(seed, BATCH_STREAM);
    let mut stopping = EarlyStopping::new(batch_size, data.rows());
    let mut rows_since_reassignment = 0;
    for step in 0..steps {
        if progress.should_stop() {
            return Err(TrainingError::Stopped);
        }
        let batch = draw_rows(data, batch_size, &mut rng);
        let assigned = centres.update(&batch);
        rows_since_reassignment += batch_size;
        let is_due = rows_since_reassignment >= ROWS_BETWEEN_REASSIGNMENTS * clusters;
        if is_due || centres.counts.contains(&0) {
            rows_since_reassignment = 0;
            centres.reassign_starved(&batch, settings.reassignment_ratio, &mut rng);
        }
        progress.report("cluster", step as u64 + 1, steps as u64);
        // The inertia of the first step is that of the initial centres.
        if step > 0 && stopping.stalled_steps(assigned.inertia) >= settings.max_no_improvement {
            break;
        }
    }
    let partition = kmeans::run_lloyd(data, centres.centres, 1, 0.0, progress)?;
    let mut is_used = vec![false; clusters];
    for label in &partition.labels {
        is_used[*label as usize] = true;
    }
    // Two centres at one position leave a segment empty.
    if is_used.contains(&false) {
        return kmeans::run_lloyd(data, partition.centres, FILL_ITERATIONS, 0.0, progress);
    }
    Ok(partition)
}

/// Centres that batches move.
#[derive(Debug, Clone, PartialEq)]
pub struct MovingCentres {
    /// (`clusters`, `n_columns`)
    pub centres: Array2<f64>,
    /// Rows that each centre has received.
    pub counts: Vec<u64>,
}

/// Assignment of a batch to the centres before their move.
#[derive(Debug, Clone, PartialEq)]
pub struct AssignedBatch {
    /// Index of the nearest centre of each row.
    pub labels: Vec<u32>,
    /// Sum of squared distances of the rows to their nearest centres.
    pub inertia: f64,
}

impl MovingCentres {
    /// Centres without rows: the first rows of a centre replace its initial position.
    pub fn new(centres: Array2<f64>) -> Self {
        let counts = vec![0; centres.nrows()];
        Self { centres, counts }
    }

    /// Assigns the batch, then moves every centre to the mean of all its rows so far.
    pub fn update(&mut self, batch: &EncodedDataset) -> AssignedBatch {
        let (mean, _) = batch.column_moments();
        let mut assignment = LloydAssignment::new(batch, &mean, self.counts.len());
        assignment.reassign(&self.centres);
        let inertia = kmeans::inertia(batch, &self.centres, &assignment.labels);
        for (cluster, mut centre) in self.centres.rows_mut().into_iter().enumerate() {
            let new = assignment.sums.counts[cluster];
            if new == 0 {
                continue;
            }
            self.counts[cluster] += new.unsigned_abs();
            let learning_rate = 1.0 / self.counts[cluster] as f64;
            for (x, sum) in centre.iter_mut().zip(assignment.sums.rows.row(cluster)) {
                *x += (sum - new as f64 * *x) * learning_rate;
            }
        }
        AssignedBatch { labels: assignment.labels, inertia }
    }

    /// Moves starved centres to random rows of the batch, at most half as many as it has rows.
    fn reassign_starved(&mut self, batch: &EncodedDataset, ratio: f64, rng: &mut RandomStream) {
        let largest = self.counts.iter().copied().max().unwrap_or(0);
        let enough = ratio * largest as f64;
        let mut starved: Vec<usize> =
            (0..self.counts.len()).filter(|c| (self.counts[*c] as f64) < enough).collect();
        starved.sort_by_key(|centre| self.counts[*centre]);
        starved.truncate(batch.rows() / 2);
        if starved.is_empty() {
            return;
        }
        // With the smallest other count a moved centre is not starved at once, and follows its
        // next rows quickly.
        let others = (0..self.counts.len()).filter(|centre| !starved.contains(centre));
        let count = others.map(|centre| self.counts[centre]).min().unwrap_or(largest);
        let mut rows: Vec<usize> = (0..batch.rows()).collect();
        rng.shuffle(&mut rows);
        for (centre, row) in starved.into_iter().zip(rows) {
            for (x, new) in self.centres.row_mut(centre).iter_mut().zip(batch.row(row)) {
                *x = f64::from(*new);
            }
            self.counts[centre] = count;
        }
    }
}

/// Early stopping by an exponentially weighted average of the batches' inertia.
struct EarlyStopping {
    /// Weight of the latest batch.
    weight: f64,
    average: Option<f64>,
    least: f64,
    stalled: usize,
}

impl EarlyStopping {
    fn new(batch_size: usize, rows: usize) -> Self {
        // An average over about half of the rows.
        let weight = (2.0 * batch_size as f64 / (rows as f64 + 1.0)).min(1.0);
        Self { weight, average: None, least: f64::INFINITY, stalled: 0 }
    }

    /// Adds the inertia of a batch; returns the number of steps since the average was lowest.
    fn stalled_steps(&mut self, inertia: f64) -> usize {
        let before = self.average.unwrap_or(inertia);
        let average = before + self.weight * (inertia - before);
        self.average = Some(average);
        if average < self.least {
            self.least = average;
            self.stalled = 0;
        } else {
            self.stalled += 1;
        }
        self.stalled
    }
}

/// Initial centres: of `starts` candidates the one with the lowest inertia on a sample of its
/// own, of equal ones the first.
fn best_start(
    data: &EncodedDataset,
    clusters: usize,
    start_rows: usize,
    starts: usize,
    seed: u64,
) -> Array2<f64> {
    let validation = draw_rows(data, start_rows, &mut RandomStream::new(seed, VALIDATION_STREAM));
    let mut rng = RandomStream::new(seed, FIRST_START_STREAM);
    let mut best = start_centres(data, clusters, start_rows, &mut rng);
    let mut least = inertia_of(&validation, &best);
    for start in 1..starts {
        let mut rng = RandomStream::new(seed, FIRST_START_STREAM + start as u64);
        let centres = start_centres(data, clusters, start_rows, &mut rng);
        let inertia = inertia_of(&validation, &centres);
        if inertia < least {
            (best, least) = (centres, inertia);
        }
    }
    best
}

fn start_centres(
    data: &EncodedDataset,
    clusters: usize,
    start_rows: usize,
    rng: &mut RandomStream,
) -> Array2<f64> {
    if start_rows < data.rows() {
        let sample = draw_rows(data, start_rows, rng);
        // A sample of mostly equal rows has too few positions for the centres.
        if sample.distinct_rows(clusters) == clusters {
            return kmeans::initial_centres(&sample, clusters, rng);
        }
    }
    kmeans::initial_centres(data, clusters, rng)
}

fn inertia_of(data: &EncodedDataset, centres: &Array2<f64>) -> f64 {
    MovingCentres::new(centres.clone()).update(data).inertia
}

/// Draws rows with replacement: no list of all rows is shuffled for a small batch. A sample as
/// large as the data is all rows.
fn draw_rows(data: &EncodedDataset, count: usize, rng: &mut RandomStream) -> EncodedDataset {
    if count >= data.rows() {
        return data.clone();
    }
    let rows: Vec<usize> = (0..count).map(|_| rng.uniform_below(data.rows())).collect();
    data.select(&rows)
}
