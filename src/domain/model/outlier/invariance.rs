//! Invariance of the outlier flag while columns vary within intervals, by interval arithmetic.

use crate::domain::encode::MAX_COLUMNS;
use crate::domain::model::OutlierReference;
use crate::domain::model::bounds::interval::{ColumnInterval, UNIT_ROUNDING};
use crate::domain::model::outlier::bins::BINS;
use crate::domain::model::outlier::dependence_tree::combination;
use crate::domain::model::outlier::scale_value;

/// The bins that the values of one column may be in, both ends included.
#[derive(Debug, Clone, Copy, Default)]
struct BinRange {
    first: u8,
    last: u8,
}

/// Range of the surprise within a box.
#[derive(Debug, Clone, Copy, Default)]
struct SurpriseRange {
    least: f64,
    most: f64,
    /// Sum of the largest absolute values of the terms: the scale of the rounding error, since
    /// terms of both signs may cancel.
    size: f64,
}

impl OutlierReference {
    /// Whether the outlier flag is invariant in a box: `vector` stays on its side of `limit`
    /// for all values of the columns in `intervals`.
    pub(in crate::domain::model) fn stays(
        &self,
        vector: &[f32],
        intervals: &[ColumnInterval],
        is_outlier: bool,
        limit: f32,
    ) -> bool {
        let surprise = self.surprise_range(vector, intervals);
        let per_distance = f64::from(self.per_distance);
        // Rounding of the measure in `f32`: one unit for each column and edge, and a margin of 24
        // for the root, the weights and the lanes.
        let terms = vector.len() + self.dependence_tree.edges.len();
        let rounding = (terms as f64 + 24.0) * UNIT_ROUNDING;
        let limit = f64::from(limit);
        if is_outlier {
            // Lower bound: the least surprise, and the least distance to any cell.
            let squared = self
                .cells
                .rows()
                .map(|cell| self.squared_distance_bound(vector, intervals, cell, least_squared))
                .fold(f64::INFINITY, f64::min);
            let surprise = (surprise.least - rounding * surprise.size).max(0.0);
            (surprise + per_distance * squared.sqrt()) * (1.0 - rounding) > limit
        } else {
            // Upper bound: one cell suffices. The nearest cell may change within the box, but
            // only to a nearer one.
            let cell = self.cells.row(self.nearest_cell(vector));
            let squared = self.squared_distance_bound(vector, intervals, cell, most_squared);
            let surprise = (surprise.most + rounding * surprise.size).max(0.0);
            (surprise + per_distance * squared.sqrt()) * (1.0 + rounding) < limit
        }
    }

    /// Range of the surprise while the columns in `intervals` vary: the sum of the ranges of its
    /// terms. A pair of columns ranges over the combinations of all their groups, including
    /// combinations that cannot occur together.
    fn surprise_range(&self, vector: &[f32], intervals: &[ColumnInterval]) -> SurpriseRange {
        let mut bins = [BinRange::default(); MAX_COLUMNS];
        for (column, (bins, x)) in bins.iter_mut().zip(vector).enumerate() {
            let bin = self.bin_of(column, *x) as u8;
            *bins = BinRange { first: bin, last: bin };
        }
        for interval in intervals {
            let column = interval.column;
            // Bins are monotone, in `f32` too: the ends of the interval bound all its bins.
            bins[column] = BinRange {
                first: self.bin_of(column, interval.low as f32) as u8,
                last: self.bin_of(column, interval.high as f32) as u8,
            };
        }
        let mut range = SurpriseRange::default();
        for (table, BinRange { first, last }) in
            self.surprise.as_chunks::<BINS>().0.iter().zip(bins)
        {
            range.add(table[usize::from(first)..=usize::from(last)].iter().copied());
        }
        for pair in self.dependence_tree.pairs() {
            let [first, second] = pair.columns.map(|column| {
                // Groups ascend with the bins.
                let group = |bin: u8| self.dependence_tree.group(column, usize::from(bin));
                group(bins[column].first)..=group(bins[column].last)
            });
            let combinations = first.flat_map(|a| second.clone().map(move |b| combination(a, b)));
            range.add(combinations.map(|combination| pair.surprise[combination]));
        }
        range
    }

    /// Sums `bound(low, high, cell)` over the scaled columns: a bound of the squared distance to
    /// a cell while the columns in `intervals` vary.
    fn squared_distance_bound(
        &self,
        vector: &[f32],
        intervals: &[ColumnInterval],
        cell: &[f32],
        bound: impl Fn(f64, f64, f64) -> f64,
    ) -> f64 {
        // Scaling is monotone, in `f32` too: the ends of the interval bound all scaled values.
        let bound = |column: usize, low: f32, high: f32| {
            let scale = |x| f64::from(scale_value(x, self.column_factors[column]));
            bound(scale(low), scale(high), f64::from(cell[column]))
        };
        // First every column as a point; then each interval replaces its point's term.
        let mut sum: f64 = vector.iter().enumerate().map(|(column, x)| bound(column, *x, *x)).sum();
        for interval in intervals {
            let (column, x) = (interval.column, vector[interval.column]);
            sum += bound(column, interval.low as f32, interval.high as f32) - bound(column, x, x);
        }
        sum.max(0.0)
    }
}

