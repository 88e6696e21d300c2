//! Dense regions of the training rows: the cells of a k-means without the rarest ones.

use ndarray::Array2;

use crate::domain::encode::MAX_ENCODED;
use crate::domain::model::outlier::scale_value;
use crate::domain::model::{Prototypes, squared_distance};
use crate::domain::stats;
use crate::domain::train::clustering::kmeans;
use crate::domain::train::clustering::kmeans::KmeansSettings;
use crate::domain::train::{EncodedDataset, QuietProgress, TrainingError, TrainingProgress};

const MAX_CELLS: usize = 8;
/// Cumulative share of the rarest cells, which do not count as common.
const RARE_SHARE: f64 = 0.2;
/// Sample size and iterations of the k-means that finds the common cells.
const CELL_ROWS: usize = 50_000;
const CELL_ITERATIONS: usize = 20;
/// Seed offset: its k-means starts differ from those of the segment search.
const SEED_OFFSET: u64 = 0x6f64_6469_7479;
/// Share of the rows, the nearest to a common cell, that measure the spread of the columns.
const SPREAD_SHARE: f64 = 0.9;
/// Share of the mean variance that is added to the variance of each column: a nearly constant
/// column would dominate the distance otherwise.
const VARIANCE_FLOOR: f64 = 0.3;
/// Share of the columns' variance below which the variance within the cells is rounding error.
const NEGLIGIBLE_SHARE: f64 = 1e-9;

/// Cells of a k-means, without the rarest ones.
pub(super) struct CommonCells {
    /// Factor of each column in the distance.
    pub(super) column_factors: Vec<f32>,
    /// Centres in scaled columns.
    pub(super) centres: Prototypes,
    /// Sizes of the cells, among the rows that k-means was fitted to.
    sizes: Vec<usize>,
    /// The cell of each of these rows; `None`: a cell that is left out.
    cell_of: Vec<Option<usize>>,
}

impl CommonCells {
    pub(super) fn find(
        fitted: &EncodedDataset,
        seed: u64,
        progress: &dyn TrainingProgress,
    ) -> Result<Self, TrainingError> {
        let step = fitted.rows().div_ceil(CELL_ROWS).max(1);
        let some = fitted.select(&(0..fitted.rows()).step_by(step).collect::<Vec<_>>());
        let settings = KmeansSettings {
            starts: Some(1),
            max_iterations: Some(CELL_ITERATIONS),
            tolerance: None,
        };
        let cells = some.distinct_rows(MAX_CELLS);
        // This k-means is not a stage of the run.
        let progress = QuietProgress(progress);
        let partition =
            kmeans::fit_best_start(&some, cells, &settings, seed ^ SEED_OFFSET, &progress)?
                .partition;
        let mut counts = vec![0_usize; partition.centres.nrows()];
        for label in &partition.labels {
            counts[*label as usize] += 1;
        }
        let mut common: Vec<usize> = (0..counts.len()).collect();
        common.sort_by_key(|cell| counts[*cell]);
        // In ascending order of size, cells are dropped until their total exceeds the rare share.
        let mut total = 0;
        common.retain(|cell| {
            total += counts[*cell];
            total as f64 > RARE_SHARE * some.rows() as f64
        });
        let values = common.iter().flat_map(|cell| partition.centres.row(*cell).to_vec());
        let prototypes = |values| {
            Prototypes::new(some.columns(), values)
                .ok_or(TrainingError::EmptySegment { segment: 0, segments: counts.len() })
        };
        let centres = prototypes(values.map(|x| x as f32).collect())?;
        let column_factors = inverse_spread(&some, &centres);
        let scaled = centres
            .rows()
            .flat_map(|centre| centre.iter().zip(&column_factors))
            .map(|(x, factor)| scale_value(*x, *factor));
        let centres = prototypes(scaled.collect())?;
        let place_of = |cell: &u32| common.iter().position(|kept| *kept == *cell as usize);
        Ok(Self {
            column_factors,
            centres,
            sizes: common.iter().map(|cell| counts[*cell]).collect(),
            cell_of: partition.labels.iter().map(place_of).collect(),
        })
    }

    /// Distance of a fitted row to the nearest cell, whose centre is that of the other rows. `row`
    /// is its position among the rows that k-means was fitted to.
    pub(super) fn distance_to_others(&self, row: usize, vector: &[f32]) -> f32 {
        let own = self.cell_of.get(row).copied().flatten();
        let scaled: Vec<f32> = vector
            .iter()
            .zip(&self.column_factors)
            .map(|(x, factor)| scale_value(*x, *factor))
            .collect();
        let mut nearest = f32::INFINITY;
        for (cell, centre) in self.centres.rows().enumerate() {
            let mut squared = squared_distance(&scaled, centre);
            if own == Some(cell) {
                // The mean of n rows without one of them is n / (n - 1) times as far from it.
                let size = self.sizes[cell] as f32;
                squared *= if size > 1.0 { (size / (size - 1.0)).powi(2) } else { f32::INFINITY };
            }
            nearest = nearest.min(squared);
        }
        if nearest.is_finite() { nearest.sqrt() } else { 0.0 }
    }
}

/// Inverse of the spread of each column around the nearest of `centres`. Rows far from every
/// centre are left out.
fn inverse_spread(rows: &EncodedDataset, centres: &Prototypes) -> Vec<f32> {
    let nearest = rows.map_rows(|row| centres.two_nearest(rows.row_values(row)));
    let squared: Vec<f64> = nearest.iter().map(|near| f64::from(near.nearest_squared)).collect();
    let limit = stats::quantile(&stats::sorted(&squared), SPREAD_SHARE);
    let mut residuals = Vec::new();
    for (row, near) in nearest.iter().enumerate() {
        if squared[row] <= limit {
            let centre = centres.row(near.nearest);
            residuals.extend(rows.row_values(row).iter().zip(centre).map(|(x, centre)| x - centre));
        }
    }
    let shape = (residuals.len() / rows.columns().max(1), rows.columns());
    let residuals = rows.with_matrix(Array2::from_shape_vec(shape, residuals).unwrap_or_default());
    let (_, within) = residuals.column_moments();
    let (_, total) = rows.column_moments();
    let mean_within = mean(&within);
    if mean_within <= NEGLIGIBLE_SHARE * mean(&total) {
        return vec![1.0; rows.columns()];
    }
    let inverse = |variance: &f64| {
        let spread = (variance + VARIANCE_FLOOR * mean_within).sqrt();
        ((1.0 / spread) as f32).clamp(1.0 / MAX_ENCODED, MAX_ENCODED)
    };
    within.iter().map(inverse).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
