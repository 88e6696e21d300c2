//! Outlier measure: the unusualness of an encoded row, independent of the segments.
//!
//! The distance to the nearest segment is a poor outlier detector: outliers among the
//! training rows form a segment of their own and look typical in it. Two terms are added
//! instead. The first is the rarity of each value in its column: the mean surprise
//! −ln(share of rows in its bin), the histogram-based outlier score (HBOS) of Goldstein and
//! Dengel (2012). The second is the distance from dense regions: to the nearest of a few
//! cells of training rows, after the cells with the rarest rows are left out.

use serde::{Deserialize, Serialize};

use crate::domain::encode::MAX_ENCODED;
use crate::domain::model::Prototypes;
use crate::domain::model::bounds::interval::{ColumnInterval, UNIT_ROUNDING};
use crate::domain::model::conformal::{ConformalRanks, HeldOutPValue};

/// Bins per column, of equal width; the outer two are open-ended.
pub(in crate::domain) const BINS: usize = 32;
/// Independent partial sums, so that table lookups do not wait for each other's addition.
const LANES: usize = 4;

/// Outlier reference: histograms, dense cells, and the calibration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutlierReference {
    /// Lower bound of the first bin of each column.
    pub(in crate::domain) lows: Vec<f32>,
    /// Bins per unit of each column: the inverse of the bin width.
    pub(in crate::domain) per_unit: Vec<f32>,
    /// Surprise of each bin, column by column.
    pub(in crate::domain) surprise: Vec<f32>,
    /// Centres of the dense cells.
    pub(in crate::domain) cells: Prototypes,
    /// Weight of the distance to the nearest cell.
    pub(in crate::domain) per_distance: f32,
    /// Calibration on the rows of all segments together: the held-out rows, or all rows of few.
    pub(in crate::domain) ranks: ConformalRanks,
}

impl OutlierReference {
    /// Outlier measure of an encoded row: at least 0, without a unit. Never allocates.
    pub fn measure(&self, vector: &[f32]) -> f32 {
        let mut sums = [0.0_f32; LANES];
        let bins = vector.iter().zip(&self.lows).zip(&self.per_unit);
        let tables = self.surprise.chunks_exact(BINS);
        for (column, (((x, low), per_unit), table)) in bins.zip(tables).enumerate() {
            sums[column % LANES] += table[bin(*x, *low, *per_unit)];
        }
        sums.iter().sum::<f32>() + self.per_distance * self.distance(vector)
    }

    /// Distance to the nearest dense cell.
    pub(in crate::domain) fn distance(&self, vector: &[f32]) -> f32 {
        self.cells.two_nearest(vector).nearest_squared.sqrt()
    }

    /// Conformal p-value of a measure. The calibrating rows of all segments are pooled:
    /// within a segment of outliers every row is like the others, and none would be flagged.
    pub(super) fn p_value(&self, measure: f32) -> f64 {
        self.ranks.p_value(measure)
    }

    pub(super) fn smallest_p_value(&self) -> f64 {
        self.ranks.smallest_p_value()
    }

    pub(super) fn p_values(&self) -> Vec<HeldOutPValue> {
        self.ranks.p_values()
    }

    /// The measure beyond which the p-value is at most `alpha`; infinite with too few
    /// calibrating rows.
    pub(super) fn limit(&self, alpha: f64) -> f32 {
        self.ranks.limit(alpha)
    }

