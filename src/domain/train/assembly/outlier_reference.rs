//! Outlier reference: rare and common regions of the fitted rows.

use crate::domain::model::outlier::{BINS, OutlierReference, bin};
use crate::domain::model::{ConformalRanks, Prototypes};
use crate::domain::stats;
use crate::domain::train::clustering::kmeans;
use crate::domain::train::clustering::kmeans::KmeansSettings;
use crate::domain::train::{EncodedDataset, QuietProgress, TrainingError, TrainingProgress};

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

/// Fits the reference on `fitted`, and ranks `held_out` by it; both are encoded.
pub(crate) fn fit(
    fitted: &EncodedDataset,
    held_out: &EncodedDataset,
    seed: u64,
    progress: &dyn TrainingProgress,
) -> Result<OutlierReference, TrainingError> {
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
    let mut reference = OutlierReference {
        lows: lows.collect(),
        per_unit: per_unit.collect(),
        surprise: Vec::new(),
        cells: common_cells(fitted, seed, progress)?,
        per_distance: 0.0,
        ranks: ConformalRanks::from_held_out(Vec::new()),
    };
    reference.surprise = bin_surprise(fitted, &reference);
    equalise_scales(fitted, &mut reference);
    reference.ranks =
        ConformalRanks::from_held_out(measure_rows(held_out, |vector| reference.measure(vector)));
    Ok(reference)
}

/// Surprise −ln p of each bin, smoothed over its neighbours and never infinite, divided by the
/// number of columns: the mean over the columns is the sum of these.
fn bin_surprise(fitted: &EncodedDataset, reference: &OutlierReference) -> Vec<f32> {
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
    // Laplace smoothing: one row is added to each bin.
    let all = (fitted.rows() + BINS) as f64;
    let mut surprise = Vec::with_capacity(counts.len());
    for bins in counts.chunks_exact(BINS) {
        for bin in 0..BINS {
            let (before, after) = (bins[bin.saturating_sub(1)], bins[(bin + 1).min(BINS - 1)]);
            let share = (0.25 * before + 0.5 * bins[bin] + 0.25 * after + 1.0) / all;
            surprise.push((-share.ln() / columns as f64) as f32);
        }
    }
    surprise
}

/// Centres of the k-means cells, without the rarest cells.
fn common_cells(
    fitted: &EncodedDataset,
    seed: u64,
    progress: &dyn TrainingProgress,
) -> Result<Prototypes, TrainingError> {
    let step = fitted.rows().div_ceil(CELL_ROWS).max(1);
    let some = fitted.select(&(0..fitted.rows()).step_by(step).collect::<Vec<_>>());
    let settings =
        KmeansSettings { starts: Some(1), max_iterations: Some(CELL_ITERATIONS), tolerance: None };
    let cells = some.distinct_rows(MAX_CELLS);
    // This k-means is not a stage of the run.
    let progress = QuietProgress(progress);
    let partition =
        kmeans::fit_best_start(&some, cells, &settings, seed ^ SEED_OFFSET, &progress)?.partition;
    let mut counts = vec![0_usize; partition.centres.nrows()];
    for label in &partition.labels {
        counts[*label as usize] += 1;
    }
    let mut rarest: Vec<usize> = (0..counts.len()).collect();
    rarest.sort_by_key(|cell| counts[*cell]);
    // In ascending order of size, cells are dropped until their total exceeds the rare share.
    let mut total = 0;
    rarest.retain(|cell| {
        total += counts[*cell];
        total as f64 > RARE_SHARE * some.rows() as f64
    });
    let values = rarest.iter().flat_map(|cell| partition.centres.row(*cell).to_vec());
    Prototypes::new(some.columns(), values.map(|x| x as f32).collect())
        .ok_or(TrainingError::EmptySegment { segment: 0, segments: counts.len() })
}

/// Brings both parts of the measure to the same scale, so that neither dominates.
fn equalise_scales(fitted: &EncodedDataset, reference: &mut OutlierReference) {
    // `per_distance` is 0 so far, so that the measure consists of the surprise alone.
    let per_surprise = per_spread(&measure_rows(fitted, |vector| reference.measure(vector)));
    let per_distance = per_spread(&measure_rows(fitted, |vector| reference.distance(vector)));
    for surprise in &mut reference.surprise {
        *surprise = (*surprise * per_surprise).min(1e6);
    }
    reference.per_distance = per_distance;
}

/// Inverse of the distance between the median and the quantile [`TAIL_QUANTILE`].
fn per_spread(values: &[f32]) -> f32 {
    let values: Vec<f64> = values.iter().copied().map(f64::from).collect();
    let ascending = stats::sorted(&values);
    let spread = stats::quantile(&ascending, TAIL_QUANTILE) - stats::quantile(&ascending, 0.5);
    // Without spread the unit is arbitrary.
    if spread > 1e-9 { (1.0 / spread) as f32 } else { 1.0 }
}

/// Value of `measure` for each row.
pub(crate) fn measure_rows(
    data: &EncodedDataset,
    measure: impl Fn(&[f32]) -> f32 + Sync + Send,
) -> Vec<f32> {
    data.map_rows(|row| data.row(row).to_slice().map_or(0.0, &measure))
}
