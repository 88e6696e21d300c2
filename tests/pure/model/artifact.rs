//! The model artifact: documents of every released format open, altered ones are refused,
//! and no input makes reading or scoring panic.

use proptest::prelude::*;
use segmentd::domain::drift::{
    CountedRow, DeviationUnits, DriftLimits, WindowLayout, check_window,
    check_window_within_segments,
};
use segmentd::domain::feature::{FeatureRow, FeatureValue};
use segmentd::domain::id::ModelId;
use segmentd::domain::model::{ArtifactError, MAX_DOCUMENT_BYTES, Model, ScoringScratch};
use serde::Deserialize;

use crate::feature::support::data;
use crate::model::support::{shop_features, shop_model, shoppers, spec, train};

#[derive(Deserialize)]
struct Expected {
    row: Vec<serde_json::Value>,
    /// The nearest segment.
    segment: usize,
    reached: bool,
    runner_up: usize,
    distance: f32,
    p_value: f64,
    edge_p_value: f64,
}

fn row(cells: &[serde_json::Value]) -> FeatureRow {
    let value = |cell: &serde_json::Value| match (cell.as_f64(), cell.as_str()) {
        (Some(number), _) => FeatureValue::Number(number),
        (None, Some(text)) => FeatureValue::Category(text.into()),
        (None, None) => FeatureValue::Missing,
    };
    FeatureRow(cells.iter().map(value).collect())
}

/// The committed document opens under its content address, and scores as recorded.
fn opens_and_scores(name: &str, address: &str) -> Model {
    let read = |name: String| std::fs::read(data(&name)).unwrap();
    let bytes = read(format!("artifacts/{name}.json"));
    let model = Model::open_addressed(&bytes, &address.parse().unwrap()).unwrap();
    let expected: Vec<Expected> =
        serde_json::from_slice(&read(format!("artifacts/{name}.scores.json"))).unwrap();
    assert_eq!(expected.len(), 40);
    let mut scratch = model.scratch();
    for expected in expected {
        let score = model.score(&row(&expected.row), &mut scratch);
        assert_eq!((score.nearest, score.runner_up), (expected.segment, Some(expected.runner_up)));
        assert_eq!(score.is_within_radius, expected.reached);
        assert!((score.distance - expected.distance).abs() <= 1e-4 * (1.0 + expected.distance));
        assert!((score.p_value - expected.p_value).abs() <= 1.0 / 400.0);
        assert!((score.edge_p_value - expected.edge_p_value).abs() <= 1.0 / 400.0);
    }
    model
}

#[test]
fn format_1_opens_and_scores_as_it_did() {
    let shop = opens_and_scores(
        "v1/shop",
        "82bf8c1d1fd7fd00d677ff238cd7392ea96a0a0cca16b268e1121f0a011f9d1d",
    );
    assert!(shop.projection().is_none());
    let forms = opens_and_scores(
        "v1/every_part",
        "4f77af8602898da1e4ee7f54112b45e5bd263101b7cae1ab32d52e4e00286edb",
    );
    assert!(forms.decision_function().has_radius() && forms.projection().is_some());
    assert!(forms.decision_function().prototypes().count() > forms.segments().len());
}

#[test]
fn a_serialized_model_opens_as_the_same_model() {
    let trained = shop_model();
    let opened = Model::open(&trained.bytes).unwrap();
    assert_eq!(opened.id(), trained.model.id());
    assert_eq!(opened.id(), &ModelId::of(&trained.bytes));
    assert_eq!(opened.segments(), trained.model.segments());
    for row in shoppers(50, 3) {
        let (mut a, mut b) = (ScoringScratch::default(), ScoringScratch::default());
        assert_eq!(opened.score(&row, &mut a), trained.model.score(&row, &mut b));
    }
    // The document contains neither rows of customers nor sensitive features.
    let document: serde_json::Value = serde_json::from_slice(&trained.bytes).unwrap();
    let tests = document["self_test"].as_array().unwrap();
    assert!(tests.len() >= 12);
    assert!(tests.iter().all(|test| test["row"][5].is_null()));
    let spent: Vec<f64> = tests.iter().map(|test| test["row"][0].as_f64().unwrap()).collect();
    let same = shoppers(2000, 1).iter().any(|shopper| {
        tests.iter().zip(&spent).any(|(test, spent)| {
            shopper.0[0] == FeatureValue::Number(*spent)
                && shopper.0[1] == FeatureValue::Number(test["row"][1].as_f64().unwrap())
        })
    });
    assert!(!same);
}

