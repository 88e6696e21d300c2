//! Every clustering algorithm equals scikit-learn from the same start.

use std::collections::BTreeMap;

use ndarray::{Array2, Axis};
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::clustering::density::{DbscanSettings, HdbscanSettings};
use segmentd::domain::train::clustering::gaussian_mixture::GaussianMixtureSettings;
use segmentd::domain::train::clustering::gaussian_mixture::em::{
    ComponentCovariances, MixtureParameters,
};
use segmentd::domain::train::clustering::kmeans::bisecting;
use segmentd::domain::train::clustering::{density, gaussian_mixture, ward};
use segmentd::domain::train::projection::{pca, whitening};
use segmentd::domain::train::{ClusteringAlgorithm, EncodedDataset, PrototypeClusters};
use serde::Deserialize;

use crate::feature::support::{data, rows};
use crate::model::support::Quiet;

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

pub(crate) fn generated(name: &str) -> EncodedDataset {
    let (_, rows) = rows(&format!("golden/kmeans_{name}.csv.gz"));
    let columns = rows[0].len();
    let values = rows.iter().flat_map(|row| row.iter().map(|x| x.parse().unwrap())).collect();
    EncodedDataset::new(Array2::from_shape_vec((rows.len(), columns), values).unwrap())
}

pub(crate) fn first_rows(data: &EncodedDataset, rows: usize) -> Array2<f64> {
    Array2::from_shape_fn((rows, data.columns()), |(row, column)| f64::from(data.row(row)[column]))
}

pub(crate) fn named(json: &str) -> ClusteringAlgorithm {
    serde_json::from_str(json).unwrap()
}

/// The share of equal labels after both sets are renumbered in order of first appearance.
pub(crate) fn agreement(found: &[Option<u32>], golden: &str) -> f64 {
    let golden: Vec<Option<u32>> =
        golden.bytes().map(|b| (b != b'.').then(|| u32::from(b - b'a'))).collect();
    assert_eq!(found.len(), golden.len());
    let (found, golden) = (renamed(found), renamed(&golden));
    found.iter().zip(&golden).filter(|(a, b)| a == b).count() as f64 / found.len() as f64
}

