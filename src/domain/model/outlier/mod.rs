//! Outlier measure: the unusualness of an encoded row, independent of the segments.
//!
//! The distance to the nearest segment is a poor outlier detector: outliers among the
//! training rows form a segment of their own and look typical in it. Two terms are added
//! instead.
//!
//! The first is the mean surprise of the values, −ln(share of rows). It adds up the rarity of
//! each value in its column, the histogram-based outlier score (HBOS) of Goldstein and Dengel
//! (2012), and the rarity of the combinations of dependent columns: see [`dependence_tree`].
//!
//! The second is the distance from dense regions: to the nearest of a few cells of training
//! rows, after the cells with the rarest rows are left out. Each column is divided by its spread
//! within the cells, so that a deviation counts more in a column where the cells are narrow.

pub(in crate::domain) mod bins;
pub(in crate::domain) mod dependence_tree;
mod invariance;

use serde::{Deserialize, Serialize};

use crate::domain::encode::{MAX_COLUMNS, MAX_ENCODED};
use crate::domain::model::Prototypes;
use crate::domain::model::conformal::ConformalRanks;
use crate::domain::model::outlier::bins::{BINS, bin, is_bin_number};
use crate::domain::model::outlier::dependence_tree::{DependenceTree, MAX_SURPRISE, combination};

/// Independent partial sums, so that table lookups do not wait for each other's addition.
const LANES: usize = 4;
/// Columns up to which the buffers on the stack are small. Clearing buffers for
/// [`MAX_COLUMNS`] would take longer than the measure of a few columns.
const FEW_COLUMNS: usize = 64;

/// Outlier reference: histograms, dependent columns, dense cells, and the calibration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutlierReference {
    /// Lower bound of the first bin of each column.
    pub(in crate::domain) lows: Vec<f32>,
    /// Bins per unit of each column: the inverse of the bin width.
    pub(in crate::domain) per_unit: Vec<f32>,
    /// Surprise of each bin, column by column.
    pub(in crate::domain) surprise: Vec<f32>,
    /// Dependent columns, and the surprise of each combination of their values.
    pub(in crate::domain) dependence_tree: DependenceTree,
    /// Factor of each column in the distance: the inverse of its spread within the cells.
    pub(in crate::domain) column_factors: Vec<f32>,
    /// Centres of the dense cells, in scaled columns.
    pub(in crate::domain) cells: Prototypes,
    /// Weight of the distance to the nearest cell.
    pub(in crate::domain) per_distance: f32,
    /// Calibration on the rows of all segments together: the held-out rows, or all rows of few.
    pub(in crate::domain) ranks: ConformalRanks,
}

impl OutlierReference {
    /// Outlier measure of an encoded row: at least 0, without a unit. Never allocates.
    pub fn measure(&self, vector: &[f32]) -> f32 {
        self.surprise_of(vector) + self.per_distance * self.distance(vector)
    }

    /// Mean surprise of a row, in the unit of the measure.
    pub(in crate::domain) fn surprise_of(&self, vector: &[f32]) -> f32 {
        if vector.len() <= FEW_COLUMNS {
            self.surprise_with_buffer::<FEW_COLUMNS>(vector)
        } else {
            self.surprise_with_buffer::<MAX_COLUMNS>(vector)
        }
    }

    fn surprise_with_buffer<const COLUMNS: usize>(&self, vector: &[f32]) -> f32 {
        let mut groups = [0_u8; COLUMNS];
        let mut sums = [0.0_f32; LANES];
        let bins = vector.iter().zip(&self.lows).zip(&self.per_unit);
        let tables = self.surprise.as_chunks::<BINS>().0.iter();
        let tables = tables.zip(self.dependence_tree.group_tables()).zip(&mut groups);
        for (column, (((x, low), per_unit), ((table, group_table), group))) in
            bins.zip(tables).enumerate()
        {
            let bin = bin(*x, *low, *per_unit);
            sums[column % LANES] += table[bin];
            *group = group_table[bin];
        }
        for (edge, pair) in self.dependence_tree.pairs().enumerate() {
            let [first, second] = pair.columns;
            sums[edge % LANES] += pair.surprise[combination(groups[first], groups[second])];
        }
        // Combinations that are more frequent than under independence count negatively.
        sums.iter().sum::<f32>().max(0.0)
    }

