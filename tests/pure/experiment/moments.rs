//! Moments in one pass equal those in two passes, and merge in any order.

use proptest::prelude::*;
use segmentd::domain::experiment::analysis::DifferentShapes;
use segmentd::domain::experiment::moments::MomentColumn;
use segmentd::domain::experiment::{CustomerOutcome, MetricMoments, MomentTable};

use crate::experiment::support::moments;

const COLUMNS: [MomentColumn; 3] =
    [MomentColumn::Metric, MomentColumn::Denominator, MomentColumn::Covariate];

fn two_pass_covariance(rows: &[[f64; 3]], first: usize, second: usize) -> f64 {
    let count = rows.len() as f64;
    let mean = |column: usize| rows.iter().map(|row| row[column]).sum::<f64>() / count;
    let (a, b) = (mean(first), mean(second));
    rows.iter().map(|row| (row[first] - a) * (row[second] - b)).sum::<f64>() / (count - 1.0)
}

fn assert_equal(found: &MetricMoments, expected: &MetricMoments) {
    assert_eq!(found.customers(), expected.customers());
    for first in COLUMNS {
        assert!((found.mean(first) - expected.mean(first)).abs() < 1e-9);
        for second in COLUMNS {
            let error = found.covariance(first, second) - expected.covariance(first, second);
            assert!(error.abs() < 1e-7, "{error}");
        }
    }
}

proptest! {
    #[test]
    fn one_pass_equals_two_passes_and_parts_merge(
        rows in prop::collection::vec(prop::array::uniform3(-1e3..1e3_f64), 2..60),
        cuts in prop::array::uniform2(0..60_usize),
    ) {
        let all = moments(&rows);
        for first in COLUMNS {
            for second in COLUMNS {
                let expected = two_pass_covariance(&rows, first as usize, second as usize);
                let found = all.covariance(first, second);
                prop_assert!((found - expected).abs() < 1e-7, "{found} is not {expected}");
            }
        }
        let [a, b] = cuts.map(|cut| cut.min(rows.len()));
        let parts = [&rows[..a.min(b)], &rows[a.min(b)..a.max(b)], &rows[a.max(b)..]].map(moments);
        let mut forward = MetricMoments::default();
        let mut backward = MetricMoments::default();
        for part in &parts {
            forward.merge(part);
        }
        for part in parts.iter().rev() {
            backward.merge(part);
        }
        assert_equal(&forward, &all);
        assert_equal(&backward, &all);
    }
}

/// A mean of a billion with a deviation of one: sums of squares would lose all digits.
#[test]
fn a_large_mean_costs_no_precision() {
    let rows: Vec<[f64; 3]> = (0..1_000).map(|row| [1e9 + f64::from(row % 2), 1.0, 0.0]).collect();
    let variance = moments(&rows).covariance(MomentColumn::Metric, MomentColumn::Metric);
    assert!((variance - 0.25 * 1_000.0 / 999.0).abs() < 1e-7, "{variance}");
    assert_eq!(moments(&rows).standard_deviation(), variance.sqrt());
}

#[test]
fn tables_merge_by_cell() {
    let mut first = MomentTable::new(2, 3);
    let mut second = MomentTable::new(2, 3);
    first.cell_mut(0, 2).unwrap().observe(&CustomerOutcome::new(1.0, 0.0));
    second.cell_mut(0, 2).unwrap().observe(&CustomerOutcome::new(3.0, 0.0));
    second.cell_mut(0, 1).unwrap().observe(&CustomerOutcome::new(8.0, 0.0));
    first.merge(&second).unwrap();
    assert_eq!(first.cell(0, 2).unwrap().mean(MomentColumn::Metric), 2.0);
    assert_eq!(first.variation_total(0).mean(MomentColumn::Metric), 4.0);
    assert_eq!(first.variation_total(1).customers(), 0);
    assert!(first.cell(2, 0).is_none() && first.cell(0, 3).is_none());
    assert_eq!(first.merge(&MomentTable::new(3, 2)), Err(DifferentShapes));
}
