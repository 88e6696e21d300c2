//! Fit of the outlier reference: rare and common values, combinations and regions of the training
//! rows, and its calibration.

mod bin_counts;
mod common_cells;
mod dependence_tree;

use std::borrow::Cow;

use crate::domain::model::outlier::bins::BINS;
use crate::domain::model::outlier::dependence_tree::{DependenceTree, MAX_SURPRISE};
use crate::domain::model::{
    ConformalRanks, MINIMUM_CATEGORY_ROWS, OutlierReference, P_VALUE_BINS, p_value_bin,
};
use crate::domain::stats;
use crate::domain::train::assembly::outlier_reference::bin_counts::BinCounts;
use crate::domain::train::assembly::outlier_reference::common_cells::CommonCells;
use crate::domain::train::assembly::outlier_reference::dependence_tree::{
    PairCounts, combinations_of, find_edges,
};
use crate::domain::train::data::split::RowSplit;
use crate::domain::train::{CalibrationMethod, EncodedDataset, TrainingError, TrainingProgress};

/// Range of a column's bins: this number of standard deviations to each side of the mean.
const BIN_RANGE_DEVIATIONS: f64 = 4.0;
/// The distance of this quantile from the median is the unit of both parts of the measure.
const TAIL_QUANTILE: f64 = 0.9;

/// A calibrated reference.
pub(crate) struct CalibratedReference {
    pub(crate) reference: OutlierReference,
    /// Measures of the rows that it is calibrated on, each without the row itself in the fit.
    pub(crate) measures: Vec<f32>,
    pub(crate) method: CalibrationMethod,
    /// As in [`DriftBaseline`](crate::domain::model::DriftBaseline).
    pub(crate) p_values: Vec<u64>,
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
    let (mut reference, calibrating, measures, method);
    if split.held_out.len() >= MINIMUM_CATEGORY_ROWS {
        reference =
            UncalibratedReference::fit(&encoded.select(&split.fitted), seed, progress)?.reference;
        calibrating = Cow::Owned(encoded.select(&split.held_out));
        measures = measure_rows(&reference, &calibrating);
        method = CalibrationMethod::HeldOut;
    } else {
        let fitted = UncalibratedReference::fit(encoded, seed, progress)?;
        calibrating = Cow::Borrowed(encoded);
        measures = fitted.measures_against_others(encoded);
        reference = fitted.reference;
        method = CalibrationMethod::LeaveOneOut;
    }
    reference.ranks = ConformalRanks::from_held_out(measures.clone());
    let p_values = count_p_values(&reference, &calibrating);
    Ok(CalibratedReference { reference, measures, method, p_values })
}

/// Rows in each bin of the p-value that they are scored with.
fn count_p_values(reference: &OutlierReference, rows: &EncodedDataset) -> Vec<u64> {
    let mut counts = vec![0; P_VALUE_BINS];
    for measure in measure_rows(reference, rows) {
        counts[p_value_bin(reference.ranks.p_value(measure), P_VALUE_BINS)] += 1;
    }
    counts
}

/// A reference with what it takes to leave a row out of it.
struct UncalibratedReference {
    reference: OutlierReference,
    bin_counts: BinCounts,
    pair_counts: PairCounts,
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
        let no_tree =
            DependenceTree { groups: Vec::new(), edges: Vec::new(), surprise: Vec::new() };
        let mut reference = OutlierReference {
            lows: lows.collect(),
            per_unit: per_unit.collect(),
            surprise: Vec::new(),
            dependence_tree: no_tree,
            column_factors: cells.column_factors.clone(),
            cells: cells.centres.clone(),
            per_distance: 0.0,
            ranks: ConformalRanks::from_held_out(Vec::new()),
        };
        // Each step reads what the steps before it have set.
        let bin_counts = BinCounts::of(fitted, &reference);
        reference.surprise = bin_counts.surprise();
        reference.dependence_tree.groups = bin_counts.groups();
        reference.dependence_tree.edges = find_edges(fitted, &reference);
        let pair_counts = PairCounts::of(fitted, &reference);
        reference.dependence_tree.surprise = pair_counts.surprise();
        let per_surprise = equalise_scales(fitted, &mut reference);
        Ok(Self { reference, bin_counts, pair_counts, per_surprise, cells })
    }

    /// Measure of each fitted row, without the row in the counts of its bins and combinations, and
    /// in the centre of its cell. Ranges, groups, edges, scales and the members of the cells
    /// remain: one row hardly moves them.
    fn measures_against_others(&self, fitted: &EncodedDataset) -> Vec<f32> {
        fitted.map_rows(|row| {
            let vector = fitted.row_values(row);
            self.per_surprise * self.surprise_against_others(vector)
                + self.reference.per_distance * self.cells.distance_to_others(row, vector)
        })
    }

    /// Mean surprise of a fitted row, without the row in the counts.
    fn surprise_against_others(&self, vector: &[f32]) -> f32 {
        let mut surprise = 0.0;
        for (column, x) in vector.iter().enumerate() {
            let bin = self.reference.bin_of(column, *x);
            surprise += self.bin_counts.surprise_of(column, bin, 1.0);
        }
        for (edge, combination) in combinations_of(&self.reference, vector).enumerate() {
            surprise += self.pair_counts.surprise_of(edge, combination, 1.0);
        }
        surprise.max(0.0)
    }
}

