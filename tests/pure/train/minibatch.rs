//! Mini-batch k-means: equal steps to scikit-learn's, results as good, and its laws.

use std::collections::BTreeMap;

use ndarray::{Array2, Axis, Slice};
use proptest::prelude::*;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::clustering::kmeans;
use segmentd::domain::train::clustering::kmeans::minibatch;
use segmentd::domain::train::clustering::kmeans::minibatch::{
    MiniBatchKmeansSettings, MovingCentres,
};
use segmentd::domain::train::evaluation::external_indices::adjusted_rand;
use segmentd::domain::train::{EncodedDataset, TrainingError, TrainingSpec};
use serde::Deserialize;

use crate::feature::support::{data, rows};
use crate::model::support::{Quiet, normal, shop_features, shoppers, spec, train};
use crate::train::algorithms::{first_rows, named};

const SEEDS: std::ops::Range<u64> = 0..10;

#[derive(Deserialize)]
struct Golden {
    /// One letter a row of `minibatch_groups`.
    truth: String,
    steps: GoldenSteps,
    sets: BTreeMap<String, GoldenSet>,
    /// One per seed, for `minibatch_groups`.
    adjusted_rand: Vec<f64>,
}

#[derive(Deserialize)]
struct GoldenSteps {
    initial_rows: Vec<usize>,
    batch: usize,
    after: Vec<GoldenStep>,
}

#[derive(Deserialize)]
struct GoldenStep {
    centres: Vec<Vec<f64>>,
    counts: Vec<f64>,
}

#[derive(Deserialize)]
struct GoldenSet {
    clusters: usize,
    /// One per seed.
    inertia: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(data("golden/minibatch.json")).unwrap()).unwrap()
}

fn dataset(name: &str) -> EncodedDataset {
    let (_, rows) = rows(&format!("golden/{name}.csv.gz"));
    let columns = rows[0].len();
    let values = rows.iter().flat_map(|row| row.iter().map(|x| x.parse().unwrap())).collect();
    EncodedDataset::new(Array2::from_shape_vec((rows.len(), columns), values).unwrap())
}

fn some(labels: &[u32]) -> Vec<Option<u32>> {
    labels.iter().copied().map(Some).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

/// Sum of squared distances of the rows to their nearest centres.
fn inertia(rows: &Array2<f64>, centres: &Array2<f64>) -> f64 {
    let squared =
        |row: usize, centre: usize| (&rows.row(row) - &centres.row(centre)).mapv(|x| x * x).sum();
    (0..rows.nrows())
        .map(|row| {
            (0..centres.nrows()).map(|centre| squared(row, centre)).fold(f64::INFINITY, f64::min)
        })
        .sum()
}

#[test]
fn every_step_equals_scikit_learns_from_the_same_centres_and_batches() {
    let golden = golden().steps;
    let data = dataset("minibatch_groups");
    let all = first_rows(&data, data.rows());
    let mut centres = MovingCentres::new(all.select(Axis(0), &golden.initial_rows));
    assert_eq!(golden.after.len(), 12);
    for (step, after) in golden.after.iter().enumerate() {
        let rows = Slice::from(step * golden.batch..(step + 1) * golden.batch);
        let batch = all.slice_axis(Axis(0), rows).mapv(|x| x as f32);
        centres.update(&EncodedDataset::new(batch));
        let counts: Vec<f64> = centres.counts.iter().map(|count| *count as f64).collect();
        assert_eq!(counts, after.counts, "step {step}");
        for (x, wanted) in centres.centres.iter().zip(after.centres.iter().flatten()) {
            assert!((x - wanted).abs() <= 1e-9 * wanted.abs().max(1.0), "{x} is not {wanted}");
        }
    }
}

/// The tolerance is a hundredth: both end in local optima that depend on the seed.
#[test]
fn the_median_inertia_is_within_a_hundredth_of_scikit_learns() {
    for (name, golden) in golden().sets {
        let data = dataset(&name);
        let all = first_rows(&data, data.rows());
        let found = SEEDS.map(|seed| {
            let settings = MiniBatchKmeansSettings::default();
            let found = minibatch::fit(&data, golden.clusters, &settings, seed, &Quiet).unwrap();
            let measured = inertia(&all, &found.centres);
            assert!((found.inertia / measured - 1.0).abs() < 1e-9, "{name}: {measured}");
            found.inertia
        });
        let (found, theirs) = (median(found.collect()), median(golden.inertia));
        assert!(found <= 1.01 * theirs, "{name}: {found} is more than {theirs}");
    }
}

#[test]
fn known_groups_are_found_as_well_as_by_scikit_learn() {
    let golden = golden();
    let truth: Vec<Option<u32>> = golden.truth.bytes().map(|b| Some(u32::from(b - b'a'))).collect();
    let data = dataset("minibatch_groups");
    let found = SEEDS.map(|seed| {
        let found =
            minibatch::fit(&data, 12, &MiniBatchKmeansSettings::default(), seed, &Quiet).unwrap();
        adjusted_rand(&some(&found.labels), &truth)
    });
    let (found, theirs) = (median(found.collect()), median(golden.adjusted_rand));
    assert!(found >= theirs - 0.01, "{found} is less than {theirs}");
}

/// Twenty distant rows of ten thousand get a centre from the start, which is starved.
#[test]
fn starved_centres_move_to_the_other_rows() {
    let mut rng = RandomStream::new(5, 0);
    let rows = Array2::from_shape_fn((10_000, 1), |(row, _)| {
        (normal(&mut rng) + if row % 500 == 0 { 50.0 } else { 0.0 }) as f32
    });
    let data = EncodedDataset::new(rows);
    for seed in SEEDS {
        let smallest = |reassignment_ratio| {
            let settings = MiniBatchKmeansSettings {
                reassignment_ratio,
                ..MiniBatchKmeansSettings::default()
            };
            let labels = minibatch::fit(&data, 3, &settings, seed, &Quiet).unwrap().labels;
            let size = |cluster: u32| labels.iter().filter(|label| **label == cluster).count();
            (0..3).map(size).min().unwrap()
        };
        assert_eq!(smallest(0.0), 20, "seed {seed}");
        assert!(smallest(0.01) > 500, "seed {seed}");
    }
}

#[test]
fn a_spec_by_name_trains_a_model_that_separates_the_groups() {
    let chosen = r#"{"name": "mini_batch_kmeans", "batch_size": 256}"#;
    let asked = TrainingSpec { algorithms: vec![named(chosen), named("\"kmeans\"")], ..spec(4) };
    let rows = shoppers(2000, 3);
    let trained = train(asked, &shop_features(), &rows).unwrap();
    let board = &trained.report.leaderboard;
    let silhouette = |name: &str| {
        let entry = board.entries.iter().find(|entry| &*entry.algorithm == name).unwrap();
        entry.figures.silhouette.unwrap().value
    };
    let (ours, kmeans) = (silhouette("mini_batch_kmeans"), silhouette("kmeans"));
    assert!(ours >= kmeans - 0.01, "{ours} is less than {kmeans}");

    let wrong = r#"{"name": "mini_batch_kmeans", "batch_size": 0, "reassignment_ratio": 2}"#;
    let faults = TrainingSpec { algorithms: vec![named(wrong)], ..spec(4) }.check().unwrap_err();
    let faults: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "algorithms[0].batch_size: must be from 1 to 10000000, is 0",
            "algorithms[0].reassignment_ratio: must be from 0e0 to 1e0, is 2",
        ]
    );
}

