//! The encoder equals scikit-learn, `NumPy` and `SciPy`, and is finite on any input.

use proptest::prelude::*;
use segmentd::domain::encode::{EncoderFitError, FeatureEncoder, MAX_ENCODED};
use segmentd::domain::feature::{
    FeatureDefinition, FeatureEncoding, FeatureRow, FeatureValue, MissingValueRule, NumberScaling,
    NumberTransform, Sensitivity,
};
use segmentd::domain::stats::RandomStream;
use serde::Deserialize;

use crate::feature::support::data;
use crate::model::support::{def, number, shop_features, shoppers};

#[derive(Deserialize)]
struct Golden {
    numbers: Vec<NumberCase>,
    categories: Vec<CategoryCase>,
}

#[derive(Deserialize)]
struct NumberCase {
    missing: serde_json::Value,
    missing_flag: bool,
    winsorise: Option<(f64, f64)>,
    transform: NumberTransform,
    scale: NumberScaling,
    lambda: Option<f64>,
    fit: Vec<Option<f64>>,
    probe: Vec<Option<f64>>,
    expected: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct CategoryCase {
    floor: f64,
    fit: Vec<String>,
    probe: Vec<String>,
    expected: Vec<Vec<f64>>,
}

fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(data("golden/encode.json")).unwrap()).unwrap()
}

fn numeric_rows(values: &[Option<f64>]) -> Vec<FeatureRow> {
    values
        .iter()
        .map(|v| FeatureRow(vec![v.map_or(FeatureValue::Missing, FeatureValue::Number)]))
        .collect()
}

fn category_rows(values: &[String]) -> Vec<FeatureRow> {
    values.iter().map(|v| FeatureRow(vec![FeatureValue::Category(v.as_str().into())])).collect()
}

fn encoded(encoder: &FeatureEncoder, row: &FeatureRow) -> Vec<f32> {
    let mut out = vec![f32::NAN; encoder.width()];
    encoder.encode(row, &mut out);
    out
}

#[test]
fn numbers_equal_scikit_learn() {
    let golden = golden();
    assert_eq!(golden.numbers.len(), 35);
    for case in golden.numbers {
        let missing = match case.missing.as_str() {
            Some("mean") => MissingValueRule::Mean,
            Some(_) => MissingValueRule::Median,
            None => MissingValueRule::Constant(case.missing.as_f64().unwrap()),
        };
        let encoding = FeatureEncoding::Number {
            missing,
            missing_flag: case.missing_flag,
            winsorise: case.winsorise,
            transform: case.transform,
            scale: case.scale,
            weight: 1.0,
        };
        let encoder =
            FeatureEncoder::fit(&[def("x", "X", Some(encoding))], &numeric_rows(&case.fit))
                .unwrap();
        if let Some(lambda) = case.lambda {
            let fitted = serde_json::to_value(&encoder).unwrap();
            let found = fitted["codes"][0]["number"]["transform"]["yeo_johnson"]["lambda"].clone();
            let found = found.as_f64().unwrap();
            assert!(
                (found - lambda).abs() <= 1e-6 * lambda.abs().max(1.0),
                "lambda {found} is not {lambda}"
            );
        }
        for (row, expected) in numeric_rows(&case.probe).iter().zip(&case.expected) {
            let found = encoded(&encoder, row);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                let difference = (f64::from(*found) - expected).abs();
                // Six digits: the result is a single-precision number.
                assert!(
                    difference <= 1e-6 * expected.abs().max(1.0),
                    "{found} is not {expected} for {row:?} in {encoding:?}"
                );
            }
        }
    }
}

#[test]
fn categories_equal_scikit_learn() {
    let golden = golden();
    assert_eq!(golden.categories.len(), 4);
    for case in golden.categories {
        let encoding = FeatureEncoding::OneHot { floor: case.floor, weight: 1.0 };
        let encoder =
            FeatureEncoder::fit(&[def("c", "C", Some(encoding))], &category_rows(&case.fit))
                .unwrap();
        for (row, expected) in category_rows(&case.probe).iter().zip(&case.expected) {
            let found: Vec<f64> = encoded(&encoder, row).into_iter().map(f64::from).collect();
            assert_eq!(found, *expected, "{row:?} with floor {}", case.floor);
        }
    }
}

