//! How far a customer is from everything, whatever the segments are.
//!
//! The distance to the nearest segment is a poor detector: outliers in training
//! earn a segment of their own, and look at home in it. Two things are asked
//! instead, of the encoded row, and added. How rare is each value in its own
//! column: the mean surprise −ln(share of rows in its bin), as in Goldstein and
//! Dengel (2012), *Histogram-based outlier score*. And how far is the row from
//! where customers are common: the distance to the nearest of a few cells, those
//! that together hold the rarest rows left out.

use serde::{Deserialize, Serialize};

use crate::domain::encode::MAX_ENCODED;
use crate::domain::model::Prototypes;
use crate::domain::model::bounds::{Moved, UNIT_ROUNDING};
use crate::domain::model::conformal::Ranks;

/// Bins a column, equally wide; the outer two are open-ended.
pub(in crate::domain) const BINS: usize = 32;
/// Sums kept side by side.
const LANES: usize = 4;

/// What is rare and what is common, and how odd held-out rows are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oddity {
    /// One a column: where its first bin begins…
    pub(in crate::domain) lows: Vec<f32>,
    /// …and bins per unit.
    pub(in crate::domain) per_unit: Vec<f32>,
    /// Column by column, what a value in each bin adds.
    pub(in crate::domain) surprise: Vec<f32>,
    /// The cells that are common.
    pub(in crate::domain) cells: Prototypes,
    /// What a unit of distance to the nearest cell adds.
    pub(in crate::domain) per_distance: f32,
    /// Of the held-out rows, all segments together.
    pub(in crate::domain) ranks: Ranks,
}

impl Oddity {
    /// How odd an encoded row is: 0 or more, in no unit. Never allocates.
    pub fn measure(&self, vector: &[f32]) -> f32 {
        let mut sums = [0.0_f32; LANES];
        let bins = vector.iter().zip(&self.lows).zip(&self.per_unit);
        let tables = self.surprise.chunks_exact(BINS);
        for (column, (((x, low), per_unit), table)) in bins.zip(tables).enumerate() {
            sums[column % LANES] += table[bin(*x, *low, *per_unit)];
        }
        sums.iter().sum::<f32>() + self.per_distance * self.distance(vector)
    }

    /// Distance to the nearest common cell.
    pub(in crate::domain) fn distance(&self, vector: &[f32]) -> f32 {
        self.cells.two_nearest(vector).nearest_squared.sqrt()
    }

    /// The share of held-out customers at least as odd (split conformal). It
    /// counts all of them together: within a segment of oddities each is like
    /// the others, and none would stand out.
    pub(super) fn p_value(&self, oddity: f32) -> f64 {
        self.ranks.p_value(oddity)
    }

    pub(super) fn each_p_value(&self, each: &mut impl FnMut(f64, u32)) {
        self.ranks.each_p_value(each);
    }

    /// The oddity beyond which the p-value is at most `alpha`; infinite where too
    /// few rows were held out to tell.
    pub(super) fn limit(&self, alpha: f64) -> f32 {
        self.ranks.limit(alpha)
    }

    /// Whether `vector` stays on its side of `limit` wherever the columns in
    /// `spans` end up.
    pub(super) fn stays(&self, vector: &[f32], spans: &[Moved], outlier: bool, limit: f32) -> bool {
        let table = |column: usize| &self.surprise[column * BINS..][..BINS];
        let bin = |column: usize, x: f32| bin(x, self.lows[column], self.per_unit[column]);
        let here = |column: usize| f64::from(table(column)[bin(column, vector[column])]);
        let sum: f64 = (0..vector.len()).map(here).sum();
        let mut surprise = (sum, sum);
        for span in spans {
            let column = span.column;
            // A bin never falls as the number grows, in `f32` neither.
            let bins = bin(column, span.low as f32)..=bin(column, span.high as f32);
            let bins = &table(column)[bins];
            let (least, most) = bins
                .iter()
                .fold((f32::INFINITY, 0.0_f32), |(least, most), x| (least.min(*x), most.max(*x)));
            surprise.0 += f64::from(least) - here(column);
            surprise.1 += f64::from(most) - here(column);
        }
        let per_distance = f64::from(self.per_distance);
        let rounding = (vector.len() as f64 + 24.0) * UNIT_ROUNDING;
        let limit = f64::from(limit);
        if outlier {
            let least = |cell: &[f32]| {
                spread(vector, spans, cell, |low, high, at| (at.clamp(low, high) - at).powi(2))
            };
            let squared = self.cells.rows().map(least).fold(f64::INFINITY, f64::min);
            (surprise.0 + per_distance * squared.sqrt()) * (1.0 - rounding) > limit
        } else {
            // The nearest cell may change, but only to one that is nearer.
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

/// The bin of a value.
pub(in crate::domain) fn bin(x: f32, low: f32, per_unit: f32) -> usize {
    // What is below the first bin becomes 0.
    (((x - low) * per_unit) as usize).min(BINS - 1)
}

/// The sum over the columns of what `bound` says of each column's range.
fn spread(
    vector: &[f32],
    spans: &[Moved],
    cell: &[f32],
    bound: impl Fn(f64, f64, f64) -> f64,
) -> f64 {
    let columns = vector.iter().zip(cell).map(|(x, at)| (f64::from(*x), f64::from(*at)));
    let still: f64 = columns.map(|(x, at)| bound(x, x, at)).sum();
    let moved = |span: &Moved| {
        let (x, at) = (f64::from(vector[span.column]), f64::from(cell[span.column]));
        bound(span.low, span.high, at) - bound(x, x, at)
    };
    (still + spans.iter().map(moved).sum::<f64>()).max(0.0)
}
