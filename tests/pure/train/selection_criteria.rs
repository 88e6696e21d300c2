//! The criteria of selection equal those of other implementations, and judge every shape alike.

use std::collections::BTreeMap;

use ndarray::Array2;
use proptest::prelude::*;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::data::outcomes::OutcomeColumns;
use segmentd::domain::train::evaluation::density_validation::density_validation;
use segmentd::domain::train::evaluation::external_indices::{SegmentLabel, adjusted_rand};
use segmentd::domain::train::evaluation::neighbour_graph::NeighbourGraph;
use segmentd::domain::train::evaluation::reproducibility::RowHalves;
use segmentd::domain::train::evaluation::row_distances::RowDistances;
use segmentd::domain::train::evaluation::stability::StabilityTrials;
use segmentd::domain::train::selection::candidates::{
    CandidateRanking, ComparisonData, compare_candidates,
};
use segmentd::domain::train::selection::structure::StructureVerdict;
use segmentd::domain::train::{ClusteringAlgorithm, EncodedDataset, TrainingSpec};
use serde::Deserialize;

use crate::feature::support::data;
use crate::model::support::{Quiet, normal};
use crate::train::algorithms::named;

#[derive(Deserialize)]
struct Golden {
    rows: Vec<Vec<f32>>,
    labels: Vec<i32>,
    density_validation: f64,
    modularity: f64,
}

fn golden() -> BTreeMap<String, Golden> {
    serde_json::from_slice(&std::fs::read(data("golden/selection.json")).unwrap()).unwrap()
}

fn dataset(rows: &[Vec<f32>]) -> EncodedDataset {
    EncodedDataset::new(Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).unwrap())
}

fn labels(labels: &[i32]) -> Vec<SegmentLabel> {
    labels.iter().map(|label| u32::try_from(*label).ok()).collect()
}

#[test]
fn density_validation_and_modularity_equal_other_implementations() {
    for (name, golden) in golden() {
        let rows = dataset(&golden.rows);
        let labels = labels(&golden.labels);
        let distances = RowDistances::measure(&rows);
        let density = density_validation(&distances, rows.columns(), &labels).unwrap();
        assert!((density - golden.density_validation).abs() < 1e-5, "{name}: {density}");
        let modularity = NeighbourGraph::new(&distances, 10).modularity(&labels);
        assert!((modularity - golden.modularity).abs() < 1e-9, "{name}: {modularity}");
    }
}

#[test]
fn a_partition_without_two_segments_has_no_density_validation() {
    let rows = dataset(&golden()["blobs"].rows);
    let distances = RowDistances::measure(&rows);
    for label in [None, Some(0)] {
        let labels = vec![label; rows.rows()];
        assert_eq!(density_validation(&distances, 3, &labels), None);
        assert!(NeighbourGraph::new(&distances, 10).modularity(&labels).abs() < 0.02);
    }
    // Equal rows have no distance, and a segment of one row no density.
    let equal = RowDistances::measure(&EncodedDataset::new(Array2::zeros((6, 2))));
    let labels: Vec<SegmentLabel> = [0, 0, 0, 1, 1, 2].map(Some).to_vec();
    assert!(density_validation(&equal, 2, &labels).is_some_and(f64::is_finite));
    let nothing = RowDistances::measure(&EncodedDataset::new(Array2::zeros((0, 2))));
    assert!(NeighbourGraph::new(&nothing, 10).modularity(&[]).abs() < 1e-12);
}

proptest! {
    /// Neither the numbers of the segments nor the order of the rows matter for modularity, and
    /// rows that are made noise cost it if their neighbours were in their segment.
    #[test]
    fn modularity_depends_on_the_partition_alone(seed in 0_u64..1000) {
        let golden = &golden()["blobs"];
        let mut rng = RandomStream::new(seed, 0);
        let mut order: Vec<usize> = (0..golden.rows.len()).collect();
        rng.shuffle(&mut order);
        let rows: Vec<Vec<f32>> = order.iter().map(|row| golden.rows[*row].clone()).collect();
        let moved: Vec<SegmentLabel> =
            order.iter().map(|row| u32::try_from(2 - golden.labels[*row]).ok()).collect();
        let distances = RowDistances::measure(&dataset(&rows));
        let graph = NeighbourGraph::new(&distances, 10);
        let modularity = graph.modularity(&moved);
        prop_assert!((modularity - golden.modularity).abs() < 1e-9);
        let noisy: Vec<SegmentLabel> =
            moved.iter().map(|label| label.filter(|_| rng.uniform_unit() < 0.8)).collect();
        prop_assert!(graph.modularity(&noisy) < modularity);
    }
}

