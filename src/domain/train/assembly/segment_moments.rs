//! Moments of each segment's rows: the reference for within-segment drift detection.

use crate::domain::model::SegmentMoments;
use crate::domain::train::EncodedDataset;
use crate::domain::train::assembly::decision_function::OrderedDecisionFunction;

/// Relative limit of a variance that is only rounding error of a constant column.
const ROUNDING_SHARE: f64 = 1e-10;

/// First and second sums of one segment, relative to a common centre: one entry per column, the
/// last for the distance.
#[derive(Clone)]
struct SegmentSums {
    rows: f64,
    first: Vec<f64>,
    second: Vec<f64>,
}

/// Measures the rows of each segment in one pass. `centre` is the mean of all rows: sums
/// relative to it lose no digits.
pub(crate) fn measure(
    encoded: &EncodedDataset,
    centre: &[f64],
    shape: &OrderedDecisionFunction,
) -> Vec<SegmentMoments> {
    let empty = vec![SegmentSums::new(encoded.columns()); shape.sizes.len()];
    let chunks = encoded.map_chunks(|rows| {
        let mut sums = empty.clone();
        for row in rows.filter(|row| shape.placed[*row].is_within_radius) {
            let near = &shape.placed[row];
            let distance = f64::from(shape.decision_function.power_to_distance(near.power));
            let away = encoded.row_values(row).iter().zip(centre).map(|(x, c)| f64::from(*x) - c);
            sums[near.segment].add(away.chain([distance]));
        }
        sums
    });
    let mut all = empty;
    for chunk in chunks {
        all.iter_mut().zip(&chunk).for_each(|(sums, part)| sums.merge(part));
    }
    all.iter().map(|sums| sums.within(centre)).collect()
}

impl SegmentSums {
    fn new(columns: usize) -> Self {
        Self { rows: 0.0, first: vec![0.0; columns + 1], second: vec![0.0; columns + 1] }
    }

    fn add(&mut self, row: impl Iterator<Item = f64>) {
        self.rows += 1.0;
        for ((first, second), away) in self.first.iter_mut().zip(&mut self.second).zip(row) {
            *first += away;
            *second += away * away;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.first.iter_mut().zip(&other.first).for_each(|(mine, theirs)| *mine += theirs);
        self.second.iter_mut().zip(&other.second).for_each(|(mine, theirs)| *mine += theirs);
    }

    fn within(&self, centre: &[f64]) -> SegmentMoments {
        let rows = self.rows.max(1.0);
        let mut means: Vec<f64> = self.first.iter().map(|first| first / rows).collect();
        means.iter_mut().zip(centre).for_each(|(mean, centre)| *mean += centre);
        let pairs = self.first.iter().zip(&self.second);
        let mut deviations: Vec<f64> =
            pairs.map(|(first, second)| deviation(rows, *first, *second)).collect();
        // The last entry of each list is the distance.
        let distance_mean = means.pop().unwrap_or_default();
        let distance_deviation = deviations.pop().unwrap_or_default();
        SegmentMoments { means, deviations, distance_mean, distance_deviation }
    }
}

/// Sample standard deviation from the first and second sum about a common centre.
fn deviation(rows: f64, first: f64, second: f64) -> f64 {
    let about_mean = second - first * first / rows;
    let is_spread = about_mean > ROUNDING_SHARE * second;
    if is_spread { (about_mean / (rows - 1.0).max(1.0)).sqrt() } else { 0.0 }
}
