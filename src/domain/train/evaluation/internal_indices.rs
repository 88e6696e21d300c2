//! Internal indices: quality of a partition, from the rows and their labels alone.
//!
//! The values equal those of scikit-learn. Rows without a segment (noise) are left out of every
//! index and reported as a share. An index that is undefined for the segments or rows at hand is
//! `None`, never a substitute number.

use ndarray::{Array2, ArrayView1};
use rayon::prelude::*;

use crate::domain::stats::RandomStream;
use crate::domain::train::EncodedDataset;
use crate::domain::train::evaluation::external_indices::SegmentLabel;

/// Rows compared at once: eight registers of four.
const LANES: usize = 32;

/// Sample mean with its standard error.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct SampleEstimate {
    pub value: f64,
    pub error: f64,
    /// Rows in the sample.
    pub rows: usize,
}

/// Mean silhouette (Rousseeuw 1987) over a random sample of at most `sample` rows, compared among
/// themselves; a row alone in its segment scores 0. `None` unless the sample has at least two
/// segments and fewer segments than rows.
pub fn silhouette(
    data: &EncodedDataset,
    labels: &[SegmentLabel],
    sample: usize,
    rng: &mut RandomStream,
) -> Option<SampleEstimate> {
    let mut known: Vec<usize> = (0..labels.len()).filter(|row| labels[*row].is_some()).collect();
    if known.len() > sample {
        rng.shuffle(&mut known);
        known.truncate(sample);
    }
    // Sorted by segment: the distances to one segment then add up over adjacent blocks.
    known.sort_unstable_by_key(|row| (labels[*row], *row));
    let runs = segment_runs(&known, labels);
    if runs.len() < 2 || runs.len() >= known.len() {
        return None;
    }
    let columns = SegmentBlocks::from_rows(data, &known, &runs);
    let scores: Vec<f64> = (0..known.len())
        .into_par_iter()
        .map_init(
            || vec![0.0; runs.len()],
            |sums, place| {
                data.pause();
                columns.sum_distances(data, known[place], sums);
                row_silhouette(&runs, place, sums)
            },
        )
        .collect();
    let rows = scores.len();
    let value = scores.iter().sum::<f64>() / rows as f64;
    let variance = scores.iter().map(|s| (s - value).powi(2)).sum::<f64>() / (rows - 1) as f64;
    Some(SampleEstimate { value, error: (variance / rows as f64).sqrt(), rows })
}

fn row_silhouette(runs: &[SegmentRun], place: usize, sums: &[f64]) -> f64 {
    let own = runs.partition_point(|run| run.end <= place);
    let size = runs[own].len();
    if size == 1 {
        return 0.0;
    }
    let inside = sums[own] / (size - 1) as f64;
    let others = runs.iter().zip(sums).enumerate().filter(|(run, _)| *run != own);
    let outside =
        others.map(|(_, (run, sum))| sum / run.len() as f64).fold(f64::INFINITY, f64::min);
    let larger = inside.max(outside);
    if larger > 0.0 { (outside - inside) / larger } else { 0.0 }
}

/// Range of one segment among rows sorted by segment.
#[derive(Debug, Clone, Copy)]
struct SegmentRun {
    start: usize,
    end: usize,
}

impl SegmentRun {
    fn len(self) -> usize {
        self.end - self.start
    }
}

fn segment_runs(sorted: &[usize], labels: &[SegmentLabel]) -> Vec<SegmentRun> {
    let mut start = 0;
    sorted
        .chunk_by(|a, b| labels[*a] == labels[*b])
        .map(|rows| {
            let run = SegmentRun { start, end: start + rows.len() };
            start = run.end;
            run
        })
        .collect()
}

/// Rows in column-major blocks of [`LANES`]. Each segment starts a new block, so distances to a
/// whole block are computed side by side and belong to one segment.
struct SegmentBlocks {
    /// Block by block; in each, column by column of `LANES` values.
    values: Vec<f32>,
    /// Number of blocks of each segment, and rows in its last block.
    blocks: Vec<(usize, usize)>,
}

impl SegmentBlocks {
    fn from_rows(data: &EncodedDataset, rows: &[usize], runs: &[SegmentRun]) -> Self {
        let (mut values, mut blocks) = (Vec::new(), Vec::new());
        for run in runs {
            let rows = &rows[run.start..run.end];
            values.extend(fill_blocks(rows, data.columns(), |row, column| data.row(row)[column]));
            blocks.push((rows.len().div_ceil(LANES), (rows.len() - 1) % LANES + 1));
        }
        Self { values, blocks }
    }

    /// Sets `sums` to the sum of distances from a row to each segment's rows.
    fn sum_distances(&self, data: &EncodedDataset, row: usize, sums: &mut [f64]) {
        let row = data.row(row);
        let mut blocks = self.values.chunks_exact(LANES * row.len());
        for (sum, (count, last)) in sums.iter_mut().zip(&self.blocks) {
            *sum = 0.0;
            for (block, values) in blocks.by_ref().take(*count).enumerate() {
                let mut distances = distances(&row, values);
                // The last block is filled up with zero rows, which must not count.
                if block + 1 == *count {
                    distances[*last..].fill(0.0);
                }
                *sum += pairwise_sum(distances);
            }
        }
    }
}