#[test]
fn halves_agree_about_real_groups_only() {
    let golden = golden();
    let reproducibility = |name: &str, algorithm: &ClusteringAlgorithm, segments: usize| {
        let rows = dataset(&golden[name].rows);
        let distances = RowDistances::measure(&rows);
        let halves = RowHalves::draw(&distances, 5, &mut RandomStream::new(1, 0));
        halves.reproducibility(&rows, |half| algorithm.fit(half, segments, 0, &Quiet)).unwrap()
    };
    let kmeans = named("\"kmeans\"");
    assert!(reproducibility("blobs", &kmeans, 3).value > 0.95);
    assert!(reproducibility("blobs", &kmeans, 8).value < 0.75);
    // Rows of which no half has a dense region: nothing agrees with nothing.
    let nowhere = named(r#"{"name": "dbscan", "eps": 1e-9}"#);
    assert!(reproducibility("blobs", &nowhere, 0).value.abs() < 1e-12);
}

/// Groups of rows at `centres`, (`n_rows`, 2).
fn around(centres: &[[f64; 2]], rows: usize, width: f64) -> Array2<f32> {
    let mut rng = RandomStream::new(9, 0);
    Array2::from_shape_fn((rows, 2), |(row, column)| {
        (centres[row % centres.len()][column] + width * normal(&mut rng)) as f32
    })
}

fn choose(rows: &EncodedDataset) -> CandidateRanking {
    let nothing = EncodedDataset::new(Array2::zeros((0, rows.columns())));
    let field = ComparisonData {
        train: rows,
        validation: &nothing,
        slices: &[],
        outcomes: OutcomeColumns::default(),
        baseline: None,
    };
    let trials = StabilityTrials { bootstraps: 2, seeds: 0, ..StabilityTrials::default() };
    let spec = TrainingSpec { starts: 3, stability: trials, ..TrainingSpec::default() };
    compare_candidates(&field, &spec, &Quiet).unwrap()
}

fn verdict(ranking: &CandidateRanking) -> StructureVerdict {
    ranking.leaderboard.structure.unwrap().verdict
}

#[test]
fn five_groups_are_found_without_a_range_and_called_groups() {
    let centres = [[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0], [4.5, 18.0]];
    let rows = EncodedDataset::new(around(&centres, 600, 1.0));
    let ranking = choose(&rows);
    assert_eq!(ranking.leaderboard.winner().unwrap().segments, 5);
    assert_eq!(verdict(&ranking), StructureVerdict::Groups);
}

/// A ring around a core: only an algorithm without a preference for round segments finds both.
#[test]
fn a_ring_around_a_core_is_two_groups() {
    let mut rng = RandomStream::new(3, 0);
    let rows = EncodedDataset::new(
        Array2::from_shape_vec(
            (600, 2),
            (0..600)
                .flat_map(|row| {
                    let angle = std::f64::consts::TAU * rng.uniform_unit();
                    let radius = if row % 2 == 0 { 1.0 } else { 6.0 } + 0.3 * normal(&mut rng);
                    [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
                })
                .collect(),
        )
        .unwrap(),
    );
    let truth: Vec<SegmentLabel> = (0..600).map(|row| Some(row % 2)).collect();
    let ranking = choose(&rows);
    let winner = ranking.leaderboard.winner().unwrap();
    let chosen = &ranking.algorithms[winner.listed];
    let found = chosen.fit(&rows, winner.segments, 0, &Quiet).unwrap();
    assert!(
        adjusted_rand(&truth, &found.labels) > 0.98,
        "{} {}",
        winner.algorithm,
        winner.segments
    );
    assert_eq!(verdict(&ranking), StructureVerdict::Groups);
}

#[test]
fn one_cloud_is_not_called_groups() {
    for seed in 0..3 {
        let mut rng = RandomStream::new(seed, 40);
        let cloud = Array2::from_shape_fn((400, 3), |_| normal(&mut rng) as f32);
        assert_ne!(verdict(&choose(&EncodedDataset::new(cloud))), StructureVerdict::Groups);
        let cube = Array2::from_shape_fn((400, 2), |_| rng.uniform_unit() as f32);
        assert_ne!(verdict(&choose(&EncodedDataset::new(cube))), StructureVerdict::Groups);
    }
}

/// Three customers with values a hundred times the others': they are in no segment, and the
/// others are divided as without them.
#[test]
fn a_few_extreme_rows_become_no_segment() {
    let centres = [[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]];
    let mut points = around(&centres, 900, 1.0);
    for (place, value) in [(0, 900.0), (300, -800.0), (600, 700.0)] {
        points[[place, 0]] = value;
    }
    let rows = EncodedDataset::new(points);
    let ranking = choose(&rows);
    let winner = ranking.leaderboard.winner().unwrap();
    assert!(winner.figures.noise_share < 0.05, "{}", winner.reason);
    assert!(winner.figures.segments >= 3 && winner.figures.smallest_share > 0.1);
}