/// The document with one value changed.
fn altered(bytes: &[u8], pointer: &str, to: serde_json::Value) -> Vec<u8> {
    let mut document: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    *document.pointer_mut(pointer).unwrap() = to;
    serde_json::to_vec(&document).unwrap()
}

#[test]
fn altered_documents_are_refused() {
    let bytes = shop_model().bytes;
    let open = |pointer: &str, to: serde_json::Value| {
        Model::open(&altered(&bytes, pointer, to)).unwrap_err()
    };
    assert!(matches!(open("/format", 2.into()), ArtifactError::Format(2)));
    assert!(matches!(
        open("/decision_function/prototypes/values/0", 1.5.into()),
        ArtifactError::SelfTest { .. }
    ));
    assert!(matches!(
        open("/encoder/codes/0/number/spread", 9.0.into()),
        ArtifactError::SelfTest { .. }
    ));
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let second = &document["segments"][1];
    for (pointer, to) in [
        ("/encoder/codes/0/number/spread", serde_json::json!(0.0)),
        ("/encoder/codes/0/number/feature", 77.into()),
        ("/encoder/codes/0/number/feature", 5.into()),
        ("/encoder/codes/2/number/clip", serde_json::json!([5.0, 1.0])),
        ("/encoder/columns", serde_json::json!([])),
        ("/decision_function/prototypes/width", 3.into()),
        ("/decision_function/prototypes/width", 0.into()),
        ("/decision_function/prototypes/values/0", serde_json::json!(1e30)),
        ("/limits/scales/0", serde_json::json!(-1.0)),
        ("/limits/category_of/0", 40.into()),
        ("/limits/categories/0/rows", 0.into()),
        ("/segments/0/id", "s1".into()),
        ("/segments/0/id", "seg_".into()),
        ("/segments/0/id", "seg_A".into()),
        ("/segments/0/id", format!("seg_{}", "a".repeat(33)).into()),
        ("/segments/0/id", second["id"].clone()),
        ("/segments/0/name", second["name"].clone()),
        ("/segments/0/name", "".into()),
        ("/segments/0/share", serde_json::json!(1.5)),
        ("/segments/0/profile/0/feature", 5.into()),
        ("/segments/0/standouts/0/feature", 99.into()),
        ("/drift_baseline/segments", serde_json::json!([1])),
        ("/drift_baseline/features/0/bins/numbers/cuts/0", serde_json::json!(1e9)),
        (
            "/drift_baseline/within/1",
            serde_json::json!({
                "means": [], "deviations": [], "distance_mean": 1.0, "distance_deviation": 1.0,
            }),
        ),
        ("/drift_baseline/within/0/means", serde_json::json!([1.0])),
        ("/drift_baseline/within/0/means/0", serde_json::json!(1e35)),
        ("/drift_baseline/within/0/deviations/0", serde_json::json!(-0.5)),
        ("/drift_baseline/within/0/distance_deviation", serde_json::json!(-0.5)),
        ("/outlier_reference/surprise/0", serde_json::json!(-1.0)),
        ("/outlier_reference/dependence_tree/groups", serde_json::json!([])),
        ("/outlier_reference/dependence_tree/groups/0", 3.into()),
        ("/outlier_reference/dependence_tree/groups/31", 4.into()),
        ("/outlier_reference/dependence_tree/edges", serde_json::json!([])),
        ("/outlier_reference/dependence_tree/edges/0", serde_json::json!([1, 1])),
        ("/outlier_reference/dependence_tree/edges/0", serde_json::json!([0, 8])),
        ("/outlier_reference/dependence_tree/surprise", serde_json::json!([0.0])),
        ("/outlier_reference/dependence_tree/surprise/0", serde_json::json!(-1e7)),
        ("/outlier_reference/column_factors", serde_json::json!([1.0])),
        ("/outlier_reference/column_factors/0", serde_json::json!(0.0)),
        ("/outlier_reference/column_factors/0", serde_json::json!(1e30)),
        ("/outlier_reference/cells/values/0", serde_json::json!(1e30)),
        ("/self_test", serde_json::json!([])),
        ("/self_test/0/row", serde_json::json!([1])),
    ] {
        let refused = open(pointer, to);
        assert!(matches!(refused, ArtifactError::Shape(_)), "{pointer}: {refused}");
    }
    assert!(matches!(open("/segments", serde_json::json!([])), ArtifactError::Shape(_)));
    let added = open("/provenance", serde_json::json!({"extra": 1}));
    assert!(matches!(added, ArtifactError::Unreadable(_)));

    let long = vec![b' '; MAX_DOCUMENT_BYTES + 1];
    assert!(matches!(Model::open(&long), Err(ArtifactError::TooLong(_))));
    let other = ModelId::of(b"other");
    let mixed_up = Model::open_addressed(&bytes, &other);
    assert!(matches!(mixed_up, Err(ArtifactError::Address { .. })));
}

