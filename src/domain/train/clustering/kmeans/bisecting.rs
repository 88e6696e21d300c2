//! Bisecting k-means: repeatedly splits the segment with the largest sum of squares in two.
//!
//! Steinbach, Karypis and Kumar (2000), *A comparison of document clustering techniques*, with
//! scikit-learn's criterion for the segment to split.

use serde::{Deserialize, Serialize};

use crate::domain::stats::RandomStream;
use crate::domain::train::clustering::kmeans;
use crate::domain::train::clustering::kmeans::init;
use crate::domain::train::{EncodedDataset, TrainingError, TrainingProgress};

/// Random stream of the first split; each split has its own.
const FIRST_STREAM: u64 = 4 << 32;
const MAX_ITERATIONS: usize = 300;
const TOLERANCE: f64 = 1e-4;

/// Settings of bisecting k-means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BisectingKmeansSettings {
    /// Starts of each split; the one with the lowest inertia wins.
    pub starts: usize,
}

impl Default for BisectingKmeansSettings {
    fn default() -> Self {
        Self { starts: 3 }
    }
}

/// A segment before the last split.
struct RowPart {
    rows: Vec<usize>,
    inertia: f64,
}

/// Segment of each row.
pub fn fit(
    data: &EncodedDataset,
    segments: usize,
    settings: &BisectingKmeansSettings,
    seed: u64,
    progress: &dyn TrainingProgress,
) -> Result<Vec<u32>, TrainingError> {
    let distinct = data.distinct_rows(segments);
    if distinct < segments {
        return Err(TrainingError::TooFewDistinct { distinct, segments });
    }
    let all: Vec<usize> = (0..data.rows()).collect();
    let mut parts = vec![RowPart { inertia: inertia(data), rows: all }];
    while parts.len() < segments {
        progress.report("cluster", parts.len() as u64, segments as u64);
        let largest = (0..parts.len()).rev().max_by(|a, b| {
            let (a, b) = (&parts[*a], &parts[*b]);
            // A segment of one row is never split, even if rounding gives it an inertia.
            (a.rows.len() > 1).cmp(&(b.rows.len() > 1)).then(a.inertia.total_cmp(&b.inertia))
        });
        let part = parts.swap_remove(largest.unwrap_or_default());
        // `parts` has lost the part to split, so its length numbers the splits from 0.
        let first_stream = FIRST_STREAM + parts.len() as u64 * settings.starts as u64;
        let streams = first_stream..first_stream + settings.starts as u64;
        parts.extend(split_in_two(
            data,
            &part,
            streams.map(|stream| RandomStream::new(seed, stream)),
            progress,
        )?);
    }
    let mut labels = vec![0; data.rows()];
    for (label, part) in parts.iter().enumerate() {
        for row in &part.rows {
            labels[*row] = label as u32;
        }
    }
    Ok(labels)
}

/// Splits `part` by 2-means, with one start per random stream.
fn split_in_two(
    data: &EncodedDataset,
    part: &RowPart,
    streams: impl Iterator<Item = RandomStream>,
    progress: &dyn TrainingProgress,
) -> Result<[RowPart; 2], TrainingError> {
    let own = data.select(&part.rows);
    let mut best: Option<kmeans::KmeansPartition> = None;
    for mut rng in streams {
        let centres = init::kmeans_plus_plus(&own, 2, &mut rng);
        let found = kmeans::run_lloyd(&own, centres, MAX_ITERATIONS, TOLERANCE, progress)?;
        if best.as_ref().is_none_or(|best| found.inertia < best.inertia) {
            best = Some(found);
        }
    }
    let labels = best.map(|best| best.labels).unwrap_or_default();
    Ok([0, 1].map(|half| {
        let places: Vec<usize> = (0..labels.len()).filter(|row| labels[*row] == half).collect();
        let rows = places.iter().map(|place| part.rows[*place]).collect();
        RowPart { rows, inertia: inertia(&own.select(&places)) }
    }))
}

/// Sum of squared distances to the mean.
fn inertia(data: &EncodedDataset) -> f64 {
    data.column_moments().1.iter().sum::<f64>() * data.rows() as f64
}
