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
use crate::domain::model::bounds::{Moved, UNIT_ROUNDING};
use crate::domain::model::conformal::Ranks;

/// Bins per column, of equal width; the outer two are open-ended.
pub(in crate::domain) const BINS: usize = 32;
/// Independent partial sums, so that table lookups do not wait for each other's addition.
const LANES: usize = 4;

/// Outlier reference: histograms, dense cells, and the calibration on held-out rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oddity {
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
    /// Calibration on the held-out rows of all segments together.
    pub(in crate::domain) ranks: Ranks,
}

impl Oddity {
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

    /// Split-conformal p-value of a measure. The held-out rows of all segments are pooled:
    /// within a segment of outliers every row is like the others, and none would be flagged.
    pub(super) fn p_value(&self, oddity: f32) -> f64 {
        self.ranks.p_value(oddity)
    }

    pub(super) fn each_p_value(&self, each: &mut impl FnMut(f64, u32)) {
        self.ranks.each_p_value(each);
    }

    /// The measure beyond which the p-value is at most `alpha`; infinite with too few
    /// held-out rows.
    pub(super) fn limit(&self, alpha: f64) -> f32 {
        self.ranks.limit(alpha)
    }

    /// Whether the outlier flag is invariant in a box: `vector` stays on its side of `limit`
    /// for all values of the columns in `spans`.
    pub(super) fn stays(&self, vector: &[f32], spans: &[Moved], outlier: bool, limit: f32) -> bool {
        let table = |column: usize| &self.surprise[column * BINS..][..BINS];
        let bin = |column: usize, x: f32| bin(x, self.lows[column], self.per_unit[column]);
        let here = |column: usize| f64::from(table(column)[bin(column, vector[column])]);
        let sum: f64 = (0..vector.len()).map(here).sum();
        let mut surprise = (sum, sum);
        for span in spans {
            let column = span.column;
            // `bin` is monotone, in `f32` too: the ends of the span bound all its bins.
            let bins = bin(column, span.low as f32)..=bin(column, span.high as f32);
            let bins = &table(column)[bins];
            let (least, most) = bins
                .iter()
                .fold((f32::INFINITY, 0.0_f32), |(least, most), x| (least.min(*x), most.max(*x)));
            surprise.0 += f64::from(least) - here(column);
            surprise.1 += f64::from(most) - here(column);
        }
        let per_distance = f64::from(self.per_distance);
        // Relative rounding of the measure in `f32`: one unit per column and a margin of 24
        // for the root, the weight and the lanes.
        let rounding = (vector.len() as f64 + 24.0) * UNIT_ROUNDING;
        let limit = f64::from(limit);
        if outlier {
            // Lower bound: the least surprise, and the least distance to any cell.
            let least = |cell: &[f32]| {
                spread(vector, spans, cell, |low, high, at| (at.clamp(low, high) - at).powi(2))
            };
            let squared = self.cells.rows().map(least).fold(f64::INFINITY, f64::min);
            (surprise.0 + per_distance * squared.sqrt()) * (1.0 - rounding) > limit
        } else {
            // Upper bound: one cell suffices. The nearest cell may change within the box, but
            // only to a nearer one.
            let cell = self.cells.row(self.cells.two_nearest(vector).nearest);
            let squared = spread(vector, spans, cell, |low, high, at| {
                (low - at).powi(2).max((high - at).powi(2))
            });
            (surprise.1 + per_distance * squared.sqrt()) * (1.0 + rounding) < limit
        }
    }

    pub(super) fn is_sound(&self, columns: usize) -> bool {
        let within = |x: &f32| x.is_finite() && x.abs() <= 2.0 * MAX_ENCODED;
        let is_share = |x: &f32| (0.0..=1e6).contains(x);
        self.lows.len() == columns
            && self.per_unit.len() == columns
            && self.surprise.len() == columns * BINS
            && self.lows.iter().all(within)
            && self.per_unit.iter().all(|x| within(x) && *x > 0.0)
            && self.surprise.iter().all(is_share)
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

/// Sums `bound(low, high, cell)` over the columns: a bound of the squared distance to a cell
/// while the columns in `spans` vary.
fn spread(
    vector: &[f32],
    spans: &[Moved],
    cell: &[f32],
    bound: impl Fn(f64, f64, f64) -> f64,
) -> f64 {
    // Columns without a span are points; then each span replaces its point's term.
    let columns = vector.iter().zip(cell).map(|(x, at)| (f64::from(*x), f64::from(*at)));
    let still: f64 = columns.map(|(x, at)| bound(x, x, at)).sum();
    let moved = |span: &Moved| {
        let (x, at) = (f64::from(vector[span.column]), f64::from(cell[span.column]));
        bound(span.low, span.high, at) - bound(x, x, at)
    };
    (still + spans.iter().map(moved).sum::<f64>()).max(0.0)
}