    /// Whether the outlier flag is invariant in a box: `vector` stays on its side of `limit`
    /// for all values of the columns in `intervals`.
    pub(super) fn stays(
        &self,
        vector: &[f32],
        intervals: &[ColumnInterval],
        is_outlier: bool,
        limit: f32,
    ) -> bool {
        let surprise: f64 =
            vector.iter().enumerate().map(|(column, x)| self.surprise_of(column, *x)).sum();
        let (mut least, mut most) = (surprise, surprise);
        for interval in intervals {
            let column = interval.column;
            // `bin` is monotone, in `f32` too: the ends of the interval bound all its bins.
            let first = self.bin_index(column, interval.low as f32);
            let last = self.bin_index(column, interval.high as f32);
            let bins = &self.table(column)[first..=last];
            let here = self.surprise_of(column, vector[column]);
            least += f64::from(bins.iter().copied().fold(f32::INFINITY, f32::min)) - here;
            most += f64::from(bins.iter().copied().fold(0.0, f32::max)) - here;
        }
        let per_distance = f64::from(self.per_distance);
        // Relative rounding of the measure in `f32`: one unit per column and a margin of 24
        // for the root, the weight and the lanes.
        let rounding = (vector.len() as f64 + 24.0) * UNIT_ROUNDING;
        let limit = f64::from(limit);
        if is_outlier {
            // Lower bound: the least surprise, and the least distance to any cell.
            let squared = self
                .cells
                .rows()
                .map(|cell| squared_distance_bound(vector, intervals, cell, least_squared))
                .fold(f64::INFINITY, f64::min);
            (least + per_distance * squared.sqrt()) * (1.0 - rounding) > limit
        } else {
            // Upper bound: one cell suffices. The nearest cell may change within the box, but
            // only to a nearer one.
            let cell = self.cells.row(self.cells.two_nearest(vector).nearest);
            let squared = squared_distance_bound(vector, intervals, cell, most_squared);
            (most + per_distance * squared.sqrt()) * (1.0 + rounding) < limit
        }
    }

    /// Surprise of the bins of one column.
    fn table(&self, column: usize) -> &[f32] {
        &self.surprise[column * BINS..][..BINS]
    }

    fn bin_index(&self, column: usize, x: f32) -> usize {
        bin(x, self.lows[column], self.per_unit[column])
    }

    fn surprise_of(&self, column: usize, x: f32) -> f64 {
        f64::from(self.table(column)[self.bin_index(column, x)])
    }

    pub(super) fn is_sound(&self, columns: usize) -> bool {
        self.lows.len() == columns
            && self.per_unit.len() == columns
            && self.surprise.len() == columns * BINS
            && self.lows.iter().all(|low| is_bin_number(*low))
            && self.per_unit.iter().all(|x| is_bin_number(*x) && *x > 0.0)
            && self.surprise.iter().all(|x| (0.0..=1e6).contains(x))
            && self.cells.is_whole()
            && self.cells.width() == columns
            && self.cells.is_within(MAX_ENCODED)
            && (0.0..=MAX_ENCODED).contains(&self.per_distance)
            && self.ranks.is_sound()
    }
}

/// Index of the bin of a value.
pub(in crate::domain) fn bin(x: f32, low: f32, per_unit: f32) -> usize {
    // The cast saturates: values below the first bin go to bin 0.
    (((x - low) * per_unit) as usize).min(BINS - 1)
}

/// Whether a number may place or scale bins: finite, and in range with a margin for the
/// outer bins.
fn is_bin_number(x: f32) -> bool {
    x.is_finite() && x.abs() <= 2.0 * MAX_ENCODED
}

/// Least squared difference between `cell` and a value from `low` to `high`.
fn least_squared(low: f64, high: f64, cell: f64) -> f64 {
    (cell.clamp(low, high) - cell).powi(2)
}

/// Largest squared difference between `cell` and a value from `low` to `high`.
fn most_squared(low: f64, high: f64, cell: f64) -> f64 {
    (low - cell).powi(2).max((high - cell).powi(2))
}

/// Sums `bound(low, high, cell)` over the columns: a bound of the squared distance to a cell
/// while the columns in `intervals` vary.
fn squared_distance_bound(
    vector: &[f32],
    intervals: &[ColumnInterval],
    cell: &[f32],
    bound: impl Fn(f64, f64, f64) -> f64,
) -> f64 {
    // First every column as a point; then each interval replaces its point's term.
    let mut sum: f64 = vector
        .iter()
        .zip(cell)
        .map(|(x, at)| bound(f64::from(*x), f64::from(*x), f64::from(*at)))
        .sum();
    let change: f64 = intervals
        .iter()
        .map(|interval| {
            let (x, at) = (f64::from(vector[interval.column]), f64::from(cell[interval.column]));
            bound(interval.low, interval.high, at) - bound(x, x, at)
        })
        .sum();
    sum += change;
    sum.max(0.0)
}