pub(crate) fn renamed(labels: &[Option<u32>]) -> Vec<Option<usize>> {
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

/// The segment of a row in serving, by the rule of `PrototypeClusters`.
fn served(clusters: &PrototypeClusters, data: &EncodedDataset, row: usize) -> Option<u32> {
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
    let reach = clusters.radius.as_ref().map_or(f64::INFINITY, |reach| reach[segment as usize]);
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
            let initial = MixtureParameters {
                mixing_weights: vec![1.0 / k as f64; k],
                means: all.select(Axis(0), &golden.initial_rows),
                covariances: if kind == "diag" {
                    ComponentCovariances::Diagonal(Array2::from_shape_fn((k, all.ncols()), |at| {
                        variances[at.1]
                    }))
                } else {
                    ComponentCovariances::Full(vec![Array2::from_diag(&variances); k])
                },
            };
            let found = gaussian_mixture::run_em(
                &data,
                initial,
                &GaussianMixtureSettings::default(),
                &Quiet,
            )
            .unwrap();
            assert!(found.converged);
            assert_eq!(found.log_likelihood_history.len(), golden.iterations, "{name}");
            assert_near(found.log_likelihood, golden.log_likelihood, 1e-9, &name);
            let (price, deviance) = (found.parameters() as f64, -2.0 * found.log_likelihood);
            assert_near(deviance + price * (data.rows() as f64).ln(), golden.bic, 1e-9, &name);
            assert_near(deviance + 2.0 * price, golden.aic, 1e-9, &name);
            assert_near(agreement(&some(&found.labels), &golden.labels), 1.0, 0.0, &name);
            for component in 0..k {
                assert_near(
                    found.mixture.mixing_weights[component],
                    golden.shares[component],
                    1e-7,
                    &name,
                );
                for (x, wanted) in
                    found.mixture.means.row(component).iter().zip(&golden.means[component])
                {
                    assert_near(*x, *wanted, 1e-7, &name);
                }
                let spread: Vec<f64> = match &found.mixture.covariances {
                    ComponentCovariances::Diagonal(variances) => variances.row(component).to_vec(),
                    ComponentCovariances::Full(covariances) => {
                        covariances[component].iter().copied().collect()
                    }
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
    let diagonal = named(r#"{"name": "gaussian_mixture", "covariance": "diagonal"}"#);
    let clusters = diagonal.fit(&data, 6, 1, &Quiet).unwrap();
    for row in 0..data.rows() {
        assert_eq!(served(&clusters, &data, row), clusters.labels[row]);
    }
}

#[test]
fn wards_heights_and_cuts_equal_scipys() {
    for (name, golden) in golden() {
        let points = first_rows(&generated(&name), golden.ward.heights.len() + 1);
        let tree = ward::build_hierarchy(&points, &vec![1.0; points.nrows()], &Quiet).unwrap();
        for (merge, height) in tree.merges.iter().zip(&golden.ward.heights) {
            assert_near(merge.height, *height, 1e-9, &name);
        }
        assert_near(agreement(&some(&tree.cut(8)), &golden.ward.labels_8), 1.0, 0.0, &name);
    }
}

#[test]
fn dbscan_equals_scikit_learns() {
    for (name, golden) in golden() {
        let settings = DbscanSettings {
            eps: Some(golden.density.eps),
            min_samples: Some(10),
            min_cluster_share: 0.0,
            ..DbscanSettings::default()
        };
        let found = density::dbscan(&generated(&name), &settings, 0, &Quiet).unwrap();
        assert_near(agreement(&found, &golden.density.dbscan), 1.0, 0.0, &name);
    }
}

/// Three blobs are three segments by the defaults, whatever the number of rows; from 20,000 on a
/// sample is clustered.
#[test]
fn density_methods_find_three_blobs_at_any_size() {
    let sizes = [500, 10_000, 60_000].map(|rows| (rows, 0));
    // At this size groups at the rims are about as large as the smallest segment.
    for (rows, seed) in sizes.into_iter().chain((1..=10).map(|seed| (1000, seed))) {
        let (data, truth) = three_blobs(rows, seed);
        let found = [
            density::dbscan(&data, &DbscanSettings::default(), 0, &Quiet).unwrap(),
            density::hdbscan(&data, &HdbscanSettings::default(), 0, &Quiet).unwrap(),
        ];
        for labels in found {
            let mut rows_of: BTreeMap<u32, [usize; 3]> = BTreeMap::new();
            for (label, blob) in labels.iter().zip(&truth) {
                if let Some(label) = label {
                    rows_of.entry(*label).or_default()[*blob] += 1;
                }
            }
            assert_eq!(rows_of.len(), 3, "{rows} rows, seed {seed}");
            for counts in rows_of.values() {
                // The clouds overlap: a row in some ten thousand is nearer to another centre.
                let others = counts.iter().sum::<usize>() - counts.iter().max().unwrap();
                assert!(others <= 1 + rows / 10_000, "{rows} rows, seed {seed}: {rows_of:?}");
            }
            let noise = labels.iter().filter(|label| label.is_none()).count();
            assert!(noise * 8 < rows, "{noise} of {rows} rows are noise");
        }
    }
}

/// Rows around three centres that are eight standard deviations apart, and their blobs.
fn three_blobs(rows: usize, seed: u64) -> (EncodedDataset, Vec<usize>) {
    let centres = [[0.0, 0.0], [8.0, 0.0], [4.0, 7.0]];
    let mut rng = RandomStream::new(seed, 0);
    let (mut values, mut truth) = (Vec::new(), Vec::new());
    for row in 0..rows {
        truth.push(row % 3);
        values.extend(centres[row % 3].map(|centre| (centre + rng.standard_normal()) as f32));
    }
    (EncodedDataset::new(Array2::from_shape_vec((rows, 2), values).unwrap()), truth)
}

/// With `min_samples` 1 no distances tie, and every label is equal. Otherwise the labels of
/// a few rows depend on the order of ties.
#[test]
fn hdbscan_equals_scikit_learns_but_for_ties() {
    for (name, golden) in golden() {
        let data = generated(&name);
        let settings = HdbscanSettings {
            min_cluster_size: Some(40),
            min_samples: Some(1),
            ..HdbscanSettings::default()
        };
        let found = density::hdbscan(&data, &settings, 0, &Quiet).unwrap();
        assert_near(agreement(&found, &golden.density.hdbscan_untied), 1.0, 0.0, &name);
        let settings = HdbscanSettings { min_cluster_size: Some(40), ..HdbscanSettings::default() };
        let found = density::hdbscan(&data, &settings, 0, &Quiet).unwrap();
        let share = agreement(&found, &golden.density.hdbscan);
        assert!(share >= 0.99, "{name}: {share} of the labels agree");
    }
}

#[test]
fn bisecting_is_as_good_as_scikit_learns() {
    for (name, golden) in golden() {
        let data = generated(&name);
        let labels = bisecting::fit(
            &data,
            golden.clusters,
            &bisecting::BisectingKmeansSettings::default(),
            1,
            &Quiet,
        )
        .unwrap();
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
        assert_eq!(found.explained_variance_ratios.len(), golden.shares.len(), "{name}");
        assert_eq!(
            pca::fit(&data, 0.5).explained_variance_ratios.len(),
            golden.kept_at_half,
            "{name}"
        );
        for axis in 0..golden.shares.len() {
            assert_near(found.explained_variances[axis], golden.variances[axis], 1e-9, &name);
            assert_near(found.explained_variance_ratios[axis], golden.shares[axis], 1e-9, &name);
            for (x, wanted) in found.axes.matrix.row(axis).iter().zip(&golden.components[axis]) {
                assert_near(*x, *wanted, 1e-8, &name);
            }
        }
        let white = whitening::fit(&data);
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
