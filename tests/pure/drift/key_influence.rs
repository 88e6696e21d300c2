//! Rows of one API key, in any number, neither cause a rollback nor prevent one.

use std::sync::LazyLock;

use proptest::prelude::*;
use segmentd::domain::deployment::policy::ProbationLimits;
use segmentd::domain::deployment::probation::{ProbationVerdict, judge_answers};
use segmentd::domain::drift::{
    ApiKeyChecks, ComparedQuantity, DecisiveKey, DriftFinding, DriftLimits, DriftWindow,
    MAX_COUNTED_KEYS, OTHER_KEYS, OverTime, TimeDependence, WindowLayout, WindowsByKey,
    check_by_key, check_window, mark_decisive_keys,
};
use segmentd::domain::feature::{FeatureRow, FeatureValue};
use segmentd::domain::model::Model;

use crate::drift::check::window_of;
use crate::model::support::{shop_model, shoppers};

const ALPHA: f64 = 0.01;
/// Rows of each of the two windows below.
const ROWS: u64 = 400;

struct Shop {
    model: Model,
    usual: DriftWindow,
    absurd: DriftWindow,
}

static SHOP: LazyLock<Shop> = LazyLock::new(|| {
    let model = shop_model().model;
    let usual = shoppers(400, 5);
    let absurd: Vec<FeatureRow> = shoppers(400, 5).into_iter().map(far_off).collect();
    let [usual, absurd] = [&usual, &absurd].map(|rows| window_of(&model, rows, ALPHA));
    Shop { model, usual, absurd }
});

fn far_off(mut row: FeatureRow) -> FeatureRow {
    row.0[0] = FeatureValue::Number(1e6);
    row.0[1] = FeatureValue::Number(-500.0);
    row
}

#[test]
fn typical_rows_raise_no_finding() {
    let found = judged(&[(50, 0)]);
    assert_eq!(found, ProbationVerdict::Good);
    let outliers = checked(&[(50, 0)]).all.outliers.unwrap();
    assert!(outliers.now <= 0.015, "{outliers:?}");
}

/// The rows of a key: multiples of 400 usual and 400 absurd rows.
type Sent = (u64, u64);

fn window((usual, absurd): Sent) -> DriftWindow {
    let both = SHOP.usual.counts.iter().zip(&SHOP.absurd.counts);
    DriftWindow { counts: both.map(|(one, other)| one * usual + other * absurd).collect() }
}

fn by_key(all: &[Sent]) -> WindowsByKey {
    let mut by_key = WindowsByKey::default();
    for (number, sent) in all.iter().enumerate() {
        by_key.add(&format!("key{number}"), &window(*sent)).unwrap();
    }
    by_key
}

fn checked(all: &[Sent]) -> ApiKeyChecks {
    let floor = ProbationLimits::default().minimum_rows;
    let (dependence, limits) = (TimeDependence::default(), DriftLimits::default());
    let over_time = OverTime { dependence: &dependence, window_hours: 24 };
    check_by_key(&SHOP.model, &by_key(all), over_time, floor, &limits).unwrap()
}

fn judged(all: &[Sent]) -> ProbationVerdict {
    judge_answers(&ProbationLimits::default(), &checked(all), None)
}

fn is_bad(answers: &ProbationVerdict) -> bool {
    matches!(answers, ProbationVerdict::Bad { .. })
}

/// Any rows; up to 200,000 times as many as of another key.
fn anything() -> impl Strategy<Value = Sent> {
    (0..200_000_u64, 0..200_000_u64).prop_filter("something", |(a, b)| a + b > 0)
}

/// Keys without unusual rows.
fn content() -> impl Strategy<Value = Sent> {
    (1..40_u64).prop_map(|usual| (usual, 0))
}

