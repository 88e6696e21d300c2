//! One pass of Lloyd's algorithm: assigns each row to its nearest centre and updates the sums.
//!
//! Most rows retain their label. Each row therefore has an upper bound on the distance to its own
//! centre and a lower bound on the distance to all others. Both are widened by the movement of
//! the centres, and the row is compared again only when they overlap: Hamerly (2010), *Making
//! k-means even faster*. Sums change only by the rows that changed cluster. Bounds and candidates
//! are `f32` with their rounding errors included; rows within the error are decided in `f64`, so
//! labels are exactly those of comparing every distance.
#![expect(clippy::inline_always, reason = "only inlined code is compiled for the vector unit")]

use ndarray::{Array2, ArrayView1};
use pulp::Simd;
use rayon::prelude::*;

use crate::domain::model::{BlockCandidates, MAX_BLOCK_ROWS, PointTiles, SearchVisitor};
use crate::domain::train::EncodedDataset;

/// Factors that cover the rounding of one or two `f32` operations, upwards and downwards.
const ROUND_UP: f32 = 1.0 + 4.0 * f32::EPSILON;
const ROUND_DOWN: f32 = 1.0 - 4.0 * f32::EPSILON;
/// Label of a row that is not assigned yet.
const UNKNOWN: u32 = u32::MAX;

/// Labels of all rows, with the bounds that avoid comparisons.
#[derive(Debug)]
pub(crate) struct LloydAssignment<'a> {
    data: &'a EncodedDataset,
    /// Origin of the `f32` candidates: the mean of the rows.
    origin: Vec<f32>,
    pub(crate) labels: Vec<u32>,
    /// For each row: upper bound of the distance to its own centre.
    upper: Vec<f32>,
    /// For each row: lower bound of the distance to every other centre.
    lower: Vec<f32>,
    pub(crate) sums: ClusterSums,
    /// Centres of the previous pass.
    centres: Option<Array2<f64>>,
}

/// Sum and number of the rows in each cluster.
#[derive(Debug, Clone)]
pub(crate) struct ClusterSums {
    /// (`clusters`, `n_columns`)
    pub(crate) rows: Array2<f64>,
    pub(crate) counts: Vec<i64>,
}

impl<'a> LloydAssignment<'a> {
    pub(crate) fn new(data: &'a EncodedDataset, mean: &[f64], clusters: usize) -> Self {
        Self {
            data,
            origin: mean.iter().map(|x| *x as f32).collect(),
            labels: vec![UNKNOWN; data.rows()],
            upper: vec![f32::INFINITY; data.rows()],
            lower: vec![0.0; data.rows()],
            sums: ClusterSums::zero((clusters, data.columns())),
            centres: None,
        }
    }

    /// Labels each row with its nearest centre, of equally near ones the first; returns whether
    /// any label changed.
    pub(crate) fn reassign(&mut self, centres: &Array2<f64>) -> bool {
        let length = self.data.chunk_rows();
        let gaps = self.centres.as_ref().map(|before| CentreMovement::between(before, centres));
        let points = centres.as_standard_layout();
        let points = points.as_slice().unwrap_or_default();
        let tiles =
            PointTiles::new(points.chunks_exact(self.data.columns().max(1)), self.origin.clone());
        let chunks = self
            .labels
            .par_chunks_mut(length)
            .zip(self.upper.par_chunks_mut(length))
            .zip(self.lower.par_chunks_mut(length));
        let changes: Vec<Option<ClusterSums>> = chunks
            .enumerate()
            .map(|(chunk, ((labels, upper), lower))| {
                self.data.pause();
                // Without a previous pass there are no bounds: every row is open.
                let open = match &gaps {
                    Some(gaps) => gaps.open_rows(labels, upper, lower),
                    None => (0..labels.len() as u32).collect(),
                };
                let visit = RowReassignment {
                    data: self.data,
                    tiles: &tiles,
                    centres: points,
                    clusters: centres.nrows(),
                    first_row: chunk * length,
                    open: &open,
                    labels,
                    upper,
                    lower,
                    change: None,
                };
                tiles.scan(open.len(), visit).change
            })
            .collect();
        // Changes are added in chunk order, so the sums do not depend on the threads.
        for change in changes.iter().flatten() {
            self.sums.add(change);
        }
        self.centres = Some(centres.clone());
        changes.iter().any(Option::is_some)
    }
}

