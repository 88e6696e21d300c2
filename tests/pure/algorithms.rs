//! Every algorithm equals scikit-learn's from the same start, keeps its laws,
//! and is the same for any number of threads.

use std::collections::BTreeMap;

use ndarray::{Array2, Axis};
use proptest::prelude::*;
use segmentd::domain::fault::Faults;
use segmentd::domain::stats::Rng;
use segmentd::domain::train::density::{self, Dbscan, Hdbscan};
use segmentd::domain::train::gmm::{self, Gmm};
use segmentd::domain::train::mixture::{Mixture, Spread};
use segmentd::domain::train::{
    Algorithm, Clusters, Dataset, FitError, bisect, hierarchy, medians, pca, whiten,
};
use serde::Deserialize;

use crate::feature_support::{data, rows};
use crate::model_support::{Quiet, normal};

#[derive(Deserialize)]
struct Golden {
    clusters: usize,
    diag: GoldenMixture,
    full: GoldenMixture,
    ward: GoldenWard,
    density: GoldenDensity,
    bisecting_inertia: f64,
    axes: GoldenAxes,
}

#[derive(Deserialize)]
struct GoldenMixture {
    initial_rows: Vec<usize>,
    shares: Vec<f64>,
    means: Vec<Vec<f64>>,
    covariances: Vec<Vec<f64>>,
    log_likelihood: f64,
    bic: f64,
    aic: f64,
    iterations: usize,
    labels: String,
}

#[derive(Deserialize)]
struct GoldenWard {
    heights: Vec<f64>,
    labels_8: String,
}

#[derive(Deserialize)]
struct GoldenDensity {
    eps: f64,
    dbscan: String,
    hdbscan: String,
    hdbscan_untied: String,
}

#[derive(Deserialize)]
struct GoldenAxes {
    components: Vec<Vec<f64>>,
    variances: Vec<f64>,
    shares: Vec<f64>,
    kept_at_half: usize,
    shrinkage: f64,
    mahalanobis: Vec<f64>,
}

fn golden() -> BTreeMap<String, Golden> {
    serde_json::from_slice(&std::fs::read(data("golden/algorithms.json")).unwrap()).unwrap()
}

fn generated(name: &str) -> Dataset {
    let (_, rows) = rows(&format!("golden/kmeans_{name}.csv.gz"));
    let columns = rows[0].len();
    let values = rows.iter().flat_map(|row| row.iter().map(|x| x.parse().unwrap())).collect();
    Dataset::new(Array2::from_shape_vec((rows.len(), columns), values).unwrap())
}

fn first_rows(data: &Dataset, rows: usize) -> Array2<f64> {
    Array2::from_shape_fn((rows, data.columns()), |(row, column)| f64::from(data.row(row)[column]))
}

/// Three groups, far apart, of 60, 40 and 30 rows.
fn three_groups() -> Dataset {
    let mut rng = Rng::new(5, 0);
    let group = |row: usize| {
        if row < 60 {
            0.0
        } else if row < 100 {
            20.0
        } else {
            45.0
        }
    };
    Dataset::new(Array2::from_shape_fn((130, 3), |(row, _)| (group(row) + normal(&mut rng)) as f32))
}

fn named(json: &str) -> Algorithm {
    serde_json::from_str(json).unwrap()
}

