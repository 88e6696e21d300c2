//! Drift within one segment is found there, reported once, and not found without a change.

use segmentd::domain::drift::{
    ComparedQuantity, CountedRow, DeviationUnits, DriftCheck, DriftFinding, DriftLimits,
    DriftWindow, MINIMUM_SEGMENT_ROWS, SegmentFeatureChange, SegmentSums, Severity, WindowLayout,
    WindowLengthError, check_window, check_window_within_segments, finding_facts,
};
use segmentd::domain::feature::{
    FeatureDefinition, FeatureEncoding, FeatureRow, FeatureValue, NumberScaling, NumberTransform,
};
use segmentd::domain::model::Model;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::TrainingSpec;
use segmentd::domain::train::evaluation::stability::StabilityTrials;

use crate::feature::support::data;
use crate::model::support::{def, normal, number, shop_model, shoppers, spec, train};

const FEATURES: usize = 20;
/// The features that separate the kinds, one for each kind.
const KINDS: usize = 5;
const SHARES: [f64; KINDS] = [0.3, 0.25, 0.2, 0.15, 0.1];
/// The kind that changes: a fifth of all customers.
const CHANGED: usize = 2;
/// The features that change: a plain number, a log-transformed one, and a category.
const PLAIN: usize = 7;
const LOGGED: usize = 11;
const CATEGORY: usize = 17;

/// The change, within one kind only.
#[derive(Debug, Clone, Copy, Default)]
struct Change {
    /// The shift of the plain and of the log-transformed number, in standard deviations.
    shift: f64,
    /// The share that moves from the first category to the last.
    mix: f64,
}

fn features() -> Vec<FeatureDefinition> {
    let weighed =
        |weight, missing_flag| match number(NumberTransform::None, NumberScaling::Standard) {
            FeatureEncoding::Number { missing, winsorise, transform, scale, .. } => {
                FeatureEncoding::Number {
                    missing,
                    missing_flag,
                    winsorise,
                    transform,
                    scale,
                    weight,
                }
            }
            other @ FeatureEncoding::OneHot { .. } => other,
        };
    let encoding = |place: usize| match place {
        0..KINDS => weighed(3.0, false),
        LOGGED => number(NumberTransform::Log1p, NumberScaling::Standard),
        CATEGORY | 18 => FeatureEncoding::OneHot { floor: 0.01, weight: 1.0 },
        19 => weighed(1.0, true),
        _ => number(NumberTransform::None, NumberScaling::Standard),
    };
    (0..FEATURES)
        .map(|i| def(&format!("f{i}"), &format!("Feature {i}"), Some(encoding(i))))
        .collect()
}

/// Numbers that are hard for tests of means: skewed, nearly always 0, counts, often
/// missing.
fn customers(rng: &mut RandomStream, rows: usize, change: Change) -> Vec<FeatureRow> {
    let mut row = || {
        let kind = rng.weighted_index(&SHARES, 1.0);
        let Change { shift, mix } = if kind == CHANGED { change } else { Change::default() };
        let value = |place: usize| match place {
            0..KINDS if place == kind => FeatureValue::Number(6.0 + normal(rng)),
            PLAIN => FeatureValue::Number(40.0 + 10.0 * (shift + normal(rng))),
            LOGGED => FeatureValue::Number((4.0 + 0.5 * (shift + normal(rng))).exp()),
            12 => FeatureValue::Number((2.0 + normal(rng)).exp()),
            13 => FeatureValue::Number(if rng.uniform_below(25) == 0 { 1.0 } else { 0.0 }),
            14 => {
                FeatureValue::Number((0..6).filter(|_| rng.uniform_below(10) == 0).count() as f64)
            }
            15 if rng.uniform_below(10) < 6 => FeatureValue::Number(0.0),
            15 => FeatureValue::Number((1.0 + normal(rng)).exp()),
            CATEGORY => category(rng, &[0.5 - mix, 0.25, 0.15, 0.1 + mix]),
            18 => category(rng, &[0.6, 0.3, 0.05, 0.03, 0.02]),
            19 if rng.uniform_below(10) == 0 => FeatureValue::Missing,
            _ => FeatureValue::Number(normal(rng)),
        };
        FeatureRow((0..FEATURES).map(value).collect())
    };
    (0..rows).map(|_| row()).collect()
}