/// Opens any document, and scores with it if it opens.
fn exercise(bytes: &[u8]) {
    let Ok(model) = Model::open(bytes) else { return };
    let mut scratch = model.scratch();
    let layout = WindowLayout::of(&model);
    let yardstick = DeviationUnits::of(&model);
    let mut inside = yardstick.as_ref().map(|by| (by, by.empty()));
    let mut window = layout.empty();
    for row in shoppers(3, 1).into_iter().chain([FeatureRow(vec![])]) {
        let score = model.score(&row, &mut scratch);
        assert!(score.distance.is_finite());
        assert!(score.p_value > 0.0 && score.p_value <= 1.0);
        assert!((0.0..=1.0).contains(&score.confidence()));
        assert!(model.explain_score(&row, &score).iter().all(|reason| reason.share.is_finite()));
        assert!(!model.edge_distance_limit(score.nearest, 0.01).is_nan());
        layout.count_row(&mut window, &CountedRow::new(&row, &score, score.is_outlier(0.01)));
        if let Some((by, inside)) = &mut inside {
            by.count_row(inside, &model, &score, &scratch);
        }
    }
    let limits = DriftLimits { minimum_rows: 1, ..DriftLimits::default() };
    let check = match &inside {
        None => check_window(&model, &window, &limits).unwrap(),
        Some((by, inside)) => {
            check_window_within_segments(&model, &window, by, inside, &limits).unwrap()
        }
    };
    let within = check.within.iter().flat_map(|within| &within.features);
    assert!(within.into_iter().all(|feature| feature.d.is_finite()));
    assert!(check.tests.iter().all(|test| (0.0..=1.0).contains(&test.adjusted_p_value)));
}

/// The JSON pointers of all values in the document.
fn places(value: &serde_json::Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    match value {
        serde_json::Value::Object(map) => {
            for (key, inside) in map {
                places(inside, &format!("{here}/{key}"), found);
            }
        }
        serde_json::Value::Array(items) => {
            for (index, inside) in items.iter().enumerate() {
                places(inside, &format!("{here}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn small_model() -> &'static (Vec<u8>, Vec<String>) {
    static MODEL: std::sync::LazyLock<(Vec<u8>, Vec<String>)> = std::sync::LazyLock::new(|| {
        let bytes = train(spec(3), &shop_features(), &shoppers(220, 1)).unwrap().bytes;
        let mut found = Vec::new();
        places(&serde_json::from_slice(&bytes).unwrap(), "", &mut found);
        (bytes, found)
    });
    &MODEL
}

fn nasty() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        Just(serde_json::Value::Null),
        any::<f64>().prop_map(|x| serde_json::json!(x)),
        (-3..4_i8).prop_map(serde_json::Value::from),
        any::<u64>().prop_map(serde_json::Value::from),
        Just(serde_json::json!(1e38)),
        Just(serde_json::json!([])),
        Just(serde_json::json!({})),
        "[a-z]{0,3}".prop_map(serde_json::Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_altered_document_panics(place in any::<prop::sample::Index>(), to in nasty()) {
        let (bytes, places) = small_model();
        exercise(&altered(bytes, place.get::<String>(places), to));
    }

    #[test]
    fn no_altered_bytes_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = small_model().0.clone();
        for (place, byte) in edits {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        exercise(&bytes);
    }

    #[test]
    fn no_swapped_parts_panic(
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        let (bytes, places) = small_model();
        let document: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let part = document.pointer(from.get::<String>(places)).unwrap().clone();
        exercise(&altered(bytes, to.get::<String>(places), part));
    }
}
