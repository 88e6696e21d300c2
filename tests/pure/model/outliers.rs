//! The outlier measure: rare combinations of usual values are found, and the fitted reference
//! equals an independent computation.

use segmentd::domain::feature::{
    FeatureDefinition, FeatureRow, FeatureValue, NumberScaling, NumberTransform,
};
use segmentd::domain::model::Model;
use segmentd::domain::stats::{RandomStream, quantile, sorted};
use segmentd::domain::train::{CalibrationMethod, TrainedModel, TrainingSpec};
use serde::Deserialize;

use crate::feature::support::data;
use crate::model::support::{def, normal, number, spec, train};

fn numeric_features(columns: usize, scaling: NumberScaling) -> Vec<FeatureDefinition> {
    (0..columns)
        .map(|column| {
            let name = format!("x{column}");
            def(&name, &name, Some(number(NumberTransform::None, scaling)))
        })
        .collect()
}

fn feature_row(values: impl IntoIterator<Item = f64>) -> FeatureRow {
    FeatureRow(values.into_iter().map(FeatureValue::Number).collect())
}

/// Four normal columns, of which the first two have a correlation of 0.95.
fn correlated_rows(rows: usize) -> Vec<FeatureRow> {
    const CORRELATION: f64 = 0.95;
    let mut rng = RandomStream::new(5, 0);
    (0..rows)
        .map(|_| {
            let mut values = [0.0; 4].map(|_| normal(&mut rng));
            let independent = (1.0 - CORRELATION * CORRELATION).sqrt();
            values[1] = CORRELATION * values[0] + independent * values[1];
            feature_row(values)
        })
        .collect()
}

#[test]
fn a_rare_combination_of_usual_values_is_an_outlier() {
    let features = numeric_features(4, NumberScaling::Standard);
    let model = train(spec(3), &features, &correlated_rows(4000)).unwrap().model;
    let mut scratch = model.scratch();
    let mut p_value = |values: [f64; 4]| model.score(&feature_row(values), &mut scratch).p_value;
    for size in [-1.5, 1.5] {
        let usual = p_value([size, size, 0.3, 0.3]);
        let rare = p_value([size, -size, 0.3, 0.3]);
        assert!(usual > 0.2, "{usual}");
        // Without pair terms, by the measure of the values and the distance, about 0.1.
        assert!(rare < 0.05, "{rare}");
    }
}

/// The document of a model, as far as its outlier reference goes.
#[derive(Deserialize)]
struct Document {
    outlier_reference: Reference,
}

#[derive(Deserialize)]
struct Reference {
    surprise: Vec<f64>,
    dependence_tree: Tree,
    column_factors: Vec<f64>,
    cells: Cells,
    per_distance: f64,
}

#[derive(Deserialize)]
struct Tree {
    groups: Vec<u8>,
    edges: Vec<[u16; 2]>,
    surprise: Vec<f64>,
}

#[derive(Deserialize)]
struct Cells {
    width: usize,
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct Golden {
    rows: Vec<Vec<f64>>,
    groups: Vec<u8>,
    edges: Vec<[u16; 2]>,
    surprise: Vec<f64>,
    pair_surprise: Vec<f64>,
    /// Surprise of each row.
    measured: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(data("golden/outlier_reference.json")).unwrap()).unwrap()
}

/// A model of the golden rows, which it encodes as they are, and its outlier reference.
fn golden_model(golden: &Golden) -> (Model, Reference) {
    let features = numeric_features(golden.rows[0].len(), NumberScaling::None);
    let rows: Vec<FeatureRow> =
        golden.rows.iter().map(|row| feature_row(row.iter().copied())).collect();
    let spec = TrainingSpec { starts: 1, minimum_rows: 100, ..spec(3) };
    let TrainedModel { bytes, model, report } = train(spec, &features, &rows).unwrap();
    // Few rows are all fitted.
    assert_eq!(report.outliers.method, CalibrationMethod::LeaveOneOut);
    let document: Document = serde_json::from_slice(&bytes).unwrap();
    (model, document.outlier_reference)
}

fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let tolerance = 1e-5 * (1.0 + expected.abs());
        assert!((found - expected).abs() < tolerance, "{index}: {found} is not {expected}");
    }
}

fn encoded(model: &Model, row: &[f64]) -> Vec<f32> {
    let mut vector = vec![0.0; model.encoder().width()];
    model.encoder().encode(&feature_row(row.iter().copied()), &mut vector);
    vector
}

/// `tests/data/golden/outlier_reference.py`
#[test]
fn the_surprise_is_that_of_scikit_learn_and_scipy() {
    let golden = golden();
    let (_, found) = golden_model(&golden);
    assert_eq!(found.dependence_tree.groups, golden.groups);
    assert_eq!(found.dependence_tree.edges, golden.edges);
    assert_eq!(golden.edges.len(), 4);
    assert_close(&found.surprise, &golden.surprise);
    assert_close(&found.dependence_tree.surprise, &golden.pair_surprise);
}

/// Recomputes the scale of the columns, the unit of the distance and the measure of each row from
/// the cells of the document.
#[test]
fn the_distance_is_in_columns_divided_by_their_spread_within_the_cells() {
    let golden = golden();
    let (model, found) = golden_model(&golden);
    let columns = found.cells.width;
    let cells: Vec<Vec<f64>> = found
        .cells
        .values
        .chunks(columns)
        .map(|cell| cell.iter().zip(&found.column_factors).map(|(x, factor)| x / factor).collect())
        .collect();
    let mut nearest: Vec<(f64, Vec<f64>)> = golden
        .rows
        .iter()
        .map(|row| {
            let residuals = cells.iter().map(|cell| {
                let residual: Vec<f64> = row.iter().zip(cell).map(|(x, c)| x - c).collect();
                (residual.iter().map(|x| x * x).sum::<f64>(), residual)
            });
            residuals.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
        })
        .collect();
    nearest.sort_by(|a, b| a.0.total_cmp(&b.0));
    // The quantile of 0.9 lies between the ranks 539 and 540, counted from 0.
    let variance: Vec<f64> = (0..columns)
        .map(|column| {
            let residuals = nearest[..540].iter().map(|(_, residual)| residual[column]);
            let mean = residuals.clone().sum::<f64>() / 540.0;
            residuals.map(|x| (x - mean).powi(2)).sum::<f64>() / 540.0
        })
        .collect();
    let floor = 0.3 * variance.iter().sum::<f64>() / columns as f64;
    let factors: Vec<f64> = variance.iter().map(|variance| (variance + floor).powf(-0.5)).collect();
    assert_close(&found.column_factors, &factors);

    let distances: Vec<f64> = golden
        .rows
        .iter()
        .map(|row| {
            let squared = cells.iter().map(|cell| {
                let terms = row.iter().zip(cell).zip(&factors);
                terms.map(|((x, c), factor)| ((x - c) * factor).powi(2)).sum::<f64>()
            });
            squared.fold(f64::INFINITY, f64::min).sqrt()
        })
        .collect();
    let ascending = sorted(&distances);
    let unit = quantile(&ascending, 0.9) - quantile(&ascending, 0.5);
    assert_close(&[found.per_distance], &[1.0 / unit]);

    let reference = model.outlier_reference();
    let measured: Vec<f64> =
        golden.rows.iter().map(|row| f64::from(reference.measure(&encoded(&model, row)))).collect();
    let expected: Vec<f64> =
        golden.measured.iter().zip(&distances).map(|(surprise, d)| surprise + d / unit).collect();
    assert_close(&measured, &expected);
}