fn category(rng: &mut RandomStream, weights: &[f64]) -> FeatureValue {
    FeatureValue::Category(format!("c{}", rng.weighted_index(weights, 1.0)).into())
}

fn model_of(rng: &mut RandomStream) -> Model {
    trained_on(&customers(rng, 3000, Change::default()))
}

fn trained_on(rows: &[FeatureRow]) -> Model {
    let stability = StabilityTrials { bootstraps: 0, seeds: 0, ..StabilityTrials::default() };
    let spec = TrainingSpec { starts: 2, stability, ..spec(KINDS) };
    train(spec, &features(), rows).unwrap().model
}

/// The expected window of these rows.
fn counted(model: &Model, by: &DeviationUnits, rows: &[FeatureRow]) -> (DriftWindow, SegmentSums) {
    let layout = WindowLayout::of(model);
    let (mut window, mut inside, mut scratch) = (layout.empty(), by.empty(), model.scratch());
    for row in rows {
        let score = model.score(row, &mut scratch);
        layout.count_row(&mut window, &CountedRow::new(row, &score, score.is_outlier(0.01)));
        by.count_row(&mut inside, model, &score, &scratch);
    }
    (window, inside)
}

fn checked(model: &Model, rows: &[FeatureRow], limits: &DriftLimits) -> DriftCheck {
    let by = DeviationUnits::of(model).unwrap();
    let (window, inside) = counted(model, &by, rows);
    check_window_within_segments(model, &window, &by, &inside, limits).unwrap()
}

/// The segment with most customers of the changed kind.
fn changed_segment(model: &Model) -> usize {
    let mut rng = RandomStream::new(3, 3);
    let mut scratch = model.scratch();
    let mut counts = vec![0; model.segments().len()];
    for mut row in customers(&mut rng, 200, Change::default()) {
        for (place, value) in row.0.iter_mut().enumerate().take(KINDS) {
            *value = FeatureValue::Number(if place == CHANGED { 6.0 } else { 0.0 });
        }
        counts[model.score(&row, &mut scratch).nearest] += 1;
    }
    counts.iter().position(|count| *count == 200).unwrap()
}

fn within<'c>(check: &'c DriftCheck, feature: &str) -> Vec<&'c DriftFinding> {
    let is_of = |one: &&DriftFinding| {
        one.about == ComparedQuantity::Within && one.feature.as_deref() == Some(feature)
    };
    check.findings.iter().filter(is_of).collect()
}

