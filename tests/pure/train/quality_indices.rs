//! Internal and external cluster indices equal scikit-learn, including edge cases.

use std::collections::BTreeMap;

use ndarray::Array2;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::EncodedDataset;
use segmentd::domain::train::evaluation::external_indices::{LabelContingency, SegmentLabel};
use segmentd::domain::train::evaluation::internal_indices::{
    SegmentDispersion, aic, bic, silhouette,
};
use serde::Deserialize;

use crate::feature::support::data;

#[derive(Deserialize)]
struct Golden {
    partitions: BTreeMap<String, Partition>,
    criteria: Criteria,
}

#[derive(Deserialize)]
struct Partition {
    rows: Vec<Vec<f32>>,
    labels: Vec<i32>,
    #[serde(rename = "true")]
    known: Vec<i32>,
    silhouette: Option<f64>,
    davies_bouldin: Option<f64>,
    calinski_harabasz: Option<f64>,
    inertia: f64,
    adjusted_rand: f64,
}

#[derive(Deserialize)]
struct Criteria {
    log_likelihood: f64,
    parameters: usize,
    rows: u64,
    bic: f64,
    aic: f64,
}

fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(data("golden/quality.json")).unwrap()).unwrap()
}

fn labels(labels: &[i32]) -> Vec<SegmentLabel> {
    labels.iter().map(|label| u32::try_from(*label).ok()).collect()
}

fn dataset(rows: &[Vec<f32>]) -> EncodedDataset {
    EncodedDataset::new(Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).unwrap())
}

fn dispersion(data: &EncodedDataset, labels: &[SegmentLabel]) -> SegmentDispersion {
    let segments = labels.iter().flatten().max().map_or(0, |last| *last as usize + 1);
    SegmentDispersion::measure(data, labels, segments)
}

fn equal(name: &str, found: Option<f64>, expected: Option<f64>, tolerance: f64) {
    let close = match (found, expected) {
        (Some(a), Some(b)) => (a - b).abs() <= tolerance * b.abs().max(1.0),
        (None, None) => true,
        _ => false,
    };
    assert!(close, "{name}: {found:?} is not {expected:?}");
}

#[test]
fn quality_equals_scikit_learn() {
    let golden = golden().partitions;
    assert_eq!(golden.len(), 13);
    for (name, golden) in golden {
        let (data, labels) = (dataset(&golden.rows), labels(&golden.labels));
        let found = dispersion(&data, &labels);
        // Distances are f32 in the silhouette, f64 elsewhere.
        let whole = silhouette(&data, &labels, labels.len(), &mut RandomStream::new(0, 0));
        equal(&name, whole.map(|s| s.value), golden.silhouette, 1e-6);
        equal(&name, found.davies_bouldin(), golden.davies_bouldin, 1e-9);
        equal(&name, found.calinski_harabasz(), golden.calinski_harabasz, 1e-9);
        equal(&name, Some(found.inertia()), Some(golden.inertia), 1e-9);
    }
}

#[test]
fn agreement_equals_scikit_learn() {
    for (name, golden) in golden().partitions {
        let table = LabelContingency::new(&labels(&golden.known), &labels(&golden.labels));
        equal(&name, Some(table.adjusted_rand()), Some(golden.adjusted_rand), 1e-12);
    }
}

#[test]
fn information_criteria_equal_scikit_learn() {
    let golden = golden().criteria;
    let found = bic(golden.log_likelihood, golden.parameters, golden.rows);
    equal("bic", Some(found), Some(golden.bic), 1e-12);
    equal("aic", Some(aic(golden.log_likelihood, golden.parameters)), Some(golden.aic), 1e-12);
}

#[test]
fn a_sampled_silhouette_is_within_its_error_bar() {
    let golden = &golden().partitions["blobs_5"];
    let (data, labels) = (dataset(&golden.rows), labels(&golden.labels));
    let mut within = 0;
    for stream in 0..50 {
        let sampled = silhouette(&data, &labels, 150, &mut RandomStream::new(3, stream)).unwrap();
        assert_eq!(sampled.rows, 150);
        within +=
            u32::from((sampled.value - golden.silhouette.unwrap()).abs() < 2.0 * sampled.error);
    }
    assert!(within >= 45, "only {within} of 50 samples are within two standard errors");
}

#[test]
fn cluster_sizes_are_counted() {
    let data = dataset(&[vec![0.0], vec![0.0], vec![1.0], vec![1.0], vec![9.0]]);
    let even = dispersion(&data, &[Some(0), Some(0), Some(1), Some(1), None]);
    assert_eq!((even.balance(), even.smallest_share(), even.noise), (1.0, 0.4, 1));
    let uneven = dispersion(&data, &[Some(0), Some(0), Some(0), Some(0), Some(1)]);
    assert!(uneven.balance() < 0.75);
    assert_eq!(uneven.smallest_share(), 0.2);
    // One segment, or none: no division by zero.
    let one = dispersion(&data, &[Some(0); 5]);
    assert_eq!((one.balance(), one.simplified_silhouette()), (1.0, None));
    let nobody = dispersion(&data, &[None; 5]);
    assert_eq!((nobody.smallest_share(), nobody.segments()), (0.0, 0));
}

#[test]
fn the_simplified_silhouette_uses_centroids() {
    let data = dataset(&[vec![0.0], vec![2.0], vec![10.0], vec![12.0]]);
    let found = dispersion(&data, &[Some(0), Some(0), Some(1), Some(1)]);
    // a is 1 for all; b is 11, 9, 9, 11.
    let expected = f64::midpoint(10.0 / 11.0, 8.0 / 9.0);
    equal("simplified", found.simplified_silhouette(), Some(expected), 1e-6);
}

#[test]
fn the_number_of_threads_does_not_change_the_indices() {
    let mut rng = RandomStream::new(5, 0);
    let rows = Array2::from_shape_fn((5000, 3), |_| rng.uniform_unit() as f32);
    let data = EncodedDataset::new(rows);
    let labels: Vec<SegmentLabel> = (0..5000).map(|_| Some(rng.uniform_below(7) as u32)).collect();
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let sampled = silhouette(&data, &labels, 2000, &mut RandomStream::new(1, 1));
            (sampled, dispersion(&data, &labels))
        })
    };
    assert_eq!(with(1), with(3));
}
