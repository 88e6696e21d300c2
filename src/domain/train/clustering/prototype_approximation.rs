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

use crate::domain::model::Metric;
use crate::domain::stats::Rng;
use crate::domain::train::clustering::kmeans;
use crate::domain::train::clustering::kmeans::init;
use crate::domain::train::data::rows;
use crate::domain::train::{Clusters, Dataset, FitError, Progress};

/// Random streams of the sample, and of the k-means of each round and segment.
const SAMPLE_STREAM: u64 = 7 << 32;
const KMEANS_STREAM: u64 = 8 << 32;
/// Approximate size of the sample, and the minimum number of rows per segment (or all).
const SAMPLE_ROWS: usize = 20_000;
const LEAST_OF_SEGMENT: usize = 100;
const ITERATIONS: usize = 30;
const TOLERANCE: f64 = 1e-4;
/// A round is accepted if it improves the agreement by this share of the rows; the search ends
/// after this number of rejected rounds in a row.
const GAIN: f64 = 0.002;
const PATIENCE: usize = 2;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cover {
    /// Required share of rows with the given label, 0..=1.
    pub agreement: f64,
    /// Total over all segments; at least one each.
    pub max_prototypes: usize,
}

impl Default for Cover {
    fn default() -> Self {
        Self { agreement: 0.99, max_prototypes: 512 }
    }
}

/// The served form of a labelling.
#[derive(Debug, Clone, PartialEq)]
pub struct Covered {
    pub clusters: Clusters,
    /// Share of rows with a served label, noise included, equal to the given label.
    pub fidelity: f64,
}

/// Approximates `labels` by prototypes. Every segment from 0 to the largest label has a row.
pub fn cover(
    data: &Dataset,
    labels: &[Option<u32>],
    settings: &Cover,
    seed: u64,
    progress: &dyn Progress,
) -> Result<Covered, FitError> {
    let segments = labels.iter().flatten().max().map_or(0, |last| *last as usize + 1);
    let chosen = stratified(labels, segments, &mut Rng::new(seed, SAMPLE_STREAM));
    let sample = data.select(&chosen);
    let wanted: Vec<Option<u32>> = chosen.iter().map(|row| labels[*row]).collect();
    let rows_of: Vec<Dataset> = (0..segments as u32)
        .map(|segment| {
            let rows = (0..wanted.len()).filter(|row| wanted[*row] == Some(segment));
            sample.select(&rows.collect::<Vec<_>>())
        })
        .collect();

    let mut counts = vec![1; segments];
    let mut centres: Vec<Array2<f64>> = rows_of.iter().map(mean).collect();
    let gain = (GAIN * wanted.len() as f64).ceil() as usize;
    let mut stalled = 0;
    let mut best: Option<(usize, Served)> = None;
    for round in 0.. {
        let served = Served::new(&sample, &wanted, &centres)?;
        let errors = served.errors(&sample, &wanted, segments);
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
        let grown = grow(&mut counts, &errors, &rows_of, settings);
        if grown.is_empty() {
            break;
        }
        for segment in grown {
            // One stream per round and segment: the order of segments in a round has no influence.
            let stream = KMEANS_STREAM + (round * segments + segment) as u64;
            let mut rng = Rng::new(seed, stream);
            let own = &rows_of[segment];
            let starts = init::plus_plus(own, counts[segment], &mut rng);
            centres[segment] = kmeans::lloyd(own, starts, ITERATIONS, TOLERANCE, progress)?.centres;
        }
    }
    let served = best.map(|(_, served)| served).ok_or(FitError::Stopped)?;
    let agreeing = rows::map(data, |row| served.label(data, row) == labels[row]);
    let agreeing = agreeing.into_iter().filter(|agrees| *agrees).count();
    Ok(Covered {
        clusters: Clusters {
            labels: labels.to_vec(),
            prototypes: served.prototypes,
            segment_of: served.segment_of,
            weights: None,
            offsets: None,
            reach: served.reach,
            metric: Metric::Euclidean,
        },
        fidelity: agreeing as f64 / data.rows().max(1) as f64,
    })
}