/// Mean, standard deviation and distance of each segment equal those of its rows.
#[test]
fn training_records_the_moments_of_each_segment() {
    let mut rng = RandomStream::new(1, 1);
    let rows = customers(&mut rng, 3000, Change::default());
    let stability = StabilityTrials { bootstraps: 0, seeds: 0, ..StabilityTrials::default() };
    let spec = TrainingSpec { starts: 1, stability, ..spec(KINDS) };
    let model = train(spec, &features(), &rows).unwrap().model;
    let mut scratch = model.scratch();
    let mut members = vec![Vec::new(); KINDS];
    let mut vector = vec![0.0; model.encoder().width()];
    for row in &rows {
        let score = model.score(row, &mut scratch);
        model.encoder().encode(row, &mut vector);
        let all: Vec<f64> = vector.iter().copied().chain([score.distance]).map(f64::from).collect();
        members[score.segment().unwrap()].push(all);
    }
    for (within, members) in model.drift_baseline().within.iter().zip(members) {
        let n = members.len() as f64;
        for column in 0..=vector.len() {
            let values: Vec<f64> = members.iter().map(|row| row[column]).collect();
            let mean = values.iter().sum::<f64>() / n;
            let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
            let deviation = (squares / (n - 1.0)).sqrt();
            let (found_mean, found_deviation) = if column < vector.len() {
                (within.means[column], within.deviations[column])
            } else {
                (within.distance_mean, within.distance_deviation)
            };
            assert!((found_mean - mean).abs() <= 1e-9, "{column}: {found_mean}, {mean}");
            assert!((found_deviation - deviation).abs() <= 1e-7, "{column}: {found_deviation}");
        }
    }
    // The training rows themselves show no movement.
    let check = checked(&model, &rows, &DriftLimits::default());
    for within in &check.within {
        assert_eq!(within.rows_before, within.rows_now);
        assert!(within.movement.unwrap() < 1e-6, "{within:?}");
        assert!(within.distance.unwrap().d.abs() < 1e-6);
        assert!(within.features.iter().all(|feature| feature.d.abs() < 1e-6), "{within:?}");
    }
    assert!(check.findings.is_empty(), "{:?}", check.findings);
}

#[test]
fn sums_of_parts_equal_the_sum_of_the_whole() {
    let model = shop_model().model;
    let by = DeviationUnits::of(&model).unwrap();
    let rows = shoppers(600, 5);
    let (window, whole) = counted(&model, &by, &rows);
    let mut sum = counted(&model, &by, &rows[..250]).1;
    sum.merge(&counted(&model, &by, &rows[250..]).1).unwrap();
    assert_eq!(sum.rows, whole.rows);
    let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
    assert!(close(&sum.sums, &whole.sums) && close(&sum.squares, &whole.squares));
    let wrong = SegmentSums { rows: vec![0; 3], ..whole };
    assert_eq!(sum.merge(&wrong), Err(WindowLengthError { expected: 4, found: 3 }));
    assert!(
        check_window_within_segments(&model, &window, &by, &wrong, &DriftLimits::default())
            .is_err()
    );
}

#[test]
fn a_model_without_segment_moments_has_no_segment_drift() {
    let bytes = std::fs::read(data("artifacts/v1/shop.json")).unwrap();
    let model = Model::open(&bytes).unwrap();
    assert_eq!(DeviationUnits::of(&model), None);
    let layout = WindowLayout::of(&model);
    let check = check_window(&model, &layout.empty(), &DriftLimits::default()).unwrap();
    assert!(check.within.is_empty());
    let reported = serde_json::to_value(&check).unwrap();
    assert!(reported.get("within").is_none());
}

/// Five segments and twenty features, over days of customers like the training rows:
/// findings are rare.
#[test]
fn without_change_false_alarms_stay_below_the_promised_rate() {
    let (mut windows, mut found, mut certain) = (0, 0, 0);
    for size in [400, 1500] {
        for seed in 0..20 {
            let mut rng = RandomStream::new(seed, size as u64);
            let model = model_of(&mut rng);
            for _ in 0..10 {
                let rows = customers(&mut rng, size, Change::default());
                let check = checked(&model, &rows, &DriftLimits::default());
                let tests =
                    check.tests.iter().filter(|test| test.about == ComparedQuantity::Within);
                assert!(tests.clone().count() > 4 * FEATURES - 10);
                windows += 1;
                certain += usize::from(tests.clone().any(|test| test.adjusted_p_value <= 0.01));
                found += usize::from(tests.clone().any(|test| test.is_finding));
            }
        }
    }
    // At most 4 of 400 windows over all tests; with 2 standard deviations, 8. A significant
    // difference may be irrelevant.
    assert!(found <= 4 && certain <= 8, "{found} found and {certain} certain of {windows}");
}

