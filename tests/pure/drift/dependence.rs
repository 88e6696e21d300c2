//! Dependent rows count as fewer: repeated customers and what hours have in common raise no
//! alarm, and a true change is still found on its first day.

use segmentd::domain::drift::statistics::dispersion::{index_of_dispersion, successive_dispersion};
use segmentd::domain::drift::{
    CountedRow, CustomerBucket, DEPENDENCE_HOURS, DriftCheck, DriftLimits, DriftWindow, HourCounts,
    ObservedWindow, OverTime, TimeDependence, WindowLayout, check_window, finding_facts,
};
use segmentd::domain::feature::{
    FeatureDefinition, FeatureRow, FeatureValue, NumberScaling, NumberTransform,
};
use segmentd::domain::id::CustomerKey;
use segmentd::domain::model::Model;
use segmentd::domain::stats::RandomStream;
use segmentd::domain::train::TrainingSpec;
use segmentd::domain::train::evaluation::stability::StabilityTrials;
use serde::Deserialize;

use crate::drift::statistics::equal;
use crate::feature::support::data;
use crate::model::support::{def, normal, number, spec, train};

const HOURS: u32 = 24;
const ROWS_PER_HOUR: usize = 60;
const DAYS: usize = 20;
/// The part of the variance that the rows of an hour have in common.
const SHARED: f64 = 0.3;

/// A model of four steady numbers.
fn steady_model() -> Model {
    let plain = number(NumberTransform::None, NumberScaling::Standard);
    let features: Vec<FeatureDefinition> =
        (0..4).map(|i| def(&format!("f{i}"), &format!("Number {i}"), Some(plain))).collect();
    let mut rng = RandomStream::new(5, 0);
    let rows: Vec<FeatureRow> = (0..4000).map(|_| row(&mut rng, 0.0, 0.0)).collect();
    let stability = StabilityTrials { bootstraps: 0, seeds: 0, ..StabilityTrials::default() };
    let spec = TrainingSpec { starts: 1, stability, ..spec(2) };
    train(spec, &features, &rows).unwrap().model
}

/// The first two numbers have a part in common with the rows of their hour.
fn row(rng: &mut RandomStream, shared: f64, shift: f64) -> FeatureRow {
    let own = (1.0 - SHARED).sqrt();
    let value = |place: usize| {
        let x = normal(rng);
        if place < 2 { SHARED.sqrt() * shared + own * x + shift } else { x }
    };
    FeatureRow((0..4).map(value).map(FeatureValue::Number).collect())
}

fn count(
    model: &Model,
    layout: &WindowLayout,
    rows: &[(FeatureRow, Option<usize>)],
) -> DriftWindow {
    let (mut window, mut scratch) = (layout.empty(), model.scratch());
    for (row, customer) in rows {
        let score = model.score(row, &mut scratch);
        let key = |number: &usize| format!("customer-{number}").parse::<CustomerKey>().unwrap();
        let customer = customer.as_ref().map(|number| CustomerBucket::of(&key(number)));
        let counted = CountedRow::new(row, &score, score.is_outlier(0.01));
        layout.count_row(&mut window, &CountedRow { customer, ..counted });
    }
    window
}

/// Hours with a common part that an hour passes on to the next by half.
fn hours(model: &Model, layout: &WindowLayout, count_hours: usize, seed: u64) -> Vec<DriftWindow> {
    let mut rng = RandomStream::new(seed, 1);
    let mut shared = 0.0;
    let mut windows = Vec::new();
    for _ in 0..count_hours {
        shared = 0.5 * shared + 0.75_f64.sqrt() * normal(&mut rng);
        let rows: Vec<_> = (0..ROWS_PER_HOUR).map(|_| (row(&mut rng, shared, 0.0), None)).collect();
        windows.push(count(model, layout, &rows));
    }
    windows
}

fn sum<'w>(
    layout: &WindowLayout,
    windows: impl IntoIterator<Item = &'w DriftWindow>,
) -> DriftWindow {
    let mut sum = layout.empty();
    windows.into_iter().for_each(|window| sum.merge(window).unwrap());
    sum
}

/// Checks the last day of `windows`, with up to four weeks to estimate the dependence from.
fn check_last_day(model: &Model, layout: &WindowLayout, windows: &[DriftWindow]) -> DriftCheck {
    let known = &windows[windows.len().saturating_sub(DEPENDENCE_HOURS as usize)..];
    let hours: Vec<HourCounts<'_>> =
        (0..).zip(known).map(|(hour, window)| HourCounts { hour, window }).collect();
    let dependence = TimeDependence::of(layout, &hours).unwrap();
    let counts = &sum(layout, known.iter().rev().take(HOURS as usize));
    let over_time = Some(OverTime { dependence: &dependence, window_hours: HOURS });
    check_window(model, ObservedWindow { counts, over_time }, &DriftLimits::default()).unwrap()
}

#[test]
fn what_the_rows_of_an_hour_have_in_common_raises_no_alarm() {
    let model = steady_model();
    let layout = WindowLayout::of(&model);
    let (mut as_independent, mut found, mut effects) = (0, 0, Vec::new());
    for seed in 0..20 {
        let windows = hours(&model, &layout, DAYS * HOURS as usize, seed);
        let check = check_last_day(&model, &layout, &windows);
        found += usize::from(!check.findings.is_empty());
        effects.push(check.features[0].dependence.values.now);
        let day = sum(&layout, windows.iter().rev().take(HOURS as usize));
        let check = check_window(&model, &day, &DriftLimits::default()).unwrap();
        as_independent += usize::from(!check.findings.is_empty());
    }
    // The mean of a day varies 1,440 × (0.3 × 3 / 24 + 0.7 / 1,440) = 55 times as much as that of
    // independent rows; with normal values the deciles share most of that.
    effects.sort_by(f64::total_cmp);
    assert!((20.0..80.0).contains(&effects[10]), "{effects:?}");
    assert!(as_independent >= 5, "the rows are too independent to tell: {as_independent}");
    assert!(found <= 1, "{found} of 20 days");
}

