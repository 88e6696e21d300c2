//! Training on the columns that real tables have ends with a model that can serve, or with a
//! reason that says what to change.

use segmentd::domain::feature::{
    FeatureDefinition, FeatureEncoding, FeatureRow, FeatureValue, NumberScaling, NumberTransform,
};
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::{TrainedModel, TrainingError, TrainingSpec};

use crate::model::support::{def, normal, number, spec, train};

fn plain(name: &str) -> FeatureDefinition {
    def(name, name, Some(number(NumberTransform::None, NumberScaling::Standard)))
}

fn category(name: &str) -> FeatureDefinition {
    def(name, name, Some(FeatureEncoding::OneHot { floor: 0.01, weight: 1.0 }))
}

/// Spend in two groups, and what else a row has.
fn rows(
    count: usize,
    mut rest: impl FnMut(usize, &mut RandomStream) -> Vec<FeatureValue>,
) -> Vec<FeatureRow> {
    let mut rng = RandomStream::new(3, 0);
    let mut rows = Vec::with_capacity(count);
    for index in 0..count {
        let group = if rng.uniform_unit() < 0.5 { 10.0 } else { 60.0 };
        let mut row = vec![FeatureValue::Number(group + 3.0 * normal(&mut rng))];
        row.extend(rest(index, &mut rng));
        rows.push(FeatureRow(row));
    }
    rows
}

fn assert_serves(trained: &TrainedModel, rows: &[FeatureRow]) {
    let smallest = trained.report.sizes.iter().min().unwrap();
    assert!(*smallest as f64 >= 0.005 * rows.len() as f64, "{:?}", trained.report.sizes);
    let mut scratch = trained.model.scratch();
    let mut unassigned = 0;
    for row in rows {
        let score = trained.model.score(row, &mut scratch);
        assert!(score.distance.is_finite());
        unassigned += usize::from(score.segment().is_none());
    }
    // A few extreme rows may be in no segment.
    assert!(unassigned * 100 <= rows.len(), "{unassigned} of {} rows", rows.len());
}

/// The reason names a column or a setting of the spec.
fn assert_names_a_remedy(error: &TrainingError) {
    let text = error.to_string();
    let remedies = ["winsorise", "transform", "request", "gates", "smallest_share", "encoding"];
    assert!(remedies.iter().any(|remedy| text.contains(remedy)), "{text}");
}

fn outcome(defs: &[FeatureDefinition], rows: &[FeatureRow]) -> Result<TrainedModel, TrainingError> {
    let trained = train(TrainingSpec { starts: 2, ..spec(2) }, defs, rows);
    match &trained {
        Ok(trained) => assert_serves(trained, rows),
        Err(error) => assert_names_a_remedy(error),
    }
    trained
}

#[test]
fn one_customer_of_900_billion() {
    let mut rows = rows(2000, |_, _| vec![]);
    rows[7].0[0] = FeatureValue::Number(9e11);
    let _ = outcome(&[plain("spend")], &rows);
    // With its long tail cut off, as the reason advises, the same rows give a model.
    let clipped = FeatureEncoding::Number {
        missing: segmentd::domain::feature::MissingValueRule::Median,
        missing_flag: false,
        winsorise: Some((0.0, 0.99)),
        transform: NumberTransform::None,
        scale: NumberScaling::Standard,
        weight: 1.0,
    };
    outcome(&[def("spend", "Spend", Some(clipped))], &rows).unwrap();
}

#[test]
fn columns_that_are_mostly_zero() {
    let rows = rows(2000, |_, rng| {
        let rare = |rng: &mut RandomStream| {
            if rng.uniform_unit() < 0.002 { 1.0 + rng.uniform_unit() * 8.0 } else { 0.0 }
        };
        (0..10).map(|_| FeatureValue::Number(rare(rng))).collect()
    });
    let mut defs = vec![plain("spend")];
    defs.extend((0..10).map(|place| plain(&format!("rare{place}"))));
    let _ = outcome(&defs, &rows);
}

#[test]
fn a_constant_column_beside_others_and_alone() {
    let beside = rows(2000, |_, _| vec![FeatureValue::Number(7.0)]);
    outcome(&[plain("spend"), plain("constant")], &beside).unwrap();
    let alone: Vec<FeatureRow> =
        (0..2000).map(|_| FeatureRow(vec![FeatureValue::Number(7.0)])).collect();
    let error = outcome(&[plain("constant")], &alone).unwrap_err();
    assert!(error.to_string().contains("distinct"), "{error}");
}

#[test]
fn fifteen_hundred_columns() {
    let mut defs = vec![plain("spend")];
    defs.extend((1..1500).map(|place| plain(&format!("c{place}"))));
    let rows = rows(1200, |_, rng| {
        let group = if rng.uniform_unit() < 0.5 { 0.0 } else { 2.0 };
        (1..1500).map(|_| FeatureValue::Number(group + normal(rng))).collect()
    });
    outcome(&defs, &rows).unwrap();
}

#[test]
fn as_many_categories_as_rows() {
    let rows = rows(400, |index, _| vec![FeatureValue::Category(format!("k{index}").into())]);
    outcome(&[plain("spend"), category("code")], &rows).unwrap();
    let alone: Vec<FeatureRow> =
        rows.iter().map(|row| FeatureRow(vec![row.0[1].clone()])).collect();
    outcome(&[category("code")], &alone).unwrap_err();
}
