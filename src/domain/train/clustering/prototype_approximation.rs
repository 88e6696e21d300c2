//! Prototype approximation: a few prototypes that reproduce any labelling of the rows.
//!
//! Serving computes nearest prototypes only; the borders of a hierarchy, a density or a full
//! covariance have other shapes. Each segment gets the k-means centres of its own rows. Segments
//! with wrong served labels get more prototypes, until enough rows agree or the maximum number
//! of prototypes is reached. Noise is every row beyond the radius of its nearest segment; the
//! radius separates the segment's rows best from the noise nearest to it. The agreement is
//! measured on all rows and returned as fidelity.

use ndarray::{Array2, Axis, concatenate};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::domain::model::DistanceMetric;
use crate::domain::stats::RandomStream;
use crate::domain::train::clustering::kmeans;
use crate::domain::train::clustering::kmeans::init;
use crate::domain::train::data::rows;
use crate::domain::train::{EncodedDataset, PrototypeClusters, TrainingError, TrainingProgress};

/// Random streams of the sample, and of the k-means of each round and segment.
const SAMPLE_STREAM: u64 = 7 << 32;
const KMEANS_STREAM: u64 = 8 << 32;
/// Approximate size of the sample, and the minimum number of rows per segment (or all).
const SAMPLE_ROWS: usize = 20_000;
const MIN_SEGMENT_ROWS: usize = 100;
const ITERATIONS: usize = 30;
const TOLERANCE: f64 = 1e-4;
/// A round is accepted if it improves the agreement by this share of the rows; the search ends
/// after this number of rejected rounds in a row.
const MIN_GAIN: f64 = 0.002;
const PATIENCE: usize = 2;

/// Settings of the approximation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApproximationSettings {
    /// Required share of rows with the given label, 0..=1.
    pub agreement: f64,
    /// Total over all segments; at least one each.
    pub max_prototypes: usize,
}

impl Default for ApproximationSettings {
    fn default() -> Self {
        Self { agreement: 0.99, max_prototypes: 512 }
    }
}

/// The served form of a labelling.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PrototypeApproximation {
    pub clusters: PrototypeClusters,
    /// Share of rows with a served label, noise included, equal to the given label.
    pub fidelity: f64,
}

/// Approximates `labels` by prototypes. Every segment from 0 to the largest label has a row.
pub(crate) fn approximate(
    data: &EncodedDataset,
    labels: &[Option<u32>],
    settings: &ApproximationSettings,
    seed: u64,
    progress: &dyn TrainingProgress,
) -> Result<PrototypeApproximation, TrainingError> {
    let segments = labels.iter().flatten().max().map_or(0, |last| *last as usize + 1);
    let chosen = stratified_sample(labels, segments, &mut RandomStream::new(seed, SAMPLE_STREAM));
    let sample = data.select(&chosen);
    let wanted: Vec<Option<u32>> = chosen.iter().map(|row| labels[*row]).collect();
    let rows_of: Vec<EncodedDataset> = (0..segments as u32)
        .map(|segment| {
            let rows = (0..wanted.len()).filter(|row| wanted[*row] == Some(segment));
            sample.select(&rows.collect::<Vec<_>>())
        })
        .collect();

    let mut counts = vec![1; segments];
    let mut centres: Vec<Array2<f64>> = rows_of.iter().map(mean_centre).collect();
    let gain = (MIN_GAIN * wanted.len() as f64).ceil() as usize;
    let mut stalled = 0;
    let mut best: Option<(usize, ServedPrototypes)> = None;
    for round in 0.. {
        let served = ServedPrototypes::new(&sample, &wanted, &centres)?;
        let errors = served.count_errors(&sample, &wanted, segments);
        // `errors` counts each wrong row twice.
        let agreeing = wanted.len() - errors.iter().sum::<usize>() / 2;
        // The first round always counts: `least` is 0 until a result exists.
        let least = best.as_ref().map_or(0, |(most, _)| most + gain);
        if agreeing >= least {
            best = Some((agreeing, served));
            stalled = 0;
        } else {
            stalled += 1;
        }
        let is_enough = agreeing as f64 >= settings.agreement * wanted.len() as f64;
        if is_enough || stalled == PATIENCE {
            break;
        }
        let grown = add_prototypes(&mut counts, &errors, &rows_of, settings);
        if grown.is_empty() {
            break;
        }
        for segment in grown {
            // One stream per round and segment: the order of segments in a round has no influence.
            let stream = KMEANS_STREAM + (round * segments + segment) as u64;
            let mut rng = RandomStream::new(seed, stream);
            let own = &rows_of[segment];
            let starts = init::kmeans_plus_plus(own, counts[segment], &mut rng);
            centres[segment] =
                kmeans::run_lloyd(own, starts, ITERATIONS, TOLERANCE, progress)?.centres;
        }
    }
    let served = best.map(|(_, served)| served).ok_or(TrainingError::Stopped)?;
    // Fidelity is measured on all rows, not on the sample that the prototypes were fitted to.
    let agreeing = rows::map(data, |row| served.label(data, row) == labels[row]);
    let agreeing = agreeing.into_iter().filter(|agrees| *agrees).count();
    Ok(PrototypeApproximation {
        clusters: PrototypeClusters {
            labels: labels.to_vec(),
            prototypes: served.prototypes,
            segment_of: served.segment_of,
            weights: None,
            offsets: None,
            radius: served.reach,
            metric: DistanceMetric::Euclidean,
        },
        fidelity: agreeing as f64 / data.rows().max(1) as f64,
    })
}