#[test]
fn events_of_one_customer_count_as_one() {
    let model = steady_model();
    let layout = WindowLayout::of(&model);
    let (mut as_independent, mut found) = (0, 0);
    for seed in 0..20 {
        let mut rng = RandomStream::new(seed, 2);
        let customers: Vec<FeatureRow> = (0..100).map(|_| row(&mut rng, 0.0, 0.0)).collect();
        let events = |is_known: bool| -> Vec<(FeatureRow, Option<usize>)> {
            let number = |event: usize| event % customers.len();
            let event =
                |event| (customers[number(event)].clone(), is_known.then_some(number(event)));
            (0..15 * customers.len()).map(event).collect()
        };
        let check = |events: &[_]| {
            let window = count(&model, &layout, events);
            check_window(&model, &window, &DriftLimits::default()).unwrap()
        };
        let known = check(&events(true));
        let effects = known.features[0].dependence.values;
        // 128 buckets tell the number to an eighth.
        assert!((9.0..23.0).contains(&effects.now), "{effects:?}");
        assert_eq!(effects.before, 1.0);
        found += usize::from(!known.findings.is_empty());
        as_independent += usize::from(!check(&events(false)).findings.is_empty());
    }
    assert!(as_independent >= 15, "{as_independent}");
    assert!(found <= 1, "{found} of 20 days");
}

#[test]
fn independent_rows_count_in_full() {
    let model = steady_model();
    let layout = WindowLayout::of(&model);
    let mut rng = RandomStream::new(3, 3);
    let mut windows = Vec::new();
    for hour in 0..DAYS * HOURS as usize {
        let number = |place: usize| Some(hour * ROWS_PER_HOUR + place);
        let rows: Vec<_> =
            (0..ROWS_PER_HOUR).map(|place| (row(&mut rng, 0.0, 0.0), number(place))).collect();
        windows.push(count(&model, &layout, &rows));
    }
    let check = check_last_day(&model, &layout, &windows);
    for figures in &check.features {
        assert!(figures.dependence.values.now < 1.8, "{:?}", figures.dependence);
    }
}

#[test]
fn a_change_is_found_on_its_first_day_and_says_how_many_rows_it_rests_on() {
    let model = steady_model();
    let layout = WindowLayout::of(&model);
    let mut windows = hours(&model, &layout, (DAYS - 1) * HOURS as usize, 99);
    let mut rng = RandomStream::new(8, 4);
    for _ in 0..HOURS {
        let shared = normal(&mut rng);
        let rows: Vec<_> = (0..ROWS_PER_HOUR).map(|_| (row(&mut rng, shared, 0.8), None)).collect();
        windows.push(count(&model, &layout, &rows));
    }
    let check = check_last_day(&model, &layout, &windows);
    let finding = check.findings.iter().find(|one| one.feature.as_deref() == Some("f0")).unwrap();
    let effective = finding.effective_sample_size.unwrap();
    assert!(effective < check.scored as f64 / 2.0, "{effective} of {}", check.scored);
    let facts = finding_facts(&check, finding);
    let (_, rows) = facts.iter().find(|(name, _)| *name == "Rows compared").unwrap();
    assert!(rows.starts_with("1,440, with an effective sample size of "), "{rows}");
    assert!(check.findings.iter().all(|one| one.feature.as_deref() != Some("f3")));
}

#[test]
fn hours_of_another_layout_are_refused() {
    let model = steady_model();
    let layout = WindowLayout::of(&model);
    let window = &DriftWindow { counts: vec![0; layout.width() + 1] };
    let hours = [HourCounts { hour: 0, window }];
    assert!(TimeDependence::of(&layout, &hours).is_err());
}

#[derive(Deserialize)]
struct Golden {
    dispersions: Vec<GoldenDispersion>,
}

#[derive(Deserialize)]
struct GoldenDispersion {
    name: String,
    blocks: Vec<Vec<u64>>,
    factor: f64,
    degrees: f64,
    share: f64,
    /// Index of dispersion of the sums of all blocks.
    index: f64,
}

#[test]
fn dispersions_equal_numpy() {
    let text = std::fs::read(data("golden/drift.json")).unwrap();
    let Golden { dispersions } = serde_json::from_slice(&text).unwrap();
    for golden in dispersions {
        let found = successive_dispersion(&golden.blocks).unwrap();
        equal(&golden.name, found.factor, golden.factor, 1e-9);
        equal(&golden.name, found.degrees.of_estimate, golden.degrees, 1e-12);
        equal(&golden.name, found.degrees.share, golden.share, 1e-9);
        let sums: Vec<u64> = (0..golden.blocks[0].len())
            .map(|cell| golden.blocks.iter().map(|block| block[cell]).sum())
            .collect();
        equal(&golden.name, index_of_dispersion(&sums).unwrap(), golden.index, 1e-9);
    }
    assert_eq!(index_of_dispersion(&[0, 0]), None);
    assert_eq!(successive_dispersion(&[vec![5, 0], vec![7, 0]]), None);
}
