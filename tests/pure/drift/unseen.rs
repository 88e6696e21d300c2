//! A value that training never had is a finding, however many rows training had; and values
//! that a sample merely missed are none.

use proptest::prelude::*;
use segmentd::domain::drift::output_shift::RowCount;
use segmentd::domain::drift::{
    ComparedQuantity, DesignEffects, DriftCheck, DriftFinding, DriftLimits, Severity, UnseenShare,
    check_window,
};
use segmentd::domain::feature::{
    FeatureDefinition, FeatureEncoding, FeatureRow, FeatureValue, NumberScaling, NumberTransform,
};
use segmentd::domain::model::{FeatureBins, Model, SeenValues, ValueRepeats};
use segmentd::domain::stats::RandomStream;
use serde::Deserialize;

use crate::drift::check::window_of;
use crate::feature::support::data;
use crate::model::support::{def, normal, number, spec, train};

/// The index of each feature of a visit.
const SPEND: usize = 0;
const ERRORS: usize = 1;
const CHANNEL: usize = 2;
const CITY: usize = 3;
const ITEMS: usize = 4;

fn features() -> Vec<FeatureDefinition> {
    let plain = || Some(number(NumberTransform::None, NumberScaling::Standard));
    vec![
        def("spend", "Spend", plain()),
        def("errors", "Errors", None),
        def("channel", "Channel", Some(FeatureEncoding::OneHot { floor: 0.01, weight: 1.0 })),
        def("city", "City", None),
        def("items", "Items", None),
    ]
}

/// Visits by two kinds of customers, without errors, on one channel, from 120 cities, of a few
/// items.
fn visits(rows: usize, seed: u64) -> Vec<FeatureRow> {
    let mut rng = RandomStream::new(seed, 0);
    let visit = |_| {
        let kind = if rng.uniform_unit() < 0.5 { 10.0 } else { 40.0 };
        FeatureRow(vec![
            FeatureValue::Number(kind + 3.0 * normal(&mut rng)),
            FeatureValue::Number(0.0),
            FeatureValue::Category("web".into()),
            FeatureValue::Category(format!("city {}", rng.uniform_below(120)).into()),
            FeatureValue::Number(f64::from(rng.uniform_below(5) as u32)),
        ])
    };
    (0..rows).map(visit).collect()
}

fn model_of(rows: usize) -> Model {
    train(spec(2), &features(), &visits(rows, 1)).unwrap().model
}

/// A window of new visits, in which a share of the rows has another value of one feature.
fn changed(rows: usize, place: usize, share: f64, value: &FeatureValue) -> Vec<FeatureRow> {
    let mut rows = visits(rows, 77);
    let changed = share * rows.len() as f64;
    for (_, row) in rows.iter_mut().enumerate().take_while(|(index, _)| (*index as f64) < changed) {
        row.0[place] = value.clone();
    }
    rows
}

fn checked(model: &Model, rows: &[FeatureRow]) -> DriftCheck {
    let limits = DriftLimits { minimum_rows: 50, ..DriftLimits::default() };
    check_window(model, &window_of(model, rows, 0.01), &limits).unwrap()
}

fn about<'c>(check: &'c DriftCheck, feature: &str) -> Vec<&'c DriftFinding> {
    check.findings.iter().filter(|one| one.feature.as_deref() == Some(feature)).collect()
}

#[test]
fn a_new_value_is_found_beside_any_number_of_training_rows() {
    for training_rows in [1000, 20_000, 200_000] {
        let model = model_of(training_rows);
        for (place, name, value) in [
            (ERRORS, "errors", FeatureValue::Number(1.0)),
            (CHANNEL, "channel", FeatureValue::Category("app".into())),
            (CITY, "city", FeatureValue::Category("Atlantis".into())),
            (SPEND, "spend", FeatureValue::Number(400.0)),
            (ITEMS, "items", FeatureValue::Number(2.5)),
        ] {
            for (rows, share) in [(400, 1.0), (400, 0.12), (1000, 0.06)] {
                let check = checked(&model, &changed(rows, place, share, &value));
                let found = about(&check, name);
                assert_eq!(found.len(), 1, "{name}, {share} of {rows}: {:#?}", check.tests);
                let expected = if share < 0.11 { Severity::Warning } else { Severity::Critical };
                assert!(found[0].severity >= expected, "{:?}", found[0]);
                assert!(found[0].description().starts_with(&*found[0].title), "{:?}", found[0]);
                assert_eq!(check.findings.iter().filter(|one| one.feature.is_some()).count(), 1);
            }
        }
    }
}

#[test]
fn a_value_that_was_rare_at_training_is_found_when_it_is_frequent() {
    let mut rows = visits(20_000, 1);
    rows[0].0[CHANNEL] = FeatureValue::Category("app".into());
    rows[1].0[ERRORS] = FeatureValue::Number(1.0);
    let model = train(spec(2), &features(), &rows).unwrap().model;
    for (place, name, value) in [
        (ERRORS, "errors", FeatureValue::Number(1.0)),
        (CHANNEL, "channel", FeatureValue::Category("app".into())),
    ] {
        let check = checked(&model, &changed(400, place, 0.2, &value));
        let found = about(&check, name);
        assert_eq!(found.len(), 1, "{:#?}", check.tests);
        assert_eq!(
            (found[0].about, found[0].severity),
            (ComparedQuantity::Rare, Severity::Critical)
        );
        let unseen = check.features[place].unseen.unwrap();
        assert!(unseen.now == 0.0 && unseen.p_value > 0.9, "{unseen:?}");
    }
}