/// Keys with at least a fifth of absurd rows.
fn suffering() -> impl Strategy<Value = Sent> {
    (3..12_u64).prop_flat_map(|usual| (Just(usual), (usual / 4 + 1)..20))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn one_key_cannot_take_a_good_model_back(
        mut all in prop::collection::vec(content(), 0..5),
        one in anything(),
        place in any::<prop::sample::Index>(),
    ) {
        all.insert(place.index(all.len() + 1), one);
        prop_assert!(!is_bad(&judged(&all)), "{all:?}");
    }

    #[test]
    fn one_key_cannot_keep_a_bad_model(
        mut all in prop::collection::vec(suffering(), 3..6),
        one in anything(),
        place in any::<prop::sample::Index>(),
    ) {
        prop_assert!(is_bad(&judged(&all)), "{all:?}");
        all.insert(place.index(all.len() + 1), one);
        prop_assert!(is_bad(&judged(&all)), "{all:?}");
    }

    /// If a model is rolled back, then the rows without any single key justify the rollback
    /// too.
    #[test]
    fn the_others_must_say_so_without_any_one(all in prop::collection::vec(anything(), 1..6)) {
        if is_bad(&judged(&all)) {
            for place in 0..all.len() {
                let mut others = all.clone();
                others.remove(place);
                let alone = checked(&others).all;
                let found = alone.outliers.is_some_and(|outliers| outliers.now >= 3.0 * ALPHA);
                prop_assert!(found, "{all:?} without {place}");
            }
        }
    }

    #[test]
    fn a_key_counts_for_no_more_than_all_others(all in prop::collection::vec(anything(), 2..6)) {
        let layout = WindowLayout::of(&SHOP.model);
        let keys = by_key(&all);
        let rows = |window: &DriftWindow| *window.counts.last().unwrap();
        let capped = rows(&keys.capped(&layout, 0).unwrap());
        let largest = all.iter().map(|(a, b)| ROWS * (a + b)).max().unwrap();
        let whole = rows(&keys.sum(&layout).unwrap());
        prop_assert_eq!(whole, all.iter().map(|(a, b)| ROWS * (a + b)).sum::<u64>());
        // Other keys can also be large enough to be capped.
        prop_assert!(capped <= whole && capped >= (whole - largest).min(largest));
        prop_assert!(capped <= 2 * (whole - largest) || largest <= whole - largest);
    }
}

#[test]
fn rows_of_the_only_key_are_reported_and_decide_nothing() {
    match judged(&[(0, 3)]) {
        ProbationVerdict::BadBecauseOfOneKey { key, why } => {
            assert_eq!((&*key.key, key.rows), ("key0", 1200));
            assert!(why.contains("are outliers"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(judged(&[(3, 0)]), ProbationVerdict::Good);
    assert_eq!(
        judge_answers(&ProbationLimits::default(), &checked(&[]), None),
        ProbationVerdict::Good
    );
}

#[test]
fn a_key_hidden_by_another_key_is_detected() {
    // All rows together are fine; those of the smaller key are not.
    match judged(&[(400, 0), (10, 3)]) {
        ProbationVerdict::BadBecauseOfOneKey { key, .. } => assert_eq!(&*key.key, "key1"),
        other => panic!("{other:?}"),
    }
}

/// A key that always sends absurd rows excuses no model.
#[test]
fn rows_that_one_key_sent_to_the_previous_model_excuse_nothing() {
    let before = checked(&[(10, 0), (10, 0), (0, 500)]);
    let now = checked(&[(8, 2), (8, 2), (8, 2)]);
    assert!(is_bad(&judge_answers(&ProbationLimits::default(), &now, Some(&before))));
    let all_were_so = checked(&[(8, 2), (8, 2), (8, 2)]);
    assert_eq!(
        judge_answers(&ProbationLimits::default(), &now, Some(&all_were_so)),
        ProbationVerdict::Good
    );
}

#[test]
fn keys_beyond_the_limit_are_counted_together() {
    let sent: Vec<Sent> = (0..50).map(|key| (1 + key, 0)).collect();
    let bounded = by_key(&sent).bounded().unwrap();
    let shares = bounded.shares();
    assert_eq!(shares.len(), MAX_COUNTED_KEYS);
    assert_eq!(bounded.rows(), by_key(&sent).rows());
    let rest = shares.iter().find(|share| *share.key == *OTHER_KEYS).unwrap();
    assert_eq!(rest.rows, ROWS * (1..=19).sum::<u64>());
}

/// The key that the finding about outliers rests on.
fn decisive_key(all: &[Sent]) -> Option<DecisiveKey> {
    let keys = by_key(all);
    let sum = keys.sum(&WindowLayout::of(&SHOP.model)).unwrap();
    let mut found = check_window(&SHOP.model, &sum, &DriftLimits::default()).unwrap();
    let (dependence, limits) = (TimeDependence::default(), DriftLimits::default());
    let over_time = OverTime { dependence: &dependence, window_hours: 24 };
    mark_decisive_keys(&mut found, &SHOP.model, &keys, over_time, &limits).unwrap();
    let outliers = |one: &&DriftFinding| one.about == ComparedQuantity::Outliers;
    found.findings.iter().find(outliers).unwrap().decisive_key.clone()
}

#[test]
fn a_finding_names_the_key_it_decisive_key_and_whether_others_contradict() {
    let one_among_several = decisive_key(&[(3, 0), (0, 6), (3, 0)]).unwrap();
    assert_eq!((&*one_among_several.key.key, one_among_several.is_contradicted), ("key1", true));
    let text = one_among_several.describe();
    assert_eq!(
        text,
        "50 % of the rows came from key key1; the rows of the other keys do not show it"
    );
    let the_only_one = decisive_key(&[(0, 6)]).unwrap();
    assert_eq!(the_only_one.describe(), "100 % of the rows came from key key0");
    assert!(!the_only_one.is_contradicted);
    assert_eq!(decisive_key(&[(3, 3), (2, 2), (3, 3)]), None, "all callers show it");
}