    /// Distance to the nearest dense cell, in scaled columns.
    pub(in crate::domain) fn distance(&self, vector: &[f32]) -> f32 {
        self.search_cells(vector, Prototypes::nearest_squared).sqrt()
    }

    /// Index of the nearest dense cell.
    fn nearest_cell(&self, vector: &[f32]) -> usize {
        self.search_cells(vector, |cells, scaled| cells.two_nearest(scaled).nearest)
    }

    /// Calls `search` with the cells and the scaled row.
    fn search_cells<T>(&self, vector: &[f32], search: impl Fn(&Prototypes, &[f32]) -> T) -> T {
        if vector.len() <= FEW_COLUMNS {
            self.search_with_buffer::<FEW_COLUMNS, T>(vector, search)
        } else {
            self.search_with_buffer::<MAX_COLUMNS, T>(vector, search)
        }
    }

    fn search_with_buffer<const COLUMNS: usize, T>(
        &self,
        vector: &[f32],
        search: impl Fn(&Prototypes, &[f32]) -> T,
    ) -> T {
        let mut scaled = [0.0_f32; COLUMNS];
        for ((scaled, x), factor) in scaled.iter_mut().zip(vector).zip(&self.column_factors) {
            *scaled = scale_value(*x, *factor);
        }
        search(&self.cells, &scaled[..vector.len().min(COLUMNS)])
    }

    /// Conformal p-value of a measure. The calibrating rows of all segments are pooled:
    /// within a segment of outliers every row is like the others, and none would be flagged.
    pub(super) fn p_value(&self, measure: f32) -> f64 {
        self.ranks.p_value(measure)
    }

    pub(super) fn smallest_p_value(&self) -> f64 {
        self.ranks.smallest_p_value()
    }

    /// The measure beyond which the p-value is at most `alpha`; infinite with too few
    /// calibrating rows.
    pub(super) fn limit(&self, alpha: f64) -> f32 {
        self.ranks.limit(alpha)
    }

    /// Index of the bin of a value.
    pub(in crate::domain) fn bin_of(&self, column: usize, x: f32) -> usize {
        bin(x, self.lows[column], self.per_unit[column])
    }

    /// Group of a value.
    pub(in crate::domain) fn group_of(&self, column: usize, x: f32) -> u8 {
        self.dependence_tree.group(column, self.bin_of(column, x))
    }

    pub(super) fn is_sound(&self, columns: usize) -> bool {
        columns <= MAX_COLUMNS
            && self.lows.len() == columns
            && self.per_unit.len() == columns
            && self.surprise.len() == columns * BINS
            && self.lows.iter().all(|low| is_bin_number(*low))
            && self.per_unit.iter().all(|x| is_bin_number(*x) && *x > 0.0)
            && self.surprise.iter().all(|x| (0.0..=MAX_SURPRISE).contains(x))
            && self.dependence_tree.is_sound(columns)
            && self.column_factors.len() == columns
            && self.column_factors.iter().all(|x| (1.0 / MAX_ENCODED..=MAX_ENCODED).contains(x))
            && self.cells.is_whole()
            && self.cells.width() == columns
            && self.cells.is_within(MAX_ENCODED)
            && (0.0..=MAX_ENCODED).contains(&self.per_distance)
            && self.ranks.is_sound()
    }
}

/// A value in the scale of its column. Monotone in `x`, also after rounding; bounded, so that
/// the square of a distance is finite.
pub(in crate::domain) fn scale_value(x: f32, factor: f32) -> f32 {
    (x * factor).clamp(-MAX_ENCODED, MAX_ENCODED)
}