#[test]
fn columns_are_named_and_weighted() {
    let defs = shop_features();
    let encoder = FeatureEncoder::fit(&defs, &shoppers(500, 3)).unwrap();
    let names: Vec<(usize, &str)> =
        encoder.columns().iter().map(|c| (c.feature, &*c.name)).collect();
    let expected = [
        (0, "spend"),
        (1, "recency"),
        (2, "gap"),
        (2, "gap (missing)"),
        (3, "channel=app"),
        (3, "channel=store"),
        (3, "channel=web"),
        (3, "channel (other)"),
    ];
    assert_eq!(names, expected);

    let weigh = |weight| {
        let mut encoding = number(NumberTransform::None, NumberScaling::Standard);
        if let FeatureEncoding::Number { weight: slot, .. } = &mut encoding {
            *slot = weight;
        }
        let defs = [
            def("x", "X", Some(encoding)),
            def("c", "C", Some(FeatureEncoding::OneHot { floor: 0.0, weight })),
        ];
        let rows: Vec<FeatureRow> = [("a", 1.0), ("b", 4.0), ("a", 9.0)]
            .map(|(c, x)| {
                FeatureRow(vec![FeatureValue::Number(x), FeatureValue::Category(c.into())])
            })
            .to_vec();
        let encoder = FeatureEncoder::fit(&defs, &rows).unwrap();
        encoded(&encoder, &rows[2])
    };
    let doubled: Vec<f32> = weigh(1.0).iter().map(|x| 2.0 * x).collect();
    assert_eq!(weigh(2.0), doubled);
}

#[test]
fn features_that_cannot_be_fitted_are_refused_by_name() {
    let rows = numeric_rows(&[Some(-2.0), Some(1.0)]);
    let fit = |def: FeatureDefinition, rows: &[FeatureRow]| {
        FeatureEncoder::fit(&[def], rows).unwrap_err()
    };
    let plain = number(NumberTransform::None, NumberScaling::Standard);
    let name: Box<str> = "x".into();

    assert_eq!(fit(def("x", "X", Some(plain)), &[]), EncoderFitError::NoRows);
    assert_eq!(fit(def("x", "X", None), &rows), EncoderFitError::NoEncoding);
    let gaps = numeric_rows(&[None, None]);
    assert_eq!(
        fit(def("x", "X", Some(plain)), &gaps),
        EncoderFitError::NoObservations(name.clone())
    );
    let log = number(NumberTransform::Log1p, NumberScaling::None);
    assert_eq!(fit(def("x", "X", Some(log)), &rows), EncoderFitError::BelowZero(name.clone()));
    let huge = numeric_rows(&[Some(-1e300), Some(1e300)]);
    assert_eq!(fit(def("x", "X", Some(plain)), &huge), EncoderFitError::NotFinite(name.clone()));
    let mut sensitive = def("x", "X", Some(plain));
    sensitive.sensitivity = Sensitivity::Sensitive;
    assert_eq!(fit(sensitive, &rows), EncoderFitError::Sensitive(name));
    let many: Vec<String> = (0..2000).map(|i| format!("c{i}")).collect();
    let every = FeatureEncoding::OneHot { floor: 0.0, weight: 1.0 };
    let encoder =
        FeatureEncoder::fit(&[def("x", "X", Some(every))], &category_rows(&many)).unwrap();
    assert_eq!(encoder.width(), 256, "the most common categories, and one column for the others");
}

/// Of 1,100 numbers, those that are most often the same are left out.
#[test]
fn too_many_columns_are_reduced_to_the_most_varied() {
    let plain = number(NumberTransform::None, NumberScaling::Standard);
    let defs: Vec<FeatureDefinition> =
        (0..1100).map(|i| def(&format!("x{i}"), "X", Some(plain))).collect();
    // Feature i is 1 in the first i rows of 1,200, else 0: the last ones vary least.
    let rows: Vec<FeatureRow> = (0..1200)
        .map(|row| {
            let value = |i: usize| FeatureValue::Number(f64::from(u8::from(row < i / 2)));
            FeatureRow((0..1100).map(value).collect())
        })
        .collect();
    let encoder = FeatureEncoder::fit(&defs, &rows).unwrap();
    assert_eq!(encoder.width(), 1024);
    assert_eq!(&*encoder.columns()[0].name, "x76");
}