/// Points in column-major blocks of [`LANES`]; the last block is filled up with zeros.
fn fill_blocks(points: &[usize], columns: usize, value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let mut values = Vec::with_capacity(points.len().next_multiple_of(LANES) * columns);
    for block in points.chunks(LANES) {
        for column in 0..columns {
            values.extend(block.iter().map(|point| value(*point, column)));
            values.extend(std::iter::repeat_n(0.0, LANES - block.len()));
        }
    }
    values
}

/// Distance to the nearest of the `present` centroids other than `own`.
fn nearest_other(row: &ArrayView1<'_, f32>, blocks: &[f32], present: &[usize], own: usize) -> f64 {
    let mut nearest = f32::INFINITY;
    for (block, segments) in blocks.chunks_exact(LANES * row.len()).zip(present.chunks(LANES)) {
        for (distance, segment) in distances(row, block).iter().zip(segments) {
            if *segment != own {
                nearest = nearest.min(*distance);
            }
        }
    }
    f64::from(nearest)
}

fn distances(row: &ArrayView1<'_, f32>, block: &[f32]) -> [f32; LANES] {
    let mut squares = [0.0_f32; LANES];
    for (x, column) in row.iter().zip(block.as_chunks::<LANES>().0) {
        for (square, y) in squares.iter_mut().zip(column) {
            *square += (x - y) * (x - y);
        }
    }
    squares.map(f32::sqrt)
}

/// Pairwise summation: halves are added to each other, with few roundings and in vector code.
fn pairwise_sum(mut values: [f32; LANES]) -> f64 {
    let mut width = LANES / 2;
    while width > 0 {
        let (low, high) = values.split_at_mut(width);
        low.iter_mut().zip(high).for_each(|(a, b)| *a += *b);
        width /= 2;
    }
    f64::from(values[0])
}

/// Dispersion of each segment around its centroid, from one pass over the rows.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentDispersion {
    /// Means of the rows with each label, (`n_segments`, `n_columns`).
    pub centroids: Array2<f64>,
    pub sizes: Vec<u64>,
    /// Rows without a segment.
    pub noise: u64,
    /// Sum of the distances of each segment's rows to its centroid.
    distances: Vec<f64>,
    /// Sum of the squared distances of each segment's rows to its centroid.
    squares: Vec<f64>,
    /// Sum over rows of (b − a) / max(a, b), see [`Self::simplified_silhouette`].
    simplified: f64,
}

impl SegmentDispersion {
    /// Measures the partition; labels are below `segments`.
    pub fn measure(data: &EncodedDataset, labels: &[SegmentLabel], segments: usize) -> Self {
        let (centroids, sizes) = centroids(data, labels, segments);
        let present: Vec<usize> = (0..segments).filter(|s| sizes[*s] > 0).collect();
        // Other centroids are compared in `f32`, in blocks; the own distance is exact.
        let blocks = fill_blocks(&present, data.columns(), |segment, column| {
            centroids[[segment, column]] as f32
        });
        let partial = data.map_chunks(|rows| {
            let (mut distances, mut squares) = (vec![0.0; segments], vec![0.0; segments]);
            let mut simplified = 0.0;
            for row in rows {
                let Some(own) = labels[row].map(|label| label as usize) else { continue };
                let square = data.squared_distance(row, centroids.row(own));
                squares[own] += square;
                distances[own] += square.sqrt();
                let other = nearest_other(&data.row(row), &blocks, &present, own);
                let larger = square.sqrt().max(other);
                // A row alone in its segment scores 0, as in the silhouette.
                if sizes[own] > 1 && other.is_finite() && larger > 0.0 {
                    simplified += (other - square.sqrt()) / larger;
                }
            }
            (distances, squares, simplified)
        });
        let mut whole = Self {
            noise: data.rows() as u64 - sizes.iter().sum::<u64>(),
            centroids,
            sizes,
            distances: vec![0.0; segments],
            squares: vec![0.0; segments],
            simplified: 0.0,
        };
        for (distances, squares, simplified) in partial {
            whole.distances.iter_mut().zip(distances).for_each(|(sum, x)| *sum += x);
            whole.squares.iter_mut().zip(squares).for_each(|(sum, x)| *sum += x);
            whole.simplified += simplified;
        }
        whole
    }

    /// Number of segments with rows.
    pub fn segments(&self) -> usize {
        self.sizes.iter().filter(|size| **size > 0).count()
    }

    /// Number of rows with a segment.
    pub fn rows(&self) -> u64 {
        self.sizes.iter().sum()
    }

    /// Sum of squared distances to the centroids.
    pub fn inertia(&self) -> f64 {
        self.squares.iter().sum()
    }

    /// Simplified silhouette (Hruschka, de Castro and Campello 2004): the mean over rows of
    /// (b − a) / max(a, b), where a is the distance to the row's own centroid and b to the
    /// nearest other. `None` with fewer than two segments.
    pub fn simplified_silhouette(&self) -> Option<f64> {
        (self.segments() > 1).then(|| self.simplified / self.rows() as f64)
    }