impl SurpriseRange {
    /// Adds a term that may have any of `values`, of which there is at least one.
    fn add(&mut self, values: impl Iterator<Item = f32>) {
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.map(f64::from) {
            least = least.min(value);
            most = most.max(value);
        }
        self.least += least;
        self.most += most;
        self.size += least.abs().max(most.abs());
    }
}

/// Least squared difference between `cell` and a value from `low` to `high`.
fn least_squared(low: f64, high: f64, cell: f64) -> f64 {
    (cell.clamp(low, high) - cell).powi(2)
}

/// Largest squared difference between `cell` and a value from `low` to `high`.
fn most_squared(low: f64, high: f64, cell: f64) -> f64 {
    (low - cell).powi(2).max((high - cell).powi(2))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::model::outlier::dependence_tree::{COMBINATIONS, DependenceTree};
    use crate::domain::model::{ConformalRanks, Prototypes};
    use crate::domain::stats::RandomStream;

    /// A reference with a chain of dependent columns, or with none. Pair terms have both signs.
    fn reference(rng: &mut RandomStream, columns: usize) -> OutlierReference {
        let edges: Vec<[u16; 2]> = (1..columns as u16).map(|column| [column - 1, column]).collect();
        let edges = if rng.uniform_below(5) == 0 { Vec::new() } else { edges };
        let mut numbers = |count: usize, low: f64, high: f64| -> Vec<f32> {
            (0..count).map(|_| (low + (high - low) * rng.uniform_unit()) as f32).collect()
        };
        let pair_terms = numbers(edges.len() * COMBINATIONS, -2.0, 2.0);
        let surprise = numbers(columns * BINS, 0.0, 1.0);
        let column_factors = numbers(columns, 0.2, 5.0);
        let cells = numbers(3 * columns, -3.0, 3.0);
        let per_distance = numbers(1, 0.0, 1.0)[0];
        let mut groups = Vec::new();
        for _ in 0..columns {
            let mut column: Vec<u8> = (0..BINS).map(|_| rng.uniform_below(4) as u8).collect();
            column.sort_unstable();
            groups.extend(column);
        }
        OutlierReference {
            lows: vec![-4.0; columns],
            per_unit: vec![4.0; columns],
            surprise,
            dependence_tree: DependenceTree { groups, edges, surprise: pair_terms },
            column_factors,
            cells: Prototypes::new(columns, cells).unwrap(),
            per_distance,
            ranks: ConformalRanks::from_held_out(Vec::new()),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn a_flag_that_stays_is_the_flag_of_every_point_of_the_box(
            seed in any::<u64>(),
            columns in 1..70_usize,
            width in prop_oneof![Just(0.01), Just(0.3), Just(2.0)],
            nearness in prop_oneof![Just(1e-6), Just(0.1), Just(2.0)],
        ) {
            let mut rng = RandomStream::new(seed, 0);
            let reference = reference(&mut rng, columns);
            prop_assert!(reference.is_sound(columns));
            let vector: Vec<f32> =
                (0..columns).map(|_| (10.0 * rng.uniform_unit() - 5.0) as f32).collect();
            let mut intervals = Vec::new();
            for (column, x) in vector.iter().enumerate() {
                if rng.uniform_below(3) == 0 {
                    let x = f64::from(*x);
                    let (low, high) =
                        (x - width * rng.uniform_unit(), x + width * rng.uniform_unit());
                    intervals.push(ColumnInterval { column, low, high });
                }
            }
            let measure = reference.measure(&vector);
            let limit = (measure + (nearness * (rng.uniform_unit() - 0.5)) as f32).max(0.0);
            let is_outlier = measure > limit;
            let stays = reference.stays(&vector, &intervals, is_outlier, limit);
            // A point is certain, unless the limit is within the rounding error.
            if intervals.is_empty() && (measure - limit).abs() > 1e-3 * (1.0 + measure) {
                prop_assert!(stays);
            }
            let mut point = vector;
            for _ in 0..if stays { 200 } else { 0 } {
                for interval in &intervals {
                    let share = [0.0, 1.0, rng.uniform_unit()][rng.uniform_below(3)];
                    let x = interval.low + share * (interval.high - interval.low);
                    point[interval.column] = x as f32;
                }
                prop_assert_eq!(reference.measure(&point) > limit, is_outlier);
            }
        }
    }
}