#[test]
fn every_feature_has_a_test_and_nothing_is_found_without_a_change() {
    let model = model_of(3000);
    let mut findings = 0;
    for seed in 100..200 {
        let check = checked(&model, &visits(500, seed));
        for feature in ["spend", "errors", "channel", "city", "items"] {
            let is_of_values =
                |about| matches!(about, ComparedQuantity::Values | ComparedQuantity::Unseen);
            let mut tests =
                check.tests.iter().filter(|test| test.feature.as_deref() == Some(feature));
            assert!(tests.any(|test| is_of_values(test.about)), "{feature}");
        }
        findings += usize::from(!check.findings.is_empty());
    }
    // The level allows one window in a hundred; all windows share the training rows.
    assert!(findings <= 4, "{findings} of 100 windows have a finding");
}

#[test]
fn the_sentence_says_what_is_new() {
    let model = model_of(2000);
    let describe = |place, share, value: FeatureValue| {
        let check = checked(&model, &changed(1000, place, share, &value));
        let unseen = check.findings.iter().find(|one| one.about == ComparedQuantity::Unseen);
        unseen.unwrap_or_else(|| panic!("{:#?}", check.tests)).description()
    };
    let spend = describe(SPEND, 0.02, FeatureValue::Number(400.0));
    let start = "Spend left the range of training: in 2.0 % of the known cases it is not from ";
    assert!(spend.starts_with(start) && spend.ends_with(" units."), "{spend}");
    assert_eq!(
        describe(CITY, 0.02, FeatureValue::Category("Atlantis".into())),
        "City took categories that training never had: in 2.0 % of the known cases."
    );
    assert_eq!(
        describe(ITEMS, 0.02, FeatureValue::Number(2.5)),
        "Items took values that training never had: in 2.0 % of the known cases."
    );
}

#[test]
fn categories_that_are_not_counted_by_name_are_known_too() {
    let model = model_of(500);
    let city = &model.drift_baseline().features[CITY];
    let (FeatureBins::Categories(named), Some(SeenValues::Categories { others, .. })) =
        (&city.bins, &city.seen)
    else {
        panic!("{city:?}")
    };
    let distinct: std::collections::BTreeSet<_> =
        visits(500, 1).into_iter().map(|row| format!("{:?}", row.0[CITY])).collect();
    assert_eq!(named.counts.len() + others.len(), distinct.len());
}

#[derive(Deserialize)]
struct GoldenUnseen {
    kind: String,
    once: u64,
    twice: u64,
    before: u64,
    found: u64,
    rows: u64,
    expected: f64,
    p_value: f64,
}

#[derive(Deserialize)]
struct Golden {
    unseen: Vec<GoldenUnseen>,
}

#[test]
fn the_test_equals_scipy() {
    let golden = std::fs::read(data("golden/drift.json")).unwrap();
    let golden: Golden = serde_json::from_slice(&golden).unwrap();
    assert_eq!(golden.unseen.len(), 8);
    for one in golden.unseen {
        let repeats = ValueRepeats { once: one.once, twice: one.twice };
        let seen = match &*one.kind {
            "range" => SeenValues::Range { lowest: 0.0, highest: 1.0 },
            _ => SeenValues::Numbers { values: vec![0.0, 1.0], repeats },
        };
        let now = RowCount { counted: one.found, all: one.rows };
        let share = UnseenShare::of(&seen, one.before, now, DesignEffects::INDEPENDENT).unwrap();
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs().max(1e-300);
        assert!(close(share.expected, one.expected), "{} {}", share.expected, one.expected);
        let (p, expected) = (share.p_value, one.p_value);
        assert!((p.ln() - expected.ln()).abs() < 1e-6 || p == expected, "{p:e} {expected:e}");
    }
}

proptest! {
    /// More unseen rows are never less significant, and a probability stays one.
    #[test]
    fn more_unseen_rows_are_stronger_evidence(
        before in 2_u64..100_000,
        rows in 1_u64..5000,
        found in 0_u64..5000,
        once in 0_u64..200,
        twice in 0_u64..200,
    ) {
        let repeats = ValueRepeats { once, twice };
        for seen in [
            SeenValues::Range { lowest: 0.0, highest: 1.0 },
            SeenValues::Categories { others: vec![], repeats },
        ] {
            let p_value = |counted: u64| {
                let now = RowCount { counted: counted.min(rows), all: rows };
                UnseenShare::of(&seen, before, now, DesignEffects::INDEPENDENT).unwrap().p_value
            };
            let (one, more) = (p_value(found), p_value(found + 1));
            prop_assert!((0.0..=1.0).contains(&one));
            prop_assert!(more <= one * (1.0 + 1e-9), "{more} after {one}");
        }
    }
}