/// A rare flag, a heavy tail and a plain number.
#[test]
fn the_automatic_transform_tames_extremes_only() {
    let automatic = number(NumberTransform::Automatic, NumberScaling::Standard);
    let mut rng = RandomStream::new(5, 0);
    let rows: Vec<FeatureRow> = (0..2000)
        .map(|row| {
            let spend = if row == 7 { 9e11 } else { (4.0 + rng.standard_normal()).exp() };
            let flag = f64::from(u8::from(row % 1000 == 3));
            FeatureRow([rng.standard_normal(), spend, flag].map(FeatureValue::Number).to_vec())
        })
        .collect();
    let defs = ["plain", "spend", "flag"].map(|name| def(name, name, Some(automatic)));
    let encoder = FeatureEncoder::fit(&defs, &rows).unwrap();
    let mut columns = vec![[0.0_f32; 3]; rows.len()];
    for (row, column) in rows.iter().zip(&mut columns) {
        encoder.encode(row, column);
    }
    for feature in 0..3 {
        let largest = columns.iter().map(|column| column[feature].abs()).fold(0.0, f32::max);
        assert!(largest < 10.001, "{feature}: {largest}");
    }
    // The order of the customers is kept, and the flag still differs.
    assert!(columns[7][1] > 4.0 && columns[3][2] - columns[4][2] > 5.0);
    let plainly = FeatureEncoder::fit(
        &[def("plain", "plain", Some(number(NumberTransform::None, NumberScaling::Standard)))],
        &rows.iter().map(|row| FeatureRow(row.0[..1].to_vec())).collect::<Vec<_>>(),
    )
    .unwrap();
    let mut alone = [0.0];
    plainly.encode(&FeatureRow(rows[0].0[..1].to_vec()), &mut alone);
    assert!((alone[0] - columns[0][0]).abs() < 1e-6);
}

#[test]
fn a_feature_without_a_value_is_left_out() {
    let defs = ["seen", "unseen"]
        .map(|name| def(name, name, Some(number(NumberTransform::None, NumberScaling::Standard))));
    let rows = [1.0, 3.0].map(|x| FeatureRow(vec![FeatureValue::Number(x), FeatureValue::Missing]));
    let encoder = FeatureEncoder::fit(&defs, &rows).unwrap();
    let columns: Vec<&str> = encoder.columns().iter().map(|column| &*column.name).collect();
    assert_eq!(columns, ["seen"]);
}

fn any_value() -> impl Strategy<Value = FeatureValue> {
    prop_oneof![
        Just(FeatureValue::Missing),
        any::<f64>().prop_map(FeatureValue::Number),
        (-100.0..100.0_f64).prop_map(FeatureValue::Number),
        "[a-d]{0,2}".prop_map(|text| FeatureValue::Category(text.into())),
    ]
}

fn any_number_encoding() -> impl Strategy<Value = FeatureEncoding> {
    let missing = prop_oneof![
        Just(MissingValueRule::Median),
        (-5.0..5.0_f64).prop_map(MissingValueRule::Constant)
    ];
    let transform = prop_oneof![Just(NumberTransform::None), Just(NumberTransform::YeoJohnson)];
    let scale = prop_oneof![
        Just(NumberScaling::None),
        Just(NumberScaling::Standard),
        Just(NumberScaling::Robust),
        Just(NumberScaling::MinMax)
    ];
    let winsorise = prop::option::of((0.0..0.5_f64, 0.5..=1.0_f64));
    (missing, any::<bool>(), winsorise, transform, scale, 0.0..1000.0_f64).prop_map(
        |(missing, missing_flag, winsorise, transform, scale, weight)| FeatureEncoding::Number {
            missing,
            missing_flag,
            winsorise,
            transform,
            scale,
            weight,
        },
    )
}

proptest! {
    #[test]
    fn every_row_encodes_to_finite_numbers(
        encoding in any_number_encoding(),
        fit in prop::collection::vec(prop_oneof![-1e9..1e9_f64, Just(0.0)], 1..40),
        row in prop::collection::vec(any_value(), 0..4),
    ) {
        let defs = [
            def("x", "X", Some(encoding)),
            def("c", "C", Some(FeatureEncoding::OneHot { floor: 0.2, weight: 3.0 })),
        ];
        let rows: Vec<FeatureRow> = fit
            .iter()
            .map(|x| FeatureRow(vec![FeatureValue::Number(*x), FeatureValue::Category("a".into())]))
            .collect();
        let encoder = FeatureEncoder::fit(&defs, &rows).unwrap();
        let out = encoded(&encoder, &FeatureRow(row));
        prop_assert!(out.iter().all(|x| x.abs() <= MAX_ENCODED), "{out:?}");
    }

    #[test]
    fn an_encoder_survives_its_document(rows in 5..60_usize, seed in any::<u64>()) {
        let rows = shoppers(rows, seed);
        let encoder = FeatureEncoder::fit(&shop_features(), &rows).unwrap();
        let text = serde_json::to_string(&encoder).unwrap();
        let read: FeatureEncoder = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &encoder);
        prop_assert_eq!(encoded(&read, &rows[0]), encoded(&encoder, &rows[0]));
    }
}