/// Half a standard deviation within a fifth of the customers is a tenth over all: the first
/// is nearly always found, the second rarely.
#[test]
fn drift_in_one_segment_is_found_there_only() {
    let change = Change { shift: 0.5, mix: 0.0 };
    let (mut plain, mut logged, mut everybody, mut elsewhere) = (0, 0, 0, 0);
    for seed in 0..10 {
        let mut rng = RandomStream::new(seed, 77);
        let model = model_of(&mut rng);
        let segment = &model.segments()[changed_segment(&model)];
        for _ in 0..5 {
            let check =
                checked(&model, &customers(&mut rng, 1500, change), &DriftLimits::default());
            for finding in check.findings.iter().filter(|one| one.feature.is_some()) {
                let is_there = finding.segment.as_ref().map(|which| &which.id) == Some(&segment.id);
                match (finding.about, finding.feature.as_deref()) {
                    (ComparedQuantity::Within, Some("f7")) if is_there => plain += 1,
                    (ComparedQuantity::Within, Some("f11")) if is_there => logged += 1,
                    (ComparedQuantity::Values, Some("f7" | "f11")) => everybody += 1,
                    _ => elsewhere += 1,
                }
            }
        }
    }
    assert!(plain >= 48 && logged >= 48, "{plain} and {logged} of 50");
    assert!(everybody <= 20, "{everybody} of 100 over everybody");
    assert!(elsewhere <= 3, "{elsewhere} elsewhere");
}

#[test]
fn drift_in_a_segment_is_reported_in_its_unit_to_the_owner() {
    let mut rng = RandomStream::new(8, 1);
    let model = model_of(&mut rng);
    let segment = &model.segments()[changed_segment(&model)];
    let rows = customers(&mut rng, 3000, Change { shift: 1.0, mix: 0.3 });
    let check = checked(&model, &rows, &DriftLimits { psi: never(), ..DriftLimits::default() });
    let [plain] = within(&check, "f7")[..] else { panic!("{:#?}", check.findings) };
    assert_eq!(
        (plain.severity, plain.owner.as_deref()),
        (Severity::Critical, Some("crm@example.com"))
    );
    let description = plain.description();
    let start = format!("Feature 7 rose in the segment “{}”: by about ", segment.name);
    assert!(description.starts_with(&start), "{description}");
    assert!(description.ends_with(" times its usual spread there."), "{description}");
    assert!(plain.title().ends_with(&format!("in the segment “{}”", segment.name)));
    assert!(plain.advice.starts_with("crm@example.com: check whether"));
    let reported = finding_facts(&check, plain);
    assert!(reported.contains(&("Segment", format!("{} ({})", segment.name, segment.id))));
    assert!(reported.iter().any(|(name, _)| *name == "The segment's mean moved by"));

    // A standard deviation of 10 units each.
    let figures = &check.within[changed_segment(&model)];
    let of = |name: &str| figures.features.iter().find(|one| *one.feature == *name).unwrap();
    let SegmentFeatureChange::Number { in_unit: Some(moved) } = of("f7").moved else { panic!() };
    assert!((8.5..11.5).contains(&moved) && (0.85..1.15).contains(&of("f7").d), "{moved}");
    // Log-transformed: reported in standard deviations only.
    assert_eq!(of("f11").moved, SegmentFeatureChange::Number { in_unit: None });
    let [logged] = within(&check, "f11")[..] else { panic!() };
    assert!(
        (0.85..1.15).contains(&of("f11").d) && !logged.description().contains("about "),
        "{logged:?}"
    );
    // The share of a category among known values.
    let [mix] = within(&check, "f17")[..] else { panic!() };
    assert!(mix.description().contains(": c3 in 4"), "{}", mix.description());
    let SegmentFeatureChange::Category { share_before, share_now, .. } = of("f17").moved else {
        panic!()
    };
    assert!((share_before - 0.1).abs() < 0.04 && (share_now - 0.4).abs() < 0.06);
    let h = 2.0 * (share_now.sqrt().asin() - share_before.sqrt().asin());
    assert!((of("f17").d - h).abs() < 1e-12);

    // The mean of this segment has moved far more than by chance; no other has.
    for (place, within) in check.within.iter().enumerate() {
        let ratio = within.movement.unwrap() / within.movement_by_chance.unwrap();
        assert_eq!(ratio > 2.0, place == changed_segment(&model), "{ratio}");
    }
}

