//! k-means equals scikit-learn's Lloyd from the same centres, and finds
//! partitions as good from its own.

use std::collections::BTreeMap;

use ndarray::Array2;
use proptest::prelude::*;
use segmentd::domain::encode::Encoder;
use segmentd::domain::feature::{FeatureRow, FeatureSet, Value};
use segmentd::domain::train::{Dataset, FitError, TrainSpec, kmeans};
use serde::Deserialize;

use crate::feature_support::{RETAIL, data, rows};
use crate::model_support::Quiet;

#[derive(Deserialize)]
struct Golden {
    clusters: usize,
    best_of_10: f64,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    initial_rows: Option<Vec<usize>>,
    initial_centres: Option<Vec<Vec<f64>>>,
    tolerance: f64,
    /// One letter a row.
    labels: String,
    inertia: f64,
    iterations: usize,
}

fn golden() -> BTreeMap<String, Golden> {
    serde_json::from_slice(&std::fs::read(data("golden/kmeans.json")).unwrap()).unwrap()
}

fn generated(name: &str) -> Dataset {
    let (_, rows) = rows(&format!("golden/kmeans_{name}.csv.gz"));
    let columns = rows[0].len();
    let values = rows.iter().flat_map(|row| row.iter().map(|x| x.parse().unwrap())).collect();
    Dataset::new(Array2::from_shape_vec((rows.len(), columns), values).unwrap())
}

/// The demo's features of 2,469 households, through our own encoder.
fn retail() -> Dataset {
    let set = FeatureSet::parse(RETAIL).unwrap();
    let (header, records) = rows("golden/features_complete_journey.csv.gz");
    let columns: Vec<usize> = set
        .features()
        .iter()
        .map(|def| header.iter().position(|name| *name == *def.name).unwrap())
        .collect();
    let rows: Vec<FeatureRow> = records
        .iter()
        .filter(|record| &record[1] == "2018-01-02T00:00:00Z")
        .map(|record| FeatureRow(columns.iter().map(|column| value(&record[*column])).collect()))
        .collect();
    assert_eq!(rows.len(), 2469);
    let encoder = Encoder::fit(set.features(), &rows).unwrap();
    let mut matrix = Array2::zeros((rows.len(), encoder.width()));
    for (row, mut out) in rows.iter().zip(matrix.rows_mut()) {
        encoder.encode(row, out.as_slice_mut().unwrap());
    }
    Dataset::new(matrix)
}

fn value(field: &str) -> Value {
    field.parse().map_or(Value::Missing, Value::Number)
}

fn dataset(name: &str) -> Dataset {
    if name == "retail" { retail() } else { generated(name) }
}

fn initial(run: &Run, data: &Dataset) -> Array2<f64> {
    let rows: Vec<Vec<f64>> = match (&run.initial_rows, &run.initial_centres) {
        (Some(rows), _) => {
            rows.iter().map(|row| data.row(*row).iter().map(|x| f64::from(*x)).collect()).collect()
        }
        (None, centres) => centres.clone().unwrap(),
    };
    Array2::from_shape_vec((rows.len(), data.columns()), rows.concat()).unwrap()
}

#[test]
fn from_the_same_centres_labels_equal_scikit_learn() {
    let golden = golden();
    assert_eq!(golden.keys().collect::<Vec<_>>(), ["blobs", "retail", "sheared"]);
    for (name, golden) in golden {
        let data = dataset(&name);
        assert_eq!(golden.runs.len(), 5);
        for run in golden.runs {
            let centres = initial(&run, &data);
            let found = kmeans::lloyd(&data, centres, 300, run.tolerance, &Quiet).unwrap();
            let labels: String = found
                .labels
                .iter()
                .map(|label| char::from(b'a' + u8::try_from(*label).unwrap()))
                .collect();
            assert_eq!(labels, run.labels, "{name}");
            assert_eq!(found.iterations, run.iterations, "{name}");
            let off = (found.inertia / run.inertia - 1.0).abs();
            assert!(off <= 1e-6, "{name}: inertia {} is not {}", found.inertia, run.inertia);
        }
    }
}

#[test]
fn own_starts_are_within_a_hundredth_of_scikit_learns_best_of_ten() {
    for (name, golden) in golden() {
        let spec = TrainSpec { segments: golden.clusters, starts: 10, ..TrainSpec::default() };
        let best = kmeans::best_of(&dataset(&name), &spec, &Quiet).unwrap();
        let ratio = best.partition.inertia / golden.best_of_10;
        assert!(ratio <= 1.01, "{name}: {ratio} times scikit-learn's inertia");
        let least = best.inertias.iter().copied().fold(f64::INFINITY, f64::min);
        assert!((best.inertias[best.start] - least).abs() < f64::EPSILON);
        assert!((best.partition.inertia - least).abs() < f64::EPSILON);
    }
}

#[test]
fn fewer_different_rows_than_segments_is_refused() {
    let data = Dataset::new(Array2::from_shape_fn((100, 2), |(row, _)| {
        f32::from(u8::try_from(row % 3).unwrap())
    }));
    let spec = TrainSpec { segments: 4, ..TrainSpec::default() };
    let refused = kmeans::best_of(&data, &spec, &Quiet);
    assert!(matches!(refused, Err(FitError::TooFewDistinct { distinct: 3, segments: 4 })));
    let spec = TrainSpec { segments: 3, ..TrainSpec::default() };
    assert!(kmeans::best_of(&data, &spec, &Quiet).unwrap().partition.inertia < 1e-12);
}

proptest! {
    /// What makes a partition k-means': every row is with its nearest centre,
    /// and the inertia is the sum over just these.
    #[test]
    fn every_row_is_with_its_nearest_centre(
        cells in prop::collection::vec(prop_oneof![-3..3_i8, Just(0_i8)], 20..200),
        clusters in 1..5_usize,
        seed in any::<u64>(),
    ) {
        let rows = cells.len() / 2;
        let matrix = Array2::from_shape_fn((rows, 2), |(r, c)| f32::from(cells[2 * r + c]));
        let data = Dataset::new(matrix.clone());
        let spec = TrainSpec { segments: clusters, starts: 2, seed, ..TrainSpec::default() };
        let partition = match kmeans::best_of(&data, &spec, &Quiet) {
            Err(FitError::TooFewDistinct { .. }) => return Ok(()),
            found => found.unwrap().partition,
        };
        let mut inertia = 0.0;
        for (row, label) in matrix.rows().into_iter().zip(&partition.labels) {
            let squared = |centre: usize| {
                let pairs = row.iter().zip(partition.centres.row(centre));
                pairs.map(|(x, c)| (f64::from(*x) - c).powi(2)).sum::<f64>()
            };
            let own = squared(*label as usize);
            prop_assert!((0..clusters).all(|other| own <= squared(other)));
            inertia += own;
        }
        prop_assert!((inertia - partition.inertia).abs() <= 1e-9 * (1.0 + inertia));
    }
}