/// Stratified sample in row order: the same share of each segment and of the noise, but at
/// least [`MIN_SEGMENT_ROWS`] rows of each.
fn stratified_sample(
    labels: &[Option<u32>],
    segments: usize,
    rng: &mut RandomStream,
) -> Vec<usize> {
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); segments + 1];
    for (row, label) in labels.iter().enumerate() {
        groups[label.map_or(segments, |label| label as usize)].push(row);
    }
    let share = SAMPLE_ROWS as f64 / labels.len().max(1) as f64;
    let mut chosen: Vec<usize> = Vec::new();
    for mut group in groups {
        rng.shuffle(&mut group);
        let kept = ((group.len() as f64 * share).ceil() as usize).max(MIN_SEGMENT_ROWS);
        chosen.extend(group.into_iter().take(kept));
    }
    chosen.sort_unstable();
    chosen
}

fn mean_centre(data: &EncodedDataset) -> Array2<f64> {
    let means = data.column_moments().0;
    Array2::from_shape_fn((1, means.len()), |(_, column)| means[column])
}

/// Doubles the prototypes of the segments with too many errors, those with the largest error
/// share first, within `max_prototypes`; returns the segments that grew.
fn add_prototypes(
    counts: &mut [usize],
    errors: &[usize],
    rows_of: &[EncodedDataset],
    settings: &ApproximationSettings,
) -> Vec<usize> {
    let mut candidates: Vec<(f64, usize)> = Vec::new();
    for (segment, rows) in rows_of.iter().enumerate() {
        let errors = errors[segment] as f64;
        if errors > (1.0 - settings.agreement) * rows.rows() as f64 {
            candidates.push((errors / rows.rows().max(1) as f64, segment));
        }
    }
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut order: Vec<usize> = candidates.into_iter().map(|(_, segment)| segment).collect();
    let mut left = settings.max_prototypes.saturating_sub(counts.iter().sum());
    order.retain(|segment| {
        // More prototypes than distinct rows would leave empty clusters.
        let more = rows_of[*segment].distinct_rows(2 * counts[*segment]) - counts[*segment];
        let more = more.min(left);
        left -= more;
        counts[*segment] += more;
        more > 0
    });
    order
}

/// Prototypes of all segments, in their served form.
struct ServedPrototypes {
    prototypes: Array2<f64>,
    segment_of: Vec<u32>,
    reach: Option<Vec<f64>>,
}

impl ServedPrototypes {
    fn new(
        sample: &EncodedDataset,
        wanted: &[Option<u32>],
        centres: &[Array2<f64>],
    ) -> Result<Self, TrainingError> {
        let views: Vec<_> = centres.iter().map(|centres| centres.view()).collect();
        // Fails only without any segment.
        let prototypes = concatenate(Axis(0), &views)
            .map_err(|_| TrainingError::EmptySegment { segment: 0, segments: 0 })?;
        let segment_of = centres
            .iter()
            .enumerate()
            .flat_map(|(segment, centres)| std::iter::repeat_n(segment as u32, centres.nrows()));
        let segment_of = segment_of.collect();
        let mut served = Self { prototypes, segment_of, reach: None };
        if wanted.contains(&None) {
            let near = rows::map(sample, |row| served.nearest(sample, row));
            served.reach = Some(fit_radii(&near, wanted, centres.len()));
        }
        Ok(served)
    }

    /// Segment of the nearest prototype (of equally near ones the first), and its distance.
    fn nearest(&self, data: &EncodedDataset, row: usize) -> (usize, f64) {
        let point = rows::point(data, row);
        let mut best = (0, f64::INFINITY);
        for (place, prototype) in self.prototypes.rows().into_iter().enumerate() {
            let pairs = point.iter().zip(prototype);
            let squared: f64 = pairs.map(|(x, p)| (x - p) * (x - p)).sum();
            if squared < best.1 {
                best = (self.segment_of[place] as usize, squared);
            }
        }
        (best.0, best.1.sqrt())
    }

    fn label(&self, data: &EncodedDataset, row: usize) -> Option<u32> {
        let (segment, distance) = self.nearest(data, row);
        let is_near = self.reach.as_ref().is_none_or(|reach| distance <= reach[segment]);
        is_near.then_some(segment as u32)
    }

    /// Errors per segment: rows served by it that belong elsewhere, and rows that belong to it but
    /// are served elsewhere. Each wrong row counts twice in total; noise counts for the segment
    /// nearest to it.
    fn count_errors(
        &self,
        data: &EncodedDataset,
        wanted: &[Option<u32>],
        segments: usize,
    ) -> Vec<usize> {
        let labels = rows::map(data, |row| (self.nearest(data, row).0, self.label(data, row)));
        let mut errors = vec![0; segments];
        for ((nearest, label), wanted) in labels.into_iter().zip(wanted) {
            if label != *wanted {
                errors[nearest] += 1;
                errors[wanted.map_or(nearest, |wanted| wanted as usize)] += 1;
            }
        }
        errors
    }
}

/// Radius of each segment with the fewest misclassified rows: members outside plus noise
/// inside. Never beyond the farthest member.
fn fit_radii(near: &[(usize, f64)], wanted: &[Option<u32>], segments: usize) -> Vec<f64> {
    let mut rows: Vec<Vec<(f64, bool)>> = vec![Vec::new(); segments];
    for ((segment, distance), wanted) in near.iter().zip(wanted) {
        rows[*segment].push((*distance, wanted.is_some()));
    }
    rows.into_par_iter()
        .map(|mut rows| {
            // Of equal distances members come first, so a radius at that distance includes them.
            rows.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
            let (mut gained, mut best) = (0_i64, (0, 0.0));
            for (distance, is_member) in rows {
                gained += if is_member { 1 } else { -1 };
                // `gained` is members minus noise within `distance`; its maximum has the
                // fewest errors.
                if is_member && gained >= best.0 {
                    best = (gained, distance);
                }
            }
            best.1
        })
        .collect()
}