    /// Davies-Bouldin index (1979): the mean over segments of the overlap with the segment it
    /// overlaps with most. Small is good.
    pub fn davies_bouldin(&self) -> Option<f64> {
        let present: Vec<usize> = (0..self.sizes.len()).filter(|s| self.sizes[*s] > 0).collect();
        if present.len() < 2 || present.len() as u64 >= self.rows() {
            return None;
        }
        let mut sum = 0.0;
        for a in &present {
            let others = present.iter().filter(|b| *b != a);
            sum += others.map(|b| self.segment_overlap(*a, *b)).fold(0.0, f64::max);
        }
        Some(sum / present.len() as f64)
    }

    /// Mean distances to the centroids of both segments, relative to the distance of the
    /// centroids.
    fn segment_overlap(&self, a: usize, b: usize) -> f64 {
        let pairs = self.centroids.row(a).into_iter().zip(self.centroids.row(b));
        let between = pairs.map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt();
        let spread_a = self.distances[a] / self.sizes[a] as f64;
        let spread_b = self.distances[b] / self.sizes[b] as f64;
        if between > 0.0 { (spread_a + spread_b) / between } else { 0.0 }
    }

    /// Calinski-Harabasz index (1974): variance between segments divided by variance within.
    /// Large is good; 1 without variance within, as in scikit-learn.
    pub fn calinski_harabasz(&self) -> Option<f64> {
        let (segments, rows) = (self.segments() as f64, self.rows() as f64);
        if segments < 2.0 || segments >= rows {
            return None;
        }
        let within = self.inertia();
        if within == 0.0 {
            return Some(1.0);
        }
        Some(self.between_dispersion() * (rows - segments) / (within * (segments - 1.0)))
    }

    /// Sum over segments of size × squared distance of the centroid to the mean of all rows.
    fn between_dispersion(&self) -> f64 {
        let rows = self.rows() as f64;
        let mut mean = vec![0.0; self.centroids.ncols()];
        for (centroid, size) in self.centroids.rows().into_iter().zip(&self.sizes) {
            mean.iter_mut().zip(centroid).for_each(|(m, c)| *m += c * *size as f64 / rows);
        }
        let pairs = self.centroids.rows().into_iter().zip(&self.sizes);
        pairs
            .map(|(centroid, size)| {
                let apart = centroid.iter().zip(&mean).map(|(c, m)| (c - m) * (c - m));
                *size as f64 * apart.sum::<f64>()
            })
            .sum()
    }

    /// Share of the smallest segment among all rows, noise included.
    pub fn smallest_share(&self) -> f64 {
        let smallest = self.sizes.iter().copied().filter(|size| *size > 0).min().unwrap_or(0);
        smallest as f64 / (self.rows() + self.noise).max(1) as f64
    }

    /// Balance of the sizes: entropy divided by its maximum, 0..=1; 1 with one segment.
    pub fn balance(&self) -> f64 {
        let segments = self.segments();
        if segments < 2 {
            return 1.0;
        }
        let rows = self.rows() as f64;
        let shares = self.sizes.iter().filter(|s| **s > 0).map(|size| *size as f64 / rows);
        shares.map(|share| -share * share.ln()).sum::<f64>() / (segments as f64).ln()
    }
}

/// Mean and number of the rows of each segment; the mean is 0 without rows.
fn centroids(
    data: &EncodedDataset,
    labels: &[SegmentLabel],
    segments: usize,
) -> (Array2<f64>, Vec<u64>) {
    let partial = data.map_chunks(|rows| {
        let mut sums = Array2::<f64>::zeros((segments, data.columns()));
        let mut sizes = vec![0_u64; segments];
        for row in rows {
            let Some(own) = labels[row] else { continue };
            sizes[own as usize] += 1;
            let mut sum = sums.row_mut(own as usize);
            sum.iter_mut().zip(data.row(row)).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        (sums, sizes)
    });
    let mut centroids = Array2::<f64>::zeros((segments, data.columns()));
    let mut sizes = vec![0_u64; segments];
    for (sums, counts) in partial {
        centroids += &sums;
        sizes.iter_mut().zip(counts).for_each(|(size, count)| *size += count);
    }
    for (mut centroid, size) in centroids.rows_mut().into_iter().zip(&sizes) {
        centroid /= (*size).max(1) as f64;
    }
    (centroids, sizes)
}

/// Bayesian information criterion (Schwarz 1978) in scikit-learn's form, −2 ln L + p ln n; small
/// is good.
pub fn bic(log_likelihood: f64, parameters: usize, rows: u64) -> f64 {
    parameters as f64 * (rows as f64).ln() - 2.0 * log_likelihood
}

/// Akaike information criterion (Akaike 1974), −2 ln L + 2 p; small is good.
pub fn aic(log_likelihood: f64, parameters: usize) -> f64 {
    2.0 * parameters as f64 - 2.0 * log_likelihood
}