/// Fewer positions than a sample is likely to contain.
#[test]
fn rare_positions_are_found_among_equal_rows() {
    let rows = Array2::from_shape_fn((20_000, 1), |(row, _)| row.saturating_sub(19_997) as f32);
    let data = EncodedDataset::new(rows);
    let settings = MiniBatchKmeansSettings { batch_size: 50, ..MiniBatchKmeansSettings::default() };
    let mut labels = minibatch::fit(&data, 3, &settings, 1, &Quiet).unwrap().labels;
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels, [0, 1, 2]);
    let refused = minibatch::fit(&data, 4, &settings, 1, &Quiet);
    assert!(matches!(refused, Err(TrainingError::TooFewDistinct { distinct: 3, segments: 4 })));
}

fn small() -> impl Strategy<Value = EncodedDataset> {
    (12_usize..80, 1_usize..4, any::<u64>()).prop_map(|(rows, columns, seed)| {
        let mut rng = RandomStream::new(seed, 0);
        EncodedDataset::new(Array2::from_shape_fn((rows, columns), |(row, _)| {
            (normal(&mut rng) + (row % 3) as f64 * 4.0) as f32
        }))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The first step with a batch of all rows is one Lloyd iteration.
    #[test]
    fn a_batch_of_all_rows_is_a_lloyd_iteration(data in small()) {
        let initial = first_rows(&data, 3);
        let mut centres = MovingCentres::new(initial.clone());
        let assigned = centres.update(&data);
        prop_assert_eq!(centres.counts.iter().sum::<u64>(), data.rows() as u64);
        prop_assert!((assigned.inertia - inertia(&first_rows(&data, data.rows()), &initial)).abs() < 1e-6);
        let lloyd = kmeans::run_lloyd(&data, initial, 1, 0.0, &Quiet).unwrap();
        for (x, wanted) in centres.centres.iter().zip(&lloyd.centres) {
            prop_assert!((x - wanted).abs() < 1e-9, "{} is not {}", x, wanted);
        }
    }

    /// Batches of other lengths give the same mean, while no row changes its centre: here,
    /// with one centre.
    #[test]
    fn one_centre_is_the_mean_of_all_its_rows(data in small(), length in 1_usize..20) {
        let all = first_rows(&data, data.rows());
        let mut centres = MovingCentres::new(first_rows(&data, 1));
        for batch in all.axis_chunks_iter(Axis(0), length) {
            centres.update(&EncodedDataset::new(batch.mapv(|x| x as f32)));
        }
        for (x, mean) in centres.centres.iter().zip(&all.mean_axis(Axis(0)).unwrap()) {
            prop_assert!((x - mean).abs() < 1e-9, "{} is not {}", x, mean);
        }
    }
}
