//! Consensus clustering of several k-means runs (cluster ensemble).
//!
//! The runs differ in their starts and in their number of clusters, k to 2k. Each run becomes
//! one indicator column per cluster, so the squared distance of two rows grows with the number
//! of runs that separate them. k-means in this space maximises the quadratic mutual information
//! between the result and the runs: Topchy, Jain and Punch (2005), *Clustering ensembles:
//! models of consensus and weak partitions*. A segment of any shape that some runs divide and
//! others do not comes out whole.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::domain::stats::RandomStream;
use crate::domain::train::clustering::kmeans::init;
use crate::domain::train::clustering::sample::RowLabels;
use crate::domain::train::clustering::{kmeans, sample};
use crate::domain::train::{EncodedDataset, TrainingError, TrainingProgress};

/// Random stream of the first run; each run has its own.
const FIRST_STREAM: u64 = 5 << 32;
const MAX_ITERATIONS: usize = 100;
const TOLERANCE: f64 = 1e-4;
/// Starts of the k-means on the indicators.
const STARTS: u64 = 5;

/// Settings of consensus clustering.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsensusSettings {
    pub runs: usize,
    /// Maximum number of rows to cluster: of more rows a sample is clustered, and each other
    /// row gets the label of its nearest sampled row.
    pub max_rows: usize,
}

impl Default for ConsensusSettings {
    fn default() -> Self {
        Self { runs: 20, max_rows: 5000 }
    }
}

/// Segment of each row.
pub(crate) fn fit(
    data: &EncodedDataset,
    segments: usize,
    settings: &ConsensusSettings,
    seed: u64,
    progress: &dyn TrainingProgress,
) -> Result<RowLabels, TrainingError> {
    sample::cluster_sample(data, settings.max_rows, seed, |data, _| {
        let distinct = data.distinct_rows(2 * segments);
        if distinct < segments {
            return Err(TrainingError::TooFewDistinct { distinct, segments });
        }
        let mut indicators: Vec<Vec<f32>> = vec![Vec::new(); data.rows()];
        for run in 0..settings.runs {
            let mut rng = RandomStream::new(seed, FIRST_STREAM + run as u64);
            // Uniform in k..=2k: the ensemble mixes resolutions.
            let clusters = (segments + rng.uniform_below(segments + 1)).min(distinct);
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
        let votes = data.with_matrix(matrix.unwrap_or_default());
        // The runs may separate fewer groups of rows than the segments requested.
        let distinct = votes.distinct_rows(segments);
        if distinct < segments {
            return Err(TrainingError::TooFewDistinct { distinct, segments });
        }
        let mut best: Option<kmeans::KmeansPartition> = None;
        for start in 0..STARTS {
            let mut rng = RandomStream::new(seed, FIRST_STREAM + settings.runs as u64 + start);
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
    data: &EncodedDataset,
    clusters: usize,
    rng: &mut RandomStream,
    progress: &dyn TrainingProgress,
) -> Result<kmeans::KmeansPartition, TrainingError> {
    let centres = init::kmeans_plus_plus(data, clusters, rng);
    kmeans::run_lloyd(data, centres, MAX_ITERATIONS, TOLERANCE, progress)
}