/// Stratified sample in row order: the same share of each segment and of the noise, but at
/// least [`LEAST_OF_SEGMENT`] rows of each.
fn stratified(labels: &[Option<u32>], segments: usize, rng: &mut Rng) -> Vec<usize> {
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); segments + 1];
    for (row, label) in labels.iter().enumerate() {
        groups[label.map_or(segments, |label| label as usize)].push(row);
    }
    let share = SAMPLE_ROWS as f64 / labels.len().max(1) as f64;
    let mut chosen: Vec<usize> = Vec::new();
    for mut group in groups {
        rng.shuffle(&mut group);
        let kept = ((group.len() as f64 * share).ceil() as usize).max(LEAST_OF_SEGMENT);
        chosen.extend(group.into_iter().take(kept));
    }
    chosen.sort_unstable();
    chosen
}

fn mean(data: &Dataset) -> Array2<f64> {
    let means = data.column_moments().0;
    Array2::from_shape_fn((1, means.len()), |(_, column)| means[column])
}

/// Doubles the prototypes of the segments with too many errors, those with the largest error
/// share first, within `max_prototypes`; returns the segments that grew.
fn grow(
    counts: &mut [usize],
    errors: &[usize],
    rows_of: &[Dataset],
    settings: &Cover,
) -> Vec<usize> {
    let allowed = |segment: usize| (1.0 - settings.agreement) * rows_of[segment].rows() as f64;
    let mut order: Vec<usize> =
        (0..counts.len()).filter(|segment| errors[*segment] as f64 > allowed(*segment)).collect();
    let share = |segment: usize| errors[segment] as f64 / rows_of[segment].rows().max(1) as f64;
    order.sort_by(|a, b| share(*b).total_cmp(&share(*a)).then(a.cmp(b)));
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
struct Served {
    prototypes: Array2<f64>,
    segment_of: Vec<u32>,
    reach: Option<Vec<f64>>,
}

impl Served {
    fn new(
        sample: &Dataset,
        wanted: &[Option<u32>],
        centres: &[Array2<f64>],
    ) -> Result<Self, FitError> {
        let views: Vec<_> = centres.iter().map(|centres| centres.view()).collect();
        // Fails only without any segment.
        let prototypes =
            concatenate(Axis(0), &views).map_err(|_| FitError::AllNoise { rows: wanted.len() })?;
        let segment_of = centres
            .iter()
            .enumerate()
            .flat_map(|(segment, centres)| std::iter::repeat_n(segment as u32, centres.nrows()));
        let segment_of = segment_of.collect();
        let mut served = Self { prototypes, segment_of, reach: None };
        if wanted.contains(&None) {
            let near = rows::map(sample, |row| served.nearest(sample, row));
            served.reach = Some(reaches(&near, wanted, centres.len()));
        }
        Ok(served)
    }

    /// Segment of the nearest prototype (of equally near ones the first), and its distance.
    fn nearest(&self, data: &Dataset, row: usize) -> (usize, f64) {
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

    fn label(&self, data: &Dataset, row: usize) -> Option<u32> {
        let (segment, distance) = self.nearest(data, row);
        let is_near = self.reach.as_ref().is_none_or(|reach| distance <= reach[segment]);
        is_near.then_some(segment as u32)
    }

    /// Errors per segment: rows served by it that belong elsewhere, and rows that belong to it but
    /// are served elsewhere. Each wrong row counts twice in total; noise counts for the segment
    /// nearest to it.
    fn errors(&self, data: &Dataset, wanted: &[Option<u32>], segments: usize) -> Vec<usize> {
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
fn reaches(near: &[(usize, f64)], wanted: &[Option<u32>], segments: usize) -> Vec<f64> {
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
