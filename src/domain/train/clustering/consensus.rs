//! What several runs of k-means agree on.
//!
//! The runs differ in their number of clusters, k to 2k, and in their starts.
//! Rows are then compared by the clusters they were in: each run is one column of
//! indicators a cluster, in which rows are as far apart as the number of runs
//! that part them, and k-means there maximises what the result and the runs
//! have in common (quadratic mutual information): Topchy, Jain and Punch (2005),
//! *Clustering ensembles: models of consensus and weak partitions*. Segments that one
//! run cuts in two and another does not come out whole, of any shape.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::domain::stats::Rng;
use crate::domain::train::clustering::kmeans::init;
use crate::domain::train::clustering::sample::Labels;
use crate::domain::train::clustering::{kmeans, sample};
use crate::domain::train::{Dataset, FitError, Progress};

/// The random stream of the first run; each has its own.
const FIRST_STREAM: u64 = 5 << 32;
const MAX_ITERATIONS: usize = 100;
const TOLERANCE: f64 = 1e-4;
/// Starts of the k-means among the indicators.
const STARTS: u64 = 5;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consensus {
    pub runs: usize,
    /// Of more rows a sample of so many is clustered; the others go where
    /// their nearest sampled row is.
    pub max_rows: usize,
}

impl Default for Consensus {
    fn default() -> Self {
        Self { runs: 20, max_rows: 5000 }
    }
}

/// One a row: its segment.
pub fn fit(
    data: &Dataset,
    segments: usize,
    settings: &Consensus,
    seed: u64,
    progress: &dyn Progress,
) -> Result<Labels, FitError> {
    sample::label(data, settings.max_rows, seed, |data, _| {
        let distinct = data.distinct_rows(2 * segments);
        if distinct < segments {
            return Err(FitError::TooFewDistinct { distinct, segments });
        }
        let mut indicators: Vec<Vec<f32>> = vec![Vec::new(); data.rows()];
        for run in 0..settings.runs {
            let mut rng = Rng::new(seed, FIRST_STREAM + run as u64);
            let clusters = (segments + rng.below(segments + 1)).min(distinct);
            let labels = cluster(data, clusters, &mut rng, progress)?.labels;
            for (row, label) in indicators.iter_mut().zip(labels) {
                row.extend(
                    (0..clusters as u32).map(|cluster| f32::from(u8::from(cluster == label))),
                );
            }
            progress.report("cluster", run as u64 + 1, settings.runs as u64);
        }
        let columns = indicators.first().map_or(0, Vec::len);
        let matrix = Array2::from_shape_vec((data.rows(), columns), indicators.concat());
        let votes = data.like(matrix.unwrap_or_default());
        // Runs may part fewer groups of rows than there are segments to find.
        let distinct = votes.distinct_rows(segments);
        if distinct < segments {
            return Err(FitError::TooFewDistinct { distinct, segments });
        }
        let mut best: Option<kmeans::Partition> = None;
        for start in 0..STARTS {
            let mut rng = Rng::new(seed, FIRST_STREAM + settings.runs as u64 + start);
            let found = cluster(&votes, segments, &mut rng, progress)?;
            if best.as_ref().is_none_or(|best| found.inertia < best.inertia) {
                best = Some(found);
            }
        }
        let labels = best.map(|best| best.labels).unwrap_or_default();
        Ok(labels.into_iter().map(Some).collect())
    })
}

fn cluster(
    data: &Dataset,
    clusters: usize,
    rng: &mut Rng,
    progress: &dyn Progress,
) -> Result<kmeans::Partition, FitError> {
    let centres = init::plus_plus(data, clusters, rng);
    kmeans::lloyd(data, centres, MAX_ITERATIONS, TOLERANCE, progress)
}