fn never() -> segmentd::domain::drift::SeverityThresholds {
    segmentd::domain::drift::SeverityThresholds { notice: 90.0, warning: 90.0, critical: 90.0 }
}

/// A changed unit of all customers is one finding, not one for each segment.
#[test]
fn drift_in_every_segment_is_reported_once() {
    let mut rng = RandomStream::new(4, 1);
    let model = model_of(&mut rng);
    let mut rows = customers(&mut rng, 1500, Change::default());
    for row in &mut rows {
        row.0[PLAIN] = FeatureValue::Number(60.0);
    }
    let check = checked(&model, &rows, &DriftLimits::default());
    let of_feature: Vec<_> =
        check.findings.iter().filter(|one| one.feature.as_deref() == Some("f7")).collect();
    assert!(
        of_feature.len() == 1 && of_feature[0].about == ComparedQuantity::Values,
        "{of_feature:#?}"
    );
    // The figures are still shown.
    let shown = check.within.iter().flat_map(|within| &within.features);
    let moved = shown.filter(|one| &*one.feature == "f7" && one.adjusted_p_value <= Some(0.01));
    assert_eq!(moved.count(), KINDS);
}

/// A missing number is imputed by the overall median, which is no change of customers with
/// a known number.
#[test]
fn a_feature_missing_more_often_is_reported_as_missing() {
    let mut rng = RandomStream::new(6, 1);
    let high = Change { shift: 1.5, mix: 0.0 };
    let model = trained_on(&customers(&mut rng, 3000, high));
    let mut rows = customers(&mut rng, 1500, high);
    for row in &mut rows {
        if rng.uniform_below(2) == 0 {
            row.0[PLAIN] = FeatureValue::Missing;
        }
    }
    let check = checked(&model, &rows, &DriftLimits::default());
    let of_feature: Vec<_> =
        check.findings.iter().filter(|one| one.feature.as_deref() == Some("f7")).collect();
    assert!(
        of_feature.len() == 1 && of_feature[0].about == ComparedQuantity::Missing,
        "{of_feature:#?}"
    );
    let figures = &check.within[changed_segment(&model)].features;
    let shown = figures.iter().find(|one| &*one.feature == "f7").unwrap();
    assert!(shown.d < -0.5 && shown.adjusted_p_value < Some(0.01), "{shown:?}");
}

#[test]
fn too_few_rows_in_a_segment_give_figures_and_no_test() {
    let mut rng = RandomStream::new(5, 1);
    let model = model_of(&mut rng);
    let (one, mut scratch) = (changed_segment(&model), model.scratch());
    let mut seen = 0;
    let mut rows = customers(&mut rng, 1500, Change { shift: 3.0, mix: 0.0 });
    rows.retain(|row| {
        let is_there = model.score(row, &mut scratch).nearest == one;
        seen += u64::from(is_there);
        !is_there || seen < MINIMUM_SEGMENT_ROWS
    });
    let check = checked(&model, &rows, &DriftLimits::default());
    let few = &check.within[one];
    assert_eq!(few.rows_now, MINIMUM_SEGMENT_ROWS - 1);
    assert!(few.distance.is_none() && few.features.iter().all(|one| one.p_value.is_none()));
    assert!(few.features.iter().any(|one| one.d > 2.0));
    let few = checked(&model, &rows[..150], &DriftLimits::default());
    assert!(!few.is_enough && few.tests.is_empty() && few.within.len() == KINDS);
    let none = checked(&model, &[], &DriftLimits::default());
    assert!(none.within.iter().all(|within| within.movement.is_none()));
}
