//! Reservoir sampling: size, order and equal chances.

use segmentd::domain::feature::{FeatureRow, FeatureValue};
use segmentd::domain::train::{RowReservoir, SampledCustomers, TrainingSpec};

fn kept(seed: u64, sample: Option<usize>, rows: u32) -> Vec<f64> {
    let mut gather =
        RowReservoir::new(&TrainingSpec { seed, sample, ..TrainingSpec::default() }, &[]);
    for row in 0..rows {
        gather.offer(FeatureRow(vec![FeatureValue::Number(f64::from(row))]).into());
    }
    let SampledCustomers { rows: kept, report, .. } = gather.finish();
    assert_eq!((report.seen, report.admitted), (u64::from(rows), u64::from(rows)));
    assert_eq!(report.kept, kept.len() as u64);
    assert_eq!(report.sampled, kept.len() < rows as usize);
    let number = |row: FeatureRow| match row.0[0] {
        FeatureValue::Number(number) => number,
        _ => unreachable!(),
    };
    kept.into_iter().map(number).collect()
}

#[test]
fn a_sample_has_its_size_and_the_order_of_the_rows() {
    assert_eq!(kept(1, None, 50), (0..50).map(f64::from).collect::<Vec<_>>());
    assert_eq!(kept(1, Some(50), 50), kept(2, None, 50));
    let sample = kept(1, Some(20), 1000);
    assert_eq!(sample.len(), 20);
    assert!(sample.is_sorted());
    assert_eq!(sample, kept(1, Some(20), 1000));
    assert_ne!(sample, kept(2, Some(20), 1000));
}

/// Over many seeds every row is drawn equally often: 400 of 2,000 times, within five
/// standard deviations of 18.
#[test]
fn every_row_has_the_same_chance() {
    let drawn: Vec<f64> = (0..2000).flat_map(|seed| kept(seed, Some(10), 50)).collect();
    for row in kept(0, None, 50) {
        let times = drawn.iter().filter(|drawn| **drawn == row).count();
        assert!((310..=490).contains(&times), "row {row}: {times}");
    }
}