/// Brings both parts of the measure to the same scale, so that neither dominates. Returns the
/// factor of the surprise.
fn equalise_scales(fitted: &EncodedDataset, reference: &mut OutlierReference) -> f32 {
    let surprise = fitted.map_rows(|row| reference.surprise_of(fitted.row_values(row)));
    let distances = fitted.map_rows(|row| reference.distance(fitted.row_values(row)));
    let per_surprise = per_spread(&surprise);
    for surprise in &mut reference.surprise {
        *surprise = (*surprise * per_surprise).min(MAX_SURPRISE);
    }
    for surprise in &mut reference.dependence_tree.surprise {
        *surprise = (*surprise * per_surprise).clamp(-MAX_SURPRISE, MAX_SURPRISE);
    }
    reference.per_distance = per_spread(&distances);
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
    data.map_rows(|row| reference.measure(data.row_values(row)))
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::domain::stats::RandomStream;

    /// Reports nothing, and never stops.
    struct Quiet;

    impl TrainingProgress for Quiet {
        fn report(&self, _: &'static str, _: u64, _: u64) {}

        fn should_stop(&self) -> bool {
            false
        }
    }

    /// A normal column, one that depends on it, a count, and one of its own.
    fn dependent_rows(rows: usize) -> EncodedDataset {
        let mut rng = RandomStream::new(11, 0);
        let mut values = Vec::new();
        for _ in 0..rows {
            let x = rng.standard_normal();
            let near = 0.9 * x + 0.3 * rng.standard_normal();
            let count = (x.exp() + rng.uniform_unit()).floor();
            values.extend([x, near, count, rng.standard_normal()].map(|value| value as f32));
        }
        EncodedDataset::new(Array2::from_shape_vec((rows, 4), values).unwrap())
    }

    fn all_but(rows: usize, left_out: usize) -> Vec<usize> {
        (0..rows).filter(|row| *row != left_out).collect()
    }

    #[test]
    fn a_row_is_measured_against_the_counts_of_the_others() {
        let data = dependent_rows(120);
        let fitted = UncalibratedReference::fit(&data, 3, &Quiet).unwrap();
        let reference = &fitted.reference;
        assert!(reference.dependence_tree.edges.len() >= 2);
        for row in 0..data.rows() {
            let vector = data.row_values(row);
            let others = data.select(&all_but(data.rows(), row));
            let (bins, pairs) =
                (BinCounts::of(&others, reference), PairCounts::of(&others, reference));
            let (mut expected, mut of_all) = (0.0, 0.0);
            for (column, x) in vector.iter().enumerate() {
                let bin = reference.bin_of(column, *x);
                expected += bins.surprise_of(column, bin, 0.0);
                of_all += fitted.bin_counts.surprise_of(column, bin, 0.0);
            }
            for (edge, combination) in combinations_of(reference, vector).enumerate() {
                expected += pairs.surprise_of(edge, combination, 0.0);
                of_all += fitted.pair_counts.surprise_of(edge, combination, 0.0);
            }
            let found = fitted.surprise_against_others(vector);
            assert!((found - expected).abs() < 1e-6, "row {row}: {found} is not {expected}");
            // The row itself makes its values and combinations more frequent.
            assert!(found > of_all);
        }
    }

    #[test]
    fn the_same_rows_give_the_same_reference_with_any_number_of_threads() {
        let data = dependent_rows(12_000);
        let fit = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| UncalibratedReference::fit(&data, 3, &Quiet)).unwrap().reference
        };
        assert_eq!(fit(1), fit(3));
    }
}