impl ClusterSums {
    fn zero(shape: (usize, usize)) -> Self {
        Self { rows: Array2::zeros(shape), counts: vec![0; shape.0] }
    }

    fn add(&mut self, other: &Self) {
        self.rows += &other.rows;
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    #[inline(always)]
    fn shift_row(&mut self, cluster: u32, row: &[f32], sign: f64) {
        let cluster = cluster as usize;
        if let Some(sums) = self.rows.row_mut(cluster).as_slice_mut() {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += sign * f64::from(*x);
            }
        }
        self.counts[cluster] += sign as i64;
    }

    /// Mean of each cluster; an empty cluster gets the mean of the largest one, as in
    /// scikit-learn.
    pub(crate) fn centres(&self) -> Array2<f64> {
        let mut centres = Array2::zeros(self.rows.dim());
        let largest = (0..self.counts.len()).rev().max_by_key(|c| self.counts[*c]).unwrap_or(0);
        for (cluster, mut centre) in centres.rows_mut().into_iter().enumerate() {
            let from = if self.counts[cluster] > 0 { cluster } else { largest };
            let count = self.counts[from].max(1) as f64;
            centre.assign(&self.rows.row(from).mapv(|sum| sum / count));
        }
        centres
    }
}

/// Movement of the centres, which widens the bounds.
struct CentreMovement {
    /// For each centre: its movement, and the largest movement of all others.
    moved: Vec<(f32, f32)>,
    /// For each centre: half the distance to the nearest other centre. No other centre is
    /// nearer to a row within this distance (triangle inequality).
    safe: Vec<f32>,
}

impl CentreMovement {
    fn between(before: &Array2<f64>, after: &Array2<f64>) -> Self {
        let pairs = before.rows().into_iter().zip(after.rows());
        let moved: Vec<f64> = pairs.map(|(a, b)| distance(&a, &b)).collect();
        let mut own_and_others = Vec::with_capacity(moved.len());
        for (own, own_moved) in moved.iter().enumerate() {
            let others = moved.iter().enumerate().filter(|(other, _)| *other != own);
            let most = others.fold(0.0_f64, |most, (_, moved)| most.max(*moved));
            own_and_others.push((*own_moved as f32 * ROUND_UP, most as f32 * ROUND_UP));
        }
        let safe = (0..moved.len())
            .into_par_iter()
            .map(|own| half_to_nearest(after, own) as f32 * ROUND_DOWN)
            .collect();
        Self { moved: own_and_others, safe }
    }

    /// Widens all bounds; returns the rows that may be nearer to another centre now.
    fn open_rows(&self, labels: &[u32], upper: &mut [f32], lower: &mut [f32]) -> Vec<u32> {
        let mut open = vec![0; labels.len()];
        let mut count = 0;
        let bounds = upper.iter_mut().zip(lower);
        for (row, (label, (upper, lower))) in labels.iter().zip(bounds).enumerate() {
            let (own, others) = self.moved[*label as usize];
            *upper = (*upper + own) * ROUND_UP;
            *lower = (*lower - others).max(0.0) * ROUND_DOWN;
            // Branch-free compaction: always written, and overwritten unless the row is open.
            open[count] = row as u32;
            // Any comparison with NaN is false, so such a row is open.
            let apart = *upper < lower.max(self.safe[*label as usize]);
            count += usize::from(!apart);
        }
        open.truncate(count);
        open
    }
}

/// Half the distance from a centre to the nearest other one.
fn half_to_nearest(centres: &Array2<f64>, own: usize) -> f64 {
    let others = (0..centres.nrows()).filter(|other| *other != own);
    let distances = others.map(|other| distance(&centres.row(own), &centres.row(other)));
    0.5 * distances.fold(f64::INFINITY, f64::min)
}

