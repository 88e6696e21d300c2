//! Outlier reference: rare and common regions of the training rows, and its calibration.

use crate::domain::model::outlier::{BINS, OutlierReference, bin};
use crate::domain::model::{ConformalRanks, MINIMUM_CATEGORY_ROWS, Prototypes};
use crate::domain::stats;
use crate::domain::train::clustering::kmeans;
use crate::domain::train::clustering::kmeans::KmeansSettings;
use crate::domain::train::data::split::RowSplit;
use crate::domain::train::{
    CalibrationMethod, EncodedDataset, QuietProgress, TrainingError, TrainingProgress,
};

/// Range of a column's bins: this number of standard deviations to each side of the mean.
const BIN_RANGE_DEVIATIONS: f64 = 4.0;
const MAX_CELLS: usize = 8;
/// Cumulative share of the rarest cells, which do not count as common.
const RARE_SHARE: f64 = 0.2;
/// Sample size and iterations of the k-means that finds the common cells.
const CELL_ROWS: usize = 50_000;
const CELL_ITERATIONS: usize = 20;
/// Seed offset: its k-means starts differ from those of the segment search.
const SEED_OFFSET: u64 = 0x6f64_6469_7479;
/// The distance of this quantile from the median is the unit of both parts of the measure.
const TAIL_QUANTILE: f64 = 0.9;

/// A calibrated reference.
pub(crate) struct CalibratedReference {
    pub(crate) reference: OutlierReference,
    /// Measures of the rows that it is calibrated on, each without the row itself in the fit.
    pub(crate) measures: Vec<f32>,
    pub(crate) method: CalibrationMethod,
}

/// Fits the reference to the encoded rows of a run and calibrates it.
///
/// With enough held-out rows, these calibrate what the others fit (split conformal). With fewer,
/// the smallest p-value, 1 / (held-out rows + 1), could be above the rate of outliers that is asked
/// for. Then the reference is fitted to all rows, and each row calibrates by its measure against
/// the others (the jackknife: Barber, Candès, Ramdas and Tibshirani 2021, *Predictive inference
/// with the jackknife+*). Its p-values are approximate.
pub(crate) fn fit(
    encoded: &EncodedDataset,
    split: &RowSplit,
    seed: u64,
    progress: &dyn TrainingProgress,
) -> Result<CalibratedReference, TrainingError> {
    let (mut reference, measures, method);
    if split.held_out.len() >= MINIMUM_CATEGORY_ROWS {
        reference =
            UncalibratedReference::fit(&encoded.select(&split.fitted), seed, progress)?.reference;
        measures = measure_rows(&reference, &encoded.select(&split.held_out));
        method = CalibrationMethod::HeldOut;
    } else {
        let fitted = UncalibratedReference::fit(encoded, seed, progress)?;
        measures = fitted.measures_against_others(encoded);
        reference = fitted.reference;
        method = CalibrationMethod::LeaveOneOut;
    }
    reference.ranks = ConformalRanks::from_held_out(measures.clone());
    Ok(CalibratedReference { reference, measures, method })
}

/// A reference with what it takes to leave a row out of it.
struct UncalibratedReference {
    reference: OutlierReference,
    bin_counts: BinCounts,
    /// Factor of the surprise in the reference.
    per_surprise: f32,
    cells: CommonCells,
}

impl UncalibratedReference {
    fn fit(
        fitted: &EncodedDataset,
        seed: u64,
        progress: &dyn TrainingProgress,
    ) -> Result<Self, TrainingError> {
        let (mean, variance) = fitted.column_moments();
        let spread: Vec<f64> = variance
            .iter()
            .map(|variance| if *variance > 0.0 { variance.sqrt() } else { 1.0 })
            .collect();
        let lows = mean
            .iter()
            .zip(&spread)
            .map(|(mean, spread)| (mean - BIN_RANGE_DEVIATIONS * spread) as f32);
        // The limit keeps bins finite, and wide enough for `f32` to distinguish their borders.
        let per_unit = spread
            .iter()
            .map(|spread| (BINS as f64 / (2.0 * BIN_RANGE_DEVIATIONS * spread)).min(1e12) as f32);
        let cells = CommonCells::find(fitted, seed, progress)?;
        let mut reference = OutlierReference {
            lows: lows.collect(),
            per_unit: per_unit.collect(),
            surprise: Vec::new(),
            cells: cells.centres.clone(),
            per_distance: 0.0,
            ranks: ConformalRanks::from_held_out(Vec::new()),
        };
        let bin_counts = BinCounts::of(fitted, &reference);
        reference.surprise = bin_counts.surprise();
        let per_surprise = equalise_scales(fitted, &mut reference);
        Ok(Self { reference, bin_counts, per_surprise, cells })
    }

    /// Measure of each fitted row, without the row in the counts of its bins and in the centre of
    /// its cell. Ranges, scales and the members of the cells remain: one row hardly moves them.
    fn measures_against_others(&self, fitted: &EncodedDataset) -> Vec<f32> {
        fitted.map_rows(|row| {
            let vector = fitted.row_values(row);
            let surprise: f32 = vector
                .iter()
                .enumerate()
                .map(|(column, x)| {
                    let bin = bin(*x, self.reference.lows[column], self.reference.per_unit[column]);
                    self.bin_counts.surprise_of(column, bin, 1.0)
                })
                .sum();
            self.per_surprise * surprise
                + self.reference.per_distance * self.cells.distance_to_others(row, vector)
        })
    }
}