/// Those that find a given number of segments.
fn counted() -> Vec<Algorithm> {
    let full = named(r#"{"name": "gaussian_mixture", "covariance": "full"}"#);
    Algorithm::all().into_iter().chain([full]).filter(|a| !a.finds_number()).collect()
}

/// Share of equal labels when one set's names are those of the other in order
/// of first appearance.
fn agreement(found: &[Option<u32>], golden: &str) -> f64 {
    let golden: Vec<Option<u32>> =
        golden.bytes().map(|b| (b != b'.').then(|| u32::from(b - b'a'))).collect();
    assert_eq!(found.len(), golden.len());
    let (found, golden) = (renamed(found), renamed(&golden));
    found.iter().zip(&golden).filter(|(a, b)| a == b).count() as f64 / found.len() as f64
}

fn renamed(labels: &[Option<u32>]) -> Vec<Option<usize>> {
    let mut seen: Vec<u32> = Vec::new();
    let number = |label: u32| {
        seen.iter().position(|other| *other == label).unwrap_or_else(|| {
            seen.push(label);
            seen.len() - 1
        })
    };
    let mut number = number;
    labels.iter().map(|label| label.map(&mut number)).collect()
}

fn some(labels: &[u32]) -> Vec<Option<u32>> {
    labels.iter().copied().map(Some).collect()
}

fn assert_near(found: f64, wanted: f64, tolerance: f64, what: &str) {
    let off = (found - wanted).abs();
    assert!(off <= tolerance * wanted.abs().max(1.0), "{what}: {found} is not {wanted}");
}

/// The served segment of a row, by the rule of `Clusters`.
fn served(clusters: &Clusters, data: &Dataset, row: usize) -> Option<u32> {
    let distance = |place: usize| {
        let segment = clusters.segment_of[place] as usize;
        let squared: f64 = (0..data.columns())
            .map(|column| {
                let difference =
                    f64::from(data.row(row)[column]) - clusters.prototypes[[place, column]];
                let weight = clusters.weights.as_ref().map_or(1.0, |w| w[[segment, column]]);
                weight * difference * difference
            })
            .sum();
        (squared + clusters.offsets.as_ref().map_or(0.0, |offsets| offsets[place]), squared)
    };
    let best = (0..clusters.segment_of.len())
        .min_by(|a, b| distance(*a).0.total_cmp(&distance(*b).0))
        .unwrap();
    let segment = clusters.segment_of[best];
    let reach = clusters.reach.as_ref().map_or(f64::INFINITY, |reach| reach[segment as usize]);
    (distance(best).1.sqrt() <= reach).then_some(segment)
}

#[test]
fn from_the_same_parameters_mixtures_equal_scikit_learns() {
    for (name, golden) in golden() {
        let data = generated(&name);
        for (kind, golden) in [("diag", &golden.diag), ("full", &golden.full)] {
            let name = format!("{name} {kind}");
            let k = golden.shares.len();
            let all = first_rows(&data, data.rows());
            let variances = all.var_axis(Axis(0), 0.0);
            let initial = Mixture {
                shares: vec![1.0 / k as f64; k],
                means: all.select(Axis(0), &golden.initial_rows),
                spread: if kind == "diag" {
                    Spread::Diagonal(Array2::from_shape_fn((k, all.ncols()), |at| variances[at.1]))
                } else {
                    Spread::Full(vec![Array2::from_diag(&variances); k])
                },
            };
            let found = gmm::improve(&data, initial, &Gmm::default(), &Quiet).unwrap();
            assert!(found.converged);
            assert_eq!(found.course.len(), golden.iterations, "{name}");
            assert_near(found.log_likelihood, golden.log_likelihood, 1e-9, &name);
            let (price, deviance) = (found.parameters() as f64, -2.0 * found.log_likelihood);
            assert_near(deviance + price * (data.rows() as f64).ln(), golden.bic, 1e-9, &name);
            assert_near(deviance + 2.0 * price, golden.aic, 1e-9, &name);
            assert_near(agreement(&some(&found.labels), &golden.labels), 1.0, 0.0, &name);
            for component in 0..k {
                assert_near(found.mixture.shares[component], golden.shares[component], 1e-7, &name);
                for (x, wanted) in
                    found.mixture.means.row(component).iter().zip(&golden.means[component])
                {
                    assert_near(*x, *wanted, 1e-7, &name);
                }
                let spread: Vec<f64> = match &found.mixture.spread {
                    Spread::Diagonal(variances) => variances.row(component).to_vec(),
                    Spread::Full(covariances) => covariances[component].iter().copied().collect(),
                };
                for (x, wanted) in spread.iter().zip(&golden.covariances[component]) {
                    assert_near(*x, *wanted, 1e-6, &name);
                }
            }
        }
    }
}

#[test]
fn a_diagonal_mixture_is_served_exactly() {
    let data = generated("blobs");
    let clusters = named("\"gaussian_mixture\"").fit(&data, 6, 1, &Quiet).unwrap();
    for row in 0..data.rows() {
        assert_eq!(served(&clusters, &data, row), clusters.labels[row]);
    }
}

#[test]
fn wards_heights_and_cuts_equal_scipys() {
    for (name, golden) in golden() {
        let points = first_rows(&generated(&name), golden.ward.heights.len() + 1);
        let tree = hierarchy::ward(&points, &vec![1.0; points.nrows()], &Quiet).unwrap();
        for (merge, height) in tree.merges.iter().zip(&golden.ward.heights) {
            assert_near(merge.height, *height, 1e-9, &name);
        }
        assert_near(agreement(&some(&tree.cut(8)), &golden.ward.labels_8), 1.0, 0.0, &name);
    }
}

#[test]
fn dbscan_equals_scikit_learns() {
    for (name, golden) in golden() {
        let settings =
            Dbscan { eps: Some(golden.density.eps), min_samples: 10, ..Dbscan::default() };
        let found = density::dbscan(&generated(&name), &settings, 0, &Quiet).unwrap();
        assert_near(agreement(&found, &golden.density.dbscan), 1.0, 0.0, &name);
    }
}

/// With `min_samples` 1 no distances are equal, and every label is; otherwise
/// those of a few rows depend on how ties are broken (see `density`).
#[test]
fn hdbscan_equals_scikit_learns_but_for_ties() {
    for (name, golden) in golden() {
        let data = generated(&name);
        let settings = Hdbscan { min_cluster_size: 40, min_samples: Some(1), ..Hdbscan::default() };
        let found = density::hdbscan(&data, &settings, 0, &Quiet).unwrap();
        assert_near(agreement(&found, &golden.density.hdbscan_untied), 1.0, 0.0, &name);
        let settings = Hdbscan { min_cluster_size: 40, ..Hdbscan::default() };
        let found = density::hdbscan(&data, &settings, 0, &Quiet).unwrap();
        let share = agreement(&found, &golden.density.hdbscan);
        assert!(share >= 0.99, "{name}: {share} of the labels agree");
    }
}

#[test]
fn bisecting_is_as_good_as_scikit_learns() {
    for (name, golden) in golden() {
        let data = generated(&name);
        let labels =
            bisect::fit(&data, golden.clusters, &bisect::Bisecting::default(), 1, &Quiet).unwrap();
        let all = first_rows(&data, data.rows());
        let inertia: f64 = (0..golden.clusters as u32)
            .map(|label| {
                let own: Vec<usize> = (0..labels.len()).filter(|r| labels[*r] == label).collect();
                let own = all.select(Axis(0), &own);
                own.var_axis(Axis(0), 0.0).sum() * own.nrows() as f64
            })
            .sum();
        assert!(inertia <= golden.bisecting_inertia * 1.02, "{name}: {inertia}");
    }
}

#[test]
fn axes_equal_scikit_learns() {
    for (name, golden) in golden() {
        let data = generated(&name);
        let golden = golden.axes;
        let found = pca::fit(&data, 0.9);
        assert_eq!(found.shares.len(), golden.shares.len(), "{name}");
        assert_eq!(pca::fit(&data, 0.5).shares.len(), golden.kept_at_half, "{name}");
        for axis in 0..golden.shares.len() {
            assert_near(found.variances[axis], golden.variances[axis], 1e-9, &name);
            assert_near(found.shares[axis], golden.shares[axis], 1e-9, &name);
            for (x, wanted) in found.axes.matrix.row(axis).iter().zip(&golden.components[axis]) {
                assert_near(*x, *wanted, 1e-8, &name);
            }
        }
        let white = whiten::fit(&data);
        assert_near(white.shrinkage, golden.shrinkage, 1e-9, &name);
        let projection = white.axes.projection(false).unwrap();
        for (row, wanted) in golden.mahalanobis.iter().enumerate() {
            let mut image = vec![0.0; data.columns()];
            projection.apply(data.row(row).as_slice().unwrap(), &mut image);
            let squared = image.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            assert_near(squared, *wanted, 1e-5, &name);
        }
    }
}

#[test]
fn groups_that_lie_apart_are_found_by_all() {
    let data = three_groups();
    let expected = "a".repeat(60) + &"b".repeat(40) + &"c".repeat(30);
    let density = [
        named(r#"{"name": "hdbscan", "min_cluster_size": 20, "min_samples": 3}"#),
        named(r#"{"name": "dbscan", "eps": 4.0}"#),
    ];
    for algorithm in counted().into_iter().chain(density) {
        let found = algorithm.find(&data, 3, 7, &Quiet).unwrap();
        let share = agreement(&found.clusters.labels, &expected);
        assert!(share >= 0.97, "{}: {share}", algorithm.name());
        assert_eq!(found.clusters.segments(), 3, "{}", algorithm.name());
        assert!(found.fidelity >= 0.97, "{}: {}", algorithm.name(), found.fidelity);
    }
}

#[test]
fn one_segment() {
    for algorithm in counted() {
        let found = algorithm.find(&three_groups(), 1, 0, &Quiet).unwrap();
        assert_eq!(found.clusters.labels, [Some(0); 130], "{}", algorithm.name());
        assert_eq!(found.fidelity, 1.0);
    }
}

#[test]
fn as_many_segments_as_rows() {
    let data = Dataset::new(Array2::from_shape_fn((6, 2), |(row, column)| {
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
    let data = Dataset::new(Array2::from_shape_fn((40, 2), |(row, _)| (row % 2) as f32));
    for algorithm in counted() {
        let two = algorithm.fit(&data, 2, 0, &Quiet).unwrap();
        assert_eq!(two.segments(), 2, "{}", algorithm.name());
        let refused = algorithm.fit(&data, 3, 0, &Quiet);
        let wanted = matches!(refused, Err(FitError::TooFewDistinct { distinct: 2, segments: 3 }));
        assert!(wanted, "{}: {refused:?}", algorithm.name());
    }
}

#[test]
fn a_constant_column_changes_nothing() {
    let data = three_groups();
    let wider = Dataset::new(Array2::from_shape_fn((130, 4), |(row, column)| {
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
    let data = Dataset::new(Array2::from_elem((1, 3), 1.5));
    for algorithm in counted() {
        let found = algorithm.fit(&data, 1, 0, &Quiet).unwrap();
        assert_eq!(found.labels, [Some(0)], "{}", algorithm.name());
    }
    for name in ["\"dbscan\"", "\"hdbscan\""] {
        let refused = named(name).fit(&data, 1, 0, &Quiet);
        assert!(matches!(refused, Err(FitError::AllNoise { rows: 1 })), "{name}: {refused:?}");
    }
}

#[test]
fn all_noise_is_an_error_that_says_so() {
    let data = Dataset::new(Array2::from_shape_fn((50, 1), |(row, _)| (row * row) as f32));
    for algorithm in [r#"{"name": "dbscan", "eps": 0.1}"#, "\"hdbscan\""] {
        let refused = named(algorithm).fit(&data, 2, 0, &Quiet).unwrap_err();
        assert!(refused.to_string().contains("all 50 rows are noise"), "{refused}");
    }
}

#[test]
fn nan_is_refused_by_all() {
    let mut matrix = Array2::from_elem((20, 2), 1.0);
    matrix[[7, 1]] = f32::NAN;
    let data = Dataset::new(matrix);
    for algorithm in Algorithm::all() {
        let refused = algorithm.fit(&data, 2, 0, &Quiet);
        let wanted = matches!(refused, Err(FitError::NotFinite { row: 7, column: 1 }));
        assert!(wanted, "{}: {refused:?}", algorithm.name());
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let data = generated("sheared");
    let full = named(r#"{"name": "gaussian_mixture", "covariance": "full"}"#);
    for algorithm in Algorithm::all().into_iter().chain([full]) {
        let runs = [1, 2, 4].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| algorithm.find(&data, 4, 3, &Quiet).unwrap())
        });
        assert_eq!(runs[0], runs[1], "{}", algorithm.name());
        assert_eq!(runs[0], runs[2], "{}", algorithm.name());
    }
}

#[test]
fn a_sample_stands_for_all_rows() {
    let data = generated("sheared");
    let whole = named(r#"{"name": "ward"}"#).fit(&data, 5, 0, &Quiet).unwrap();
    let cells = named(r#"{"name": "ward", "max_rows": 1000, "cells": 200}"#);
    let found = cells.find(&data, 5, 0, &Quiet).unwrap();
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
    for algorithm in Algorithm::all() {
        let written = serde_json::to_string(&algorithm).unwrap();
        assert_eq!(named(&written), algorithm);
        assert!(written.contains(&format!(r#""name":"{}""#, algorithm.name())));
        let mut faults = Faults::default();
        algorithm.check("algorithms[0]", &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
    }
    let wrong = named(r#"{"name": "hdbscan", "min_cluster_size": 1, "min_samples": 0}"#);
    let mut faults = Faults::default();
    wrong.check("algorithms[2]", &mut faults);
    let faults: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "algorithms[2].min_cluster_size: must be from 2 to 1000000, is 1",
            "algorithms[2].min_samples: must be from 1 to 100000, is 0",
        ]
    );
    let unknown = |json: &str| serde_json::from_str::<Algorithm>(json).unwrap_err().to_string();
    assert!(unknown(r#"{"name": "ward", "k": 3}"#).contains("unknown field `k`"));
    assert!(unknown("\"hdbscam\"").contains("unknown variant `hdbscam`"));
}

#[test]
fn a_median_is_not_moved_by_an_extreme_row() {
    let data = Dataset::new(ndarray::arr2(&[[0.0], [1.0], [2.0], [3.0], [1000.0]]));
    let found = medians::fit(&data, 1, &medians::Medians::default(), 0, &Quiet).unwrap();
    assert_eq!(found.prototypes[[0, 0]], 2.0);
}

fn small() -> impl Strategy<Value = Dataset> {
    (8_usize..60, 1_usize..4, any::<u64>()).prop_map(|(rows, columns, seed)| {
        let mut rng = Rng::new(seed, 0);
        Dataset::new(Array2::from_shape_fn((rows, columns), |(row, _)| {
            (normal(&mut rng) + (row % 3) as f64 * 4.0) as f32
        }))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// But for what the floor costs.
    #[test]
    fn em_never_lowers_the_likelihood(data in small(), is_full in any::<bool>()) {
        let covariance = if is_full { gmm::Covariance::Full } else { gmm::Covariance::Diagonal };
        let settings = Gmm { covariance, floor: 1e-9, tolerance: 0.0, max_iterations: 30, ..Gmm::default() };
        if let Ok(found) = gmm::fit(&data, 2, &settings, 0, &Quiet) {
            for pair in found.course.windows(2) {
                prop_assert!(pair[1] >= pair[0] - 1e-6, "{} after {}", pair[1], pair[0]);
            }
        }
    }

    #[test]
    fn wards_heights_never_fall_and_cuts_are_nested(data in small()) {
        let points = first_rows(&data, data.rows());
        let tree = hierarchy::ward(&points, &vec![1.0; data.rows()], &Quiet).unwrap();
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