fn distance(a: &ArrayView1<'_, f64>, b: &ArrayView1<'_, f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

/// Visitor that reassigns the open rows of one chunk.
struct RowReassignment<'a> {
    data: &'a EncodedDataset,
    tiles: &'a PointTiles,
    centres: &'a [f64],
    clusters: usize,
    first_row: usize,
    /// Row numbers relative to `first_row`.
    open: &'a [u32],
    labels: &'a mut [u32],
    upper: &'a mut [f32],
    lower: &'a mut [f32],
    /// Change of the sums by the changed labels.
    change: Option<ClusterSums>,
}

impl SearchVisitor<2> for RowReassignment<'_> {
    #[inline(always)]
    fn row(&self, at: usize) -> &[f32] {
        self.data.row_values(self.first_row + self.open[at] as usize)
    }

    #[inline(always)]
    fn visit_candidates<S: Simd>(
        &mut self,
        _simd: S,
        first: usize,
        rows: usize,
        found: &BlockCandidates<2>,
    ) {
        let [best, second] = &found.scores;
        let norms = &found.norms;
        let (mut doubts, mut upper, mut lower) =
            ([0.0; MAX_BLOCK_ROWS], [0.0; MAX_BLOCK_ROWS], [0.0; MAX_BLOCK_ROWS]);
        // All lanes are computed, also those past `rows`: a fixed count becomes vector code.
        for at in 0..MAX_BLOCK_ROWS {
            doubts[at] = self.tiles.error_bound(norms[at], best[at], second[at]);
            // |x − p|² = |x|² − 2 score, and a score may be off by the doubt.
            upper[at] = (norms[at] - 2.0 * best[at] + 2.0 * doubts[at]).max(0.0).sqrt() * ROUND_UP;
            lower[at] =
                (norms[at] - 2.0 * second[at] - 2.0 * doubts[at]).max(0.0).sqrt() * ROUND_DOWN;
        }
        for at in 0..rows {
            let row = self.open[first + at] as usize;
            let mut label = self.tiles.index(best[at]);
            // A gap above the doubt is conclusive. Otherwise, or for the filling points of the last
            // tile, exact distances decide.
            if best[at] - second[at] > doubts[at] && label < self.clusters {
                self.upper[row] = upper[at];
                self.lower[row] = lower[at];
            } else {
                let exact = ExactNearest::search(self.row(first + at), self.centres);
                label = exact.label;
                self.upper[row] = exact.nearest.sqrt() as f32 * ROUND_UP;
                self.lower[row] = exact.second.sqrt() as f32 * ROUND_DOWN;
            }
            let label = label as u32;
            let before = std::mem::replace(&mut self.labels[row], label);
            if before != label {
                self.record_change(before, label, first + at);
            }
        }
    }
}

impl RowReassignment<'_> {
    #[inline(always)]
    fn record_change(&mut self, before: u32, label: u32, at: usize) {
        let row = self.data.row_values(self.first_row + self.open[at] as usize);
        let shape = (self.clusters, row.len());
        let change = self.change.get_or_insert_with(|| ClusterSums::zero(shape));
        change.shift_row(label, row, 1.0);
        if before != UNKNOWN {
            change.shift_row(before, row, -1.0);
        }
    }
}

/// Nearest and second-nearest centre by squared distances in double precision.
struct ExactNearest {
    label: usize,
    nearest: f64,
    second: f64,
}

impl ExactNearest {
    fn search(row: &[f32], centres: &[f64]) -> Self {
        let mut exact = Self { label: 0, nearest: f64::INFINITY, second: f64::INFINITY };
        for (label, centre) in centres.chunks_exact(row.len().max(1)).enumerate() {
            let squared: f64 = row
                .iter()
                .zip(centre)
                .map(|(x, c)| (f64::from(*x) - c) * (f64::from(*x) - c))
                .sum();
            if squared < exact.nearest {
                exact = Self { label, nearest: squared, second: exact.nearest };
            } else {
                exact.second = exact.second.min(squared);
            }
        }
        exact
    }
}
