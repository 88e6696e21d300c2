//! k-medians: minimises the sum of Manhattan distances; less sensitive to outliers than k-means.
//!
//! Bradley, Mangasarian and Street (1997), *Clustering via concave minimization*: alternately
//! assigns rows to their nearest centre and moves each centre to the column medians of its rows.
//! Starts are drawn as in k-means++, by distance instead of squared distance.

use ndarray::Array2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::domain::model::DistanceMetric;
use crate::domain::stats::RandomStream;
use crate::domain::train::data::rows;
use crate::domain::train::{EncodedDataset, PrototypeClusters, TrainingError, TrainingProgress};

/// Random stream of the first start; each start has its own.
const FIRST_STREAM: u64 = 6 << 32;

/// Settings of k-medians.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KmediansSettings {
    pub starts: usize,
    pub max_iterations: usize,
}

impl Default for KmediansSettings {
    fn default() -> Self {
        Self { starts: 5, max_iterations: 100 }
    }
}

/// Result of one start.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KmediansFit {
    pub labels: Vec<u32>,
    /// (`clusters`, `n_columns`)
    pub centres: Array2<f64>,
    /// Sum of Manhattan distances of the rows to their centres.
    pub cost: f64,
}

/// Fits k-medians; the result is served by Manhattan distance.
pub fn fit(
    data: &EncodedDataset,
    segments: usize,
    settings: &KmediansSettings,
    seed: u64,
    progress: &dyn TrainingProgress,
) -> Result<PrototypeClusters, TrainingError> {
    let distinct = data.distinct_rows(segments);
    if distinct < segments {
        return Err(TrainingError::TooFewDistinct { distinct, segments });
    }
    let mut best: Option<KmediansFit> = None;
    for start in 0..settings.starts {
        let mut rng = RandomStream::new(seed, FIRST_STREAM + start as u64);
        let found =
            iterate_medians(data, start_centres(data, segments, &mut rng), settings, progress)?;
        if best.as_ref().is_none_or(|best| found.cost < best.cost) {
            best = Some(found);
        }
        progress.report("cluster", start as u64 + 1, settings.starts as u64);
    }
    let best = best.ok_or(TrainingError::TooFewDistinct { distinct, segments })?;
    Ok(PrototypeClusters {
        labels: best.labels.into_iter().map(Some).collect(),
        prototypes: best.centres,
        segment_of: (0..segments as u32).collect(),
        weights: None,
        offsets: None,
        radius: None,
        metric: DistanceMetric::Manhattan,
    })
}

/// Alternates assignment and medians until no label changes, or `max_iterations` times.
pub(crate) fn iterate_medians(
    data: &EncodedDataset,
    mut centres: Array2<f64>,
    settings: &KmediansSettings,
    progress: &dyn TrainingProgress,
) -> Result<KmediansFit, TrainingError> {
    let mut near = nearest_centres(data, &centres);
    for _ in 0..settings.max_iterations {
        if progress.should_stop() {
            return Err(TrainingError::Stopped);
        }
        // Before the medians, so that every cluster has rows to take them of.
        fill_empty_clusters(&mut near, centres.nrows());
        centres = cluster_medians(data, &near, &centres);
        let again = nearest_centres(data, &centres);
        let changed = again.iter().zip(&near).any(|(now, before)| now.0 != before.0);
        near = again;
        if !changed {
            break;
        }
    }
    Ok(KmediansFit {
        labels: near.iter().map(|(label, _)| *label).collect(),
        cost: near.iter().map(|(_, distance)| distance).sum(),
        centres,
    })
}

fn start_centres(data: &EncodedDataset, count: usize, rng: &mut RandomStream) -> Array2<f64> {
    let mut chosen = vec![rng.uniform_below(data.rows())];
    let mut least = vec![f64::INFINITY; data.rows()];
    while chosen.len() < count {
        // Distances only fall: each row compares with the newest centre alone.
        let centre = rows::point(data, chosen[chosen.len() - 1]);
        least.par_iter_mut().enumerate().for_each(|(row, least)| {
            *least = least.min(manhattan_distance(data, row, &centre));
        });
        chosen.push(rng.weighted_index(&least, least.iter().sum()));
    }
    Array2::from_shape_fn((count, data.columns()), |(centre, column)| {
        f64::from(data.row(chosen[centre])[column])
    })
}

/// Nearest centre of each row, of equally near ones the first, with its distance.
fn nearest_centres(data: &EncodedDataset, centres: &Array2<f64>) -> Vec<(u32, f64)> {
    rows::map(data, |row| {
        let mut best = (0, f64::INFINITY);
        for (label, centre) in centres.rows().into_iter().enumerate() {
            let distance = manhattan_distance(data, row, centre);
            if distance < best.1 {
                best = (label as u32, distance);
            }
        }
        best
    })
}

fn manhattan_distance<'a>(
    data: &EncodedDataset,
    row: usize,
    point: impl IntoIterator<Item = &'a f64>,
) -> f64 {
    data.row(row).iter().zip(point).map(|(x, p)| (f64::from(*x) - p).abs()).sum()
}

/// Gives each empty cluster the row farthest from its centre, out of a cluster with other rows.
fn fill_empty_clusters(near: &mut [(u32, f64)], clusters: usize) {
    let mut counts = vec![0_usize; clusters];
    for (label, _) in near.iter() {
        counts[*label as usize] += 1;
    }
    for empty in 0..clusters {
        if counts[empty] > 0 {
            continue;
        }
        let farthest = (0..near.len())
            .rev()
            .filter(|row| counts[near[*row].0 as usize] > 1)
            .max_by(|a, b| near[*a].1.total_cmp(&near[*b].1));
        if let Some(row) = farthest {
            counts[near[row].0 as usize] -= 1;
            counts[empty] = 1;
            near[row] = (empty as u32, 0.0);
        }
    }
}

/// Column medians of each cluster; for an even number of values the mean of the middle two.
fn cluster_medians(
    data: &EncodedDataset,
    near: &[(u32, f64)],
    before: &Array2<f64>,
) -> Array2<f64> {
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); before.nrows()];
    near.iter().enumerate().for_each(|(row, (label, _))| rows[*label as usize].push(row));
    let medians: Vec<f64> = (0..before.len())
        .into_par_iter()
        .map(|place| {
            let (cluster, column) = (place / before.ncols(), place % before.ncols());
            let mut values: Vec<f32> =
                rows[cluster].iter().map(|row| data.row(*row)[column]).collect();
            if values.is_empty() {
                return before[[cluster, column]];
            }
            let middle = values.len() / 2;
            let is_even = values.len().is_multiple_of(2);
            // Selection in linear time. The lower middle value is the largest of the lower part.
            let (lower, upper, _) = values.select_nth_unstable_by(middle, f32::total_cmp);
            let upper = f64::from(*upper);
            let below = lower.iter().copied().max_by(f32::total_cmp).filter(|_| is_even);
            below.map_or(upper, |below| f64::midpoint(f64::from(below), upper))
        })
        .collect();
    Array2::from_shape_vec(before.dim(), medians).unwrap_or_else(|_| before.clone())
}
