//! Mini-batch k-means: clusters a stream of rows with the memory of one batch.
//!
//! Sculley (2010), *Web-scale k-means clustering*: each batch moves a centre towards the mean of
//! its rows there, by their share of all rows the centre has received; a centre is thus the mean
//! of all its rows. The start is k-means on the first rows. A centre that receives hardly any
//! rows is a bad start that such moves cannot repair: it is placed at a row of the latest batch,
//! drawn in proportion to the squared distance from the centres. The same rows in the same
//! batches give the same bytes.

use ndarray::Array2;

use crate::domain::stats::RandomStream;
use crate::domain::train::clustering::kmeans;
use crate::domain::train::clustering::kmeans::lloyd::LloydAssignment;
use crate::domain::train::{EncodedDataset, TrainingError, TrainingProgress};

/// Random streams, distinct from those of the k-means starts.
const START_STREAM: u64 = 8;
const STARVED_STREAM: u64 = 9;
/// Limits of Lloyd's algorithm on the first rows.
const START_ITERATIONS: usize = 100;
const START_TOLERANCE: f64 = 1e-4;
/// A centre is starved when its recent rows are below this share of the mean, and that mean is
/// at least the number of rows below.
const STARVED_SHARE: f64 = 0.02;
const STARVED_AFTER_ROWS: f64 = 512.0;
/// Decay of the recent row counts per batch.
const MEMORY: f64 = 0.9;

/// Result of clustering a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamedCentres {
    /// (`clusters`, `n_columns`)
    pub centres: Array2<f64>,
    /// Number of rows averaged in each centre.
    pub counts: Vec<u64>,
    pub rows: u64,
    /// Mean squared distance of the rows after the start to their nearest centre at that time;
    /// of the start's own rows if no others followed.
    pub mean_squared_distance: f64,
}

/// Clusters `batches` of any length one by one. One batch is in memory at a time; the start
/// collects enough batches for its rows.
pub fn fit(
    batches: impl IntoIterator<Item = EncodedDataset>,
    clusters: usize,
    seed: u64,
    progress: &dyn TrainingProgress,
) -> Result<StreamedCentres, TrainingError> {
    let mut batches = batches.into_iter();
    let mut centres = start_centres(&mut batches, clusters, seed, progress)?;
    let mut starved = RandomStream::new(seed, STARVED_STREAM);
    let mut later = (0_u64, 0.0);
    for batch in batches {
        if progress.should_stop() {
            return Err(TrainingError::Stopped);
        }
        if batch.rows() > 0 {
            later = (
                later.0 + batch.rows() as u64,
                later.1 + centres.absorb_batch(&batch, &mut starved),
            );
            progress.report("cluster", centres.rows, centres.rows);
        }
    }
    let spread = if later.0 > 0 { later.1 / later.0 as f64 } else { centres.spread };
    Ok(StreamedCentres {
        centres: centres.places,
        counts: centres.counts,
        rows: centres.rows,
        mean_squared_distance: spread,
    })
}

/// k-means on the first rows.
fn start_centres(
    batches: &mut impl Iterator<Item = EncodedDataset>,
    clusters: usize,
    seed: u64,
    progress: &dyn TrainingProgress,
) -> Result<MovingCentres, TrainingError> {
    let enough = kmeans::sample_rows(clusters);
    let (mut values, mut rows, mut width) = (Vec::new(), 0, 0);
    while rows < enough {
        let Some(batch) = batches.next() else { break };
        values.extend_from_slice(batch.values());
        (rows, width) = (rows + batch.rows(), batch.columns());
    }
    let matrix = Array2::from_shape_vec((rows, width), values)
        .map_err(|_| TrainingError::TooFewDistinct { distinct: 0, segments: clusters })?;
    let first = EncodedDataset::new(matrix).with_pause(progress.pause());
    let distinct = first.distinct_rows(clusters);
    if distinct < clusters {
        return Err(TrainingError::TooFewDistinct { distinct, segments: clusters });
    }
    let seeds =
        kmeans::initial_centres(&first, clusters, &mut RandomStream::new(seed, START_STREAM));
    let settled = kmeans::run_lloyd(&first, seeds, START_ITERATIONS, START_TOLERANCE, progress)?;
    let mut counts = vec![0_u64; clusters];
    for label in &settled.labels {
        counts[*label as usize] += 1;
    }
    let spread = settled.inertia / rows as f64;
    let recent = counts.iter().map(|count| *count as f64).collect();
    Ok(MovingCentres { places: settled.centres, counts, recent, rows: rows as u64, spread })
}

struct MovingCentres {
    places: Array2<f64>,
    counts: Vec<u64>,
    /// Exponentially decayed row count of each centre.
    recent: Vec<f64>,
    /// Rows received.
    rows: u64,
    /// Mean squared distance of the rows of the start.
    spread: f64,
}

impl MovingCentres {
    /// Moves the centres towards a batch; returns its sum of squared distances.
    fn absorb_batch(&mut self, batch: &EncodedDataset, rng: &mut RandomStream) -> f64 {
        let clusters = self.counts.len();
        let (mean, _) = batch.column_moments();
        let mut assignment = LloydAssignment::new(batch, &mean, clusters);
        assignment.reassign(&self.places);
        let inertia = kmeans::inertia(batch, &self.places, &assignment.labels);
        for (centre, mut place) in self.places.rows_mut().into_iter().enumerate() {
            let new = assignment.sums.counts[centre];
            self.recent[centre] = self.recent[centre] * MEMORY + new as f64;
            if new == 0 {
                continue;
            }
            self.counts[centre] += new.unsigned_abs();
            // Running mean: with this rate the centre is the mean of all its rows.
            let rate = 1.0 / self.counts[centre] as f64;
            for (x, sum) in place.iter_mut().zip(assignment.sums.rows.row(centre)) {
                *x += (sum - new as f64 * *x) * rate;
            }
        }
        self.rows += batch.rows() as u64;
        self.relocate_starved(batch, &assignment.labels, rng);
        inertia
    }

    /// Moves starved centres to rows of `batch` that are far from the other centres.
    fn relocate_starved(&mut self, batch: &EncodedDataset, labels: &[u32], rng: &mut RandomStream) {
        let clusters = self.counts.len();
        let mean = self.recent.iter().sum::<f64>() / clusters as f64;
        let starved: Vec<usize> =
            (0..clusters).filter(|c| self.recent[*c] < STARVED_SHARE * mean).collect();
        if starved.is_empty() || mean < STARVED_AFTER_ROWS {
            return;
        }
        let mut squared: Vec<f64> = (0..batch.rows())
            .map(|row| batch.squared_distance(row, self.places.row(labels[row] as usize)))
            .collect();
        for centre in starved {
            let row = rng.weighted_index(&squared, squared.iter().sum());
            squared[row] = 0.0;
            for (x, new) in self.places.row_mut(centre).iter_mut().zip(batch.row(row)) {
                *x = f64::from(*new);
            }
            // A small count lets its own rows move the centre; the mean recent count prevents
            // it from being starved again at once.
            self.counts[centre] = (batch.rows() / clusters).max(1) as u64;
            self.recent[centre] = mean;
        }
    }
}
