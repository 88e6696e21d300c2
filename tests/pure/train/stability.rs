//! Cluster stability: real groups are stable, spurious ones are not.

use std::collections::BTreeSet;

use ndarray::Array2;
use segmentd::domain::feature::{FeatureRow, FeatureValue};
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::clustering::kmeans::KmeansSettings;
use segmentd::domain::train::data::outcomes::OutcomeColumns;
use segmentd::domain::train::data::split::RowSplit;
use segmentd::domain::train::evaluation::stability::{RowSlices, StabilityReport, StabilityTrials};
use segmentd::domain::train::selection::candidates::{ComparisonData, compare_candidates};
use segmentd::domain::train::{ClusteringAlgorithm, EncodedDataset, SegmentCount, TrainingSpec};

use crate::model::support::{Quiet, normal, shop_features, shoppers};

/// Three round groups; `apart` is the distance between centres.
fn groups(apart: f64, rows: usize) -> EncodedDataset {
    let mut rng = RandomStream::new(2, 0);
    EncodedDataset::new(Array2::from_shape_fn((rows, 2), |(row, column)| {
        let centre = if row % 3 == column + 1 { apart } else { 0.0 };
        (centre + normal(&mut rng)) as f32
    }))
}

fn stability(data: &EncodedDataset, segments: usize, slices: &[RowSlices]) -> StabilityReport {
    let spec = TrainingSpec {
        segments: SegmentCount::Exact(segments),
        algorithms: vec![ClusteringAlgorithm::Kmeans(KmeansSettings::default())],
        starts: 4,
        stability: StabilityTrials { bootstraps: 10, ..StabilityTrials::default() },
        ..TrainingSpec::default()
    };
    let none = EncodedDataset::new(Array2::zeros((0, 2)));
    let field = ComparisonData {
        train: data,
        validation: &none,
        slices,
        outcomes: OutcomeColumns::default(),
        baseline: None,
    };
    let chosen = compare_candidates(&field, &spec, &Quiet).unwrap();
    chosen.leaderboard.entries[0].figures.stability.clone().unwrap()
}

#[test]
fn real_groups_are_stable() {
    let found = stability(&groups(12.0, 600), 3, &[]);
    assert!(found.mean_jaccard.unwrap() > 0.99, "{found:?}");
    assert!(found.seeds.unwrap().least > 0.99);
    assert!(found.kept_under_noise.unwrap() > 0.99);
}

#[test]
fn spurious_groups_are_not_stable() {
    let found = stability(&groups(0.0, 600), 7, &[]);
    assert!(found.mean_jaccard.unwrap() < 0.75, "{found:?}");
    assert!(found.kept_under_noise.unwrap() < 0.99);
}

#[test]
fn a_slice_with_the_same_segments_agrees() {
    let rows: Vec<FeatureRow> = (0..600)
        .map(|row| {
            let country = if row < 300 { "at" } else { "de" };
            FeatureRow(vec![FeatureValue::Category(country.into())])
        })
        .collect();
    let slices = RowSlices::by_feature("country", 0, &rows.iter().collect::<Vec<_>>());
    let found = stability(&groups(12.0, 600), 3, &[slices]);
    let named: Vec<(&str, usize)> =
        found.slices.iter().map(|slice| (&*slice.value, slice.rows)).collect();
    assert_eq!(named, [("at", 300), ("de", 300)]);
    assert!(found.slices.iter().all(|slice| slice.adjusted_rand > 0.99));
}

#[test]
fn every_row_is_in_one_fold_and_the_folds_are_alike() {
    let rows = shoppers(3000, 4);
    let draw = |seed| RowSplit::draw(&rows, 0.2, 0.25, &mut RandomStream::new(seed, 0));
    let split = draw(1);
    assert_eq!(split, draw(1));
    assert_ne!(split, draw(2));
    assert_eq!((split.train.len(), split.validation.len(), split.held_out.len()), (1800, 600, 600));
    let all: BTreeSet<usize> = split.fitted.iter().chain(&split.held_out).copied().collect();
    assert_eq!(all.len(), 3000);

    let check = split.check(&shop_features(), &rows);
    let worst = |check: &[f64]| check.iter().copied().fold(0.0, f64::max);
    let gaps = |split: &RowSplit| {
        let features = split.check(&shop_features(), &rows).features;
        worst(&features.iter().map(|feature| feature.ks).collect::<Vec<_>>())
    };
    assert!(check.largest_mean_difference.unwrap() < 0.1, "{check:?}");
    assert_eq!(check.largest_ks, Some(gaps(&split)));
    // A split along one feature is reported as unstable.
    let mut order: Vec<usize> = (0..3000).collect();
    order.sort_by(|a, b| spend(&rows[*a]).total_cmp(&spend(&rows[*b])));
    let (low, high) = order.split_at(1500);
    let crooked = RowSplit {
        fitted: low.to_vec(),
        train: low.to_vec(),
        validation: vec![],
        held_out: high.to_vec(),
    };
    assert_eq!(gaps(&crooked), 1.0);
}

fn spend(row: &FeatureRow) -> f64 {
    match row.0[0] {
        FeatureValue::Number(number) => number,
        _ => 0.0,
    }
}