/// Fitted rows in each bin, column by column.
struct BinCounts {
    rows: f64,
    columns: usize,
    counts: Vec<f64>,
}

impl BinCounts {
    fn of(fitted: &EncodedDataset, reference: &OutlierReference) -> Self {
        let columns = fitted.columns();
        let chunks = fitted.map_chunks(|rows| {
            let mut counts = vec![0_u32; columns * BINS];
            for row in rows {
                for (column, x) in fitted.row(row).iter().enumerate() {
                    counts[column * BINS
                        + bin(*x, reference.lows[column], reference.per_unit[column])] += 1;
                }
            }
            counts
        });
        let mut counts = vec![0.0_f64; columns * BINS];
        for chunk in chunks {
            for (count, more) in counts.iter_mut().zip(chunk) {
                *count += f64::from(more);
            }
        }
        Self { rows: fitted.rows() as f64, columns, counts }
    }

    /// Surprise of each bin.
    fn surprise(&self) -> Vec<f32> {
        let bins = (0..self.columns).flat_map(|column| (0..BINS).map(move |bin| (column, bin)));
        bins.map(|(column, bin)| self.surprise_of(column, bin, 0.0)).collect()
    }

    /// Surprise −ln p of a bin, smoothed over its neighbours and never infinite, divided by the
    /// number of columns: the mean over the columns is the sum of these. `without` rows are left
    /// out of the bin.
    fn surprise_of(&self, column: usize, bin: usize, without: f64) -> f32 {
        let bins = &self.counts[column * BINS..][..BINS];
        let own = |other: usize| if other == bin { bins[other] - without } else { bins[other] };
        let (before, after) = (own(bin.saturating_sub(1)), own((bin + 1).min(BINS - 1)));
        // Laplace smoothing: one row is added to each bin.
        let all = self.rows - without + BINS as f64;
        let share = (0.25 * before + 0.5 * own(bin) + 0.25 * after + 1.0) / all;
        (-share.ln() / self.columns as f64) as f32
    }
}

/// Cells of a k-means, without the rarest ones.
struct CommonCells {
    centres: Prototypes,
    /// Sizes of the cells, among the rows that k-means was fitted to.
    sizes: Vec<usize>,
    /// The cell of each of these rows; `None`: a cell that is left out.
    cell_of: Vec<Option<usize>>,
}

impl CommonCells {
    fn find(
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
        let centres = Prototypes::new(some.columns(), values.map(|x| x as f32).collect())
            .ok_or(TrainingError::EmptySegment { segment: 0, segments: counts.len() })?;
        let place_of = |cell: &u32| common.iter().position(|kept| *kept == *cell as usize);
        Ok(Self {
            centres,
            sizes: common.iter().map(|cell| counts[*cell]).collect(),
            cell_of: partition.labels.iter().map(place_of).collect(),
        })
    }

    /// Distance of a fitted row to the nearest cell, whose centre is that of the other rows. `row`
    /// is its position among the rows that k-means was fitted to.
    fn distance_to_others(&self, row: usize, vector: &[f32]) -> f32 {
        let own = self.cell_of.get(row).copied().flatten();
        let mut nearest = f32::INFINITY;
        for (cell, centre) in self.centres.rows().enumerate() {
            let mut squared: f32 =
                vector.iter().zip(centre).map(|(x, centre)| (x - centre).powi(2)).sum();
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

/// Brings both parts of the measure to the same scale, so that neither dominates. Returns the
/// factor of the surprise.
fn equalise_scales(fitted: &EncodedDataset, reference: &mut OutlierReference) -> f32 {
    // `per_distance` is 0 so far, so that the measure consists of the surprise alone.
    let per_surprise = per_spread(&measure_rows(reference, fitted));
    let distances =
        fitted.map_rows(|row| fitted.row(row).to_slice().map_or(0.0, |it| reference.distance(it)));
    let per_distance = per_spread(&distances);
    for surprise in &mut reference.surprise {
        *surprise = (*surprise * per_surprise).min(1e6);
    }
    reference.per_distance = per_distance;
    per_surprise
}

/// Inverse of the distance between the median and the quantile [`TAIL_QUANTILE`].
fn per_spread(values: &[f32]) -> f32 {
    let values: Vec<f64> = values.iter().copied().map(f64::from).collect();
    let ascending = stats::sorted(&values);
    let spread = stats::quantile(&ascending, TAIL_QUANTILE) - stats::quantile(&ascending, 0.5);
    // Without spread the unit is arbitrary.
    if spread > 1e-9 { (1.0 / spread) as f32 } else { 1.0 }
}

/// Measure of each row by `reference`.
fn measure_rows(reference: &OutlierReference, data: &EncodedDataset) -> Vec<f32> {
    data.map_rows(|row| data.row(row).to_slice().map_or(0.0, |vector| reference.measure(vector)))
}
