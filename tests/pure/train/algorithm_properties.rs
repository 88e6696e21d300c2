//! Properties of every clustering algorithm: edge cases, invariances, independence of the
//! number of threads.

use ndarray::Array2;
use proptest::prelude::*;
use segmentd::domain::fault::ValidationFaults;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::clustering::gaussian_mixture::GaussianMixtureSettings;
use segmentd::domain::train::clustering::kmeans::kmedians;
use segmentd::domain::train::clustering::{gaussian_mixture, ward};
use segmentd::domain::train::{ClusteringAlgorithm, EncodedDataset, TrainingError};

use crate::model::support::{Quiet, normal};
use crate::train::algorithms::{agreement, first_rows, generated, named, renamed};

/// Three groups, far apart, of 60, 40 and 30 rows.
fn three_groups() -> EncodedDataset {
    let mut rng = RandomStream::new(5, 0);
    let group = |row: usize| {
        if row < 60 {
            0.0
        } else if row < 100 {
            20.0
        } else {
            45.0
        }
    };
    EncodedDataset::new(Array2::from_shape_fn((130, 3), |(row, _)| {
        (group(row) + normal(&mut rng)) as f32
    }))
}

/// The algorithms that take the number of segments.
fn counted() -> Vec<ClusteringAlgorithm> {
    let full = named(r#"{"name": "gaussian_mixture", "covariance": "full"}"#);
    ClusteringAlgorithm::all()
        .into_iter()
        .chain([full])
        .filter(|a| !a.finds_segment_count())
        .collect()
}

#[test]
fn separated_groups_are_found_by_every_algorithm() {
    let data = three_groups();
    let expected = "a".repeat(60) + &"b".repeat(40) + &"c".repeat(30);
    let density = [
        named(r#"{"name": "hdbscan", "min_cluster_size": 20, "min_samples": 3}"#),
        named(r#"{"name": "dbscan", "eps": 4.0}"#),
    ];
    for algorithm in counted().into_iter().chain(density) {
        let found = algorithm.fit_with_diagnostics(&data, 3, 7, &Quiet).unwrap();
        let share = agreement(&found.clusters.labels, &expected);
        assert!(share >= 0.97, "{}: {share}", algorithm.name());
        assert_eq!(found.clusters.segments(), 3, "{}", algorithm.name());
        assert!(found.fidelity >= 0.97, "{}: {}", algorithm.name(), found.fidelity);
    }
}

#[test]
fn one_segment() {
    for algorithm in counted() {
        let found = algorithm.fit_with_diagnostics(&three_groups(), 1, 0, &Quiet).unwrap();
        assert_eq!(found.clusters.labels, [Some(0); 130], "{}", algorithm.name());
        assert_eq!(found.fidelity, 1.0);
    }
}

#[test]
fn as_many_segments_as_rows() {
    let data = EncodedDataset::new(Array2::from_shape_fn((6, 2), |(row, column)| {
        (row * row + column) as f32 * 10.0
    }));
    for algorithm in counted() {
        let mut labels = algorithm.fit(&data, 6, 0, &Quiet).unwrap().labels;
        labels.sort_unstable();
        let name = algorithm.name();
        assert_eq!(labels, (0..6).map(Some).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn duplicates_are_no_reason_for_more_segments() {
    let data = EncodedDataset::new(Array2::from_shape_fn((40, 2), |(row, _)| (row % 2) as f32));
    for algorithm in counted() {
        let two = algorithm.fit(&data, 2, 0, &Quiet).unwrap();
        assert_eq!(two.segments(), 2, "{}", algorithm.name());
        let refused = algorithm.fit(&data, 3, 0, &Quiet);
        let wanted =
            matches!(refused, Err(TrainingError::TooFewDistinct { distinct: 2, segments: 3 }));
        assert!(wanted, "{}: {refused:?}", algorithm.name());
    }
}

#[test]
fn a_constant_column_changes_nothing() {
    let data = three_groups();
    let wider = EncodedDataset::new(Array2::from_shape_fn((130, 4), |(row, column)| {
        if column < 3 { data.row(row)[column] } else { 2.5 }
    }));
    for algorithm in counted() {
        let name = algorithm.name();
        let found = algorithm.fit(&wider, 3, 1, &Quiet).unwrap().labels;
        assert_eq!(
            renamed(&found),
            renamed(&algorithm.fit(&data, 3, 1, &Quiet).unwrap().labels),
            "{name}"
        );
    }
}

#[test]
fn one_row() {
    let data = EncodedDataset::new(Array2::from_elem((1, 3), 1.5));
    for algorithm in counted() {
        let found = algorithm.fit(&data, 1, 0, &Quiet).unwrap();
        assert_eq!(found.labels, [Some(0)], "{}", algorithm.name());
    }
    for name in ["\"dbscan\"", "\"hdbscan\""] {
        let refused = named(name).fit(&data, 1, 0, &Quiet);
        assert!(
            matches!(refused, Err(TrainingError::AllNoise { rows: 1, .. })),
            "{name}: {refused:?}"
        );
    }
}

#[test]
fn noise_only_is_an_error() {
    let data = EncodedDataset::new(Array2::from_shape_fn((50, 1), |(row, _)| (row * row) as f32));
    for algorithm in [r#"{"name": "dbscan", "eps": 0.1}"#, "\"hdbscan\""] {
        let refused = named(algorithm).fit(&data, 2, 0, &Quiet).unwrap_err();
        assert!(refused.to_string().contains("all 50 rows are noise"), "{refused}");
    }
}

#[test]
fn nan_is_refused_by_every_algorithm() {
    let mut matrix = Array2::from_elem((20, 2), 1.0);
    matrix[[7, 1]] = f32::NAN;
    let data = EncodedDataset::new(matrix);
    for algorithm in ClusteringAlgorithm::all() {
        let refused = algorithm.fit(&data, 2, 0, &Quiet);
        let wanted = matches!(refused, Err(TrainingError::NotFinite { row: 7, column: 1 }));
        assert!(wanted, "{}: {refused:?}", algorithm.name());
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let data = generated("sheared");
    let full = named(r#"{"name": "gaussian_mixture", "covariance": "full"}"#);
    for algorithm in ClusteringAlgorithm::all().into_iter().chain([full]) {
        let runs = [1, 2, 4].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| algorithm.fit_with_diagnostics(&data, 4, 3, &Quiet).unwrap())
        });
        assert_eq!(runs[0], runs[1], "{}", algorithm.name());
        assert_eq!(runs[0], runs[2], "{}", algorithm.name());
    }
}

#[test]
fn a_sample_represents_all_rows() {
    let data = generated("sheared");
    let whole = named(r#"{"name": "ward"}"#).fit(&data, 5, 0, &Quiet).unwrap();
    let cells = named(r#"{"name": "ward", "max_rows": 1000, "cells": 200}"#);
    let found = cells.fit_with_diagnostics(&data, 5, 0, &Quiet).unwrap();
    assert_eq!(found.clusters.segments(), whole.segments());
    assert_eq!(found.tree.unwrap().leaves, 5);
    for name in ["dbscan", "hdbscan", "consensus"] {
        let sampled = named(&format!(r#"{{"name": "{name}", "max_rows": 700}}"#));
        assert_eq!(sampled.fit(&data, 4, 0, &Quiet).unwrap().labels.len(), data.rows(), "{name}");
    }
}

#[test]
fn settings_are_checked_by_name() {
    assert_eq!(named("\"ward\""), named(r#"{"name": "ward"}"#));
    for algorithm in ClusteringAlgorithm::all() {
        let written = serde_json::to_string(&algorithm).unwrap();
        assert_eq!(named(&written), algorithm);
        assert!(written.contains(&format!(r#""name":"{}""#, algorithm.name())));
        let mut faults = ValidationFaults::default();
        algorithm.check("algorithms[0]", &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
    }
    let wrong = named(r#"{"name": "hdbscan", "min_cluster_size": 1, "min_samples": 0}"#);
    let mut faults = ValidationFaults::default();
    wrong.check("algorithms[2]", &mut faults);
    let faults: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "algorithms[2].min_cluster_size: must be from 2 to 1000000, is 1",
            "algorithms[2].min_samples: must be from 1 to 100000, is 0",
        ]
    );
    let unknown =
        |json: &str| serde_json::from_str::<ClusteringAlgorithm>(json).unwrap_err().to_string();
    assert!(unknown(r#"{"name": "ward", "k": 3}"#).contains("unknown field `k`"));
    assert!(unknown("\"hdbscam\"").contains("unknown variant `hdbscam`"));
}

#[test]
fn a_median_is_not_moved_by_an_extreme_row() {
    let data = EncodedDataset::new(ndarray::arr2(&[[0.0], [1.0], [2.0], [3.0], [1000.0]]));
    let found = kmedians::fit(&data, 1, &kmedians::KmediansSettings::default(), 0, &Quiet).unwrap();
    assert_eq!(found.prototypes[[0, 0]], 2.0);
}

fn small() -> impl Strategy<Value = EncodedDataset> {
    (8_usize..60, 1_usize..4, any::<u64>()).prop_map(|(rows, columns, seed)| {
        let mut rng = RandomStream::new(seed, 0);
        EncodedDataset::new(Array2::from_shape_fn((rows, columns), |(row, _)| {
            (normal(&mut rng) + (row % 3) as f64 * 4.0) as f32
        }))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Except for the effect of the variance floor.
    #[test]
    fn em_never_lowers_the_likelihood(data in small(), is_full in any::<bool>()) {
        let covariance = if is_full { gaussian_mixture::CovarianceType::Full } else { gaussian_mixture::CovarianceType::Diagonal };
        let settings = GaussianMixtureSettings { covariance, floor: 1e-9, tolerance: 0.0, max_iterations: 30, ..GaussianMixtureSettings::default() };
        if let Ok(found) = gaussian_mixture::fit(&data, 2, &settings, 0, &Quiet) {
            for pair in found.log_likelihood_history.windows(2) {
                prop_assert!(pair[1] >= pair[0] - 1e-6, "{} after {}", pair[1], pair[0]);
            }
        }
    }

    #[test]
    fn wards_heights_never_fall_and_cuts_are_nested(data in small()) {
        let points = first_rows(&data, data.rows());
        let tree = ward::build_hierarchy(&points, &vec![1.0; data.rows()], &Quiet).unwrap();
        prop_assert_eq!(tree.merges.len(), data.rows() - 1);
        prop_assert_eq!(tree.merges[tree.merges.len() - 1].size, data.rows() as f64);
        prop_assert!(tree.merges.is_sorted_by(|x, y| x.height <= y.height));
        let (coarse, fine) = (tree.cut(3), tree.cut(6));
        prop_assert_eq!(fine.iter().max(), Some(&5));
        for a in 0..fine.len() {
            for b in 0..a {
                prop_assert!(fine[a] != fine[b] || coarse[a] == coarse[b]);
            }
        }
    }
}
