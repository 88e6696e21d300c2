//! Back-test: figures equal statsmodels, intervals cover the truth, past assignments are those that
//! were in force, and orders are counted on the right side of the split.

use proptest::prelude::*;
use segmentd::domain::event::{CustomerEvent, EventKind};
use segmentd::domain::feature::{CustomerState, DayPeriod, FeatureSet, PeriodOrders};
use segmentd::domain::stats::{
    AnalysisOfVariance, GroupLift, RandomStream, RunningMoments, RunningPairs,
};
use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};
use segmentd::domain::train::TrainingSpec;
use segmentd::domain::train::backtest::{
    AssignedSegment, AssignmentChange, BacktestOutcome, BacktestReport, BacktestTally,
    CustomerAssignments, PastDeployments,
};
use serde::Deserialize;

use crate::feature::support::{FOLDS, RETAIL, at, event, number, text};

#[derive(Deserialize)]
struct GoldenCase {
    outcome: Vec<f64>,
    segment: Vec<usize>,
    lifts: Vec<GoldenLift>,
    explained_share: f64,
    p_value: f64,
    previous: Vec<f64>,
    explained_by_previous: f64,
}

#[derive(Deserialize)]
struct GoldenLift {
    ratio: f64,
    interval: [f64; 2],
}

fn horizons(days: &[u32]) -> TrainingSpec {
    TrainingSpec { backtest_horizons_days: days.to_vec(), ..TrainingSpec::default() }
}

fn moments(values: impl IntoIterator<Item = f64>) -> RunningMoments {
    let mut moments = RunningMoments::default();
    for value in values {
        moments.add(value);
    }
    moments
}

fn pairs(values: impl IntoIterator<Item = (f64, f64)>) -> RunningPairs {
    let mut pairs = RunningPairs::default();
    for (predictor, outcome) in values {
        pairs.add(predictor, outcome);
    }
    pairs
}

#[test]
fn lifts_and_explained_shares_equal_statsmodels() {
    let golden = std::fs::read("tests/data/golden/backtest.json").unwrap();
    let cases: Vec<GoldenCase> = serde_json::from_slice(&golden).unwrap();
    let mut intervals = 0;
    for case in &cases {
        let groups: Vec<RunningMoments> = (0..case.lifts.len())
            .map(|group| {
                let rows = case.outcome.iter().zip(&case.segment);
                moments(rows.filter(|(_, segment)| **segment == group).map(|(value, _)| *value))
            })
            .collect();
        let all = moments(case.outcome.iter().copied());
        for (group, expected) in groups.iter().zip(&case.lifts) {
            let found = GroupLift::measure(group, &all).unwrap();
            assert!((found.ratio - expected.ratio).abs() < 1e-8, "{found:?}");
            assert_eq!(found.interval.is_none(), group.non_zero < 5);
            for (found, expected) in found.interval.into_iter().flatten().zip(expected.interval) {
                assert!((found / expected - 1.0).abs() < 1e-7, "{found} is not {expected}");
                intervals += 1;
            }
        }
        let found = AnalysisOfVariance::measure(&groups).unwrap();
        assert!((found.explained_share - case.explained_share).abs() < 1e-12, "{found:?}");
        assert!((found.p_value / case.p_value - 1.0).abs() < 1e-6, "{found:?}");
        let found = pairs(case.previous.iter().copied().zip(case.outcome.iter().copied()));
        let found = found.explained_share().unwrap();
        assert!((found - case.explained_by_previous).abs() < 1e-12, "{found}");
    }
    assert_eq!((cases.len(), intervals), (9, 48));
}

/// Of many shops, 95 % have an interval with the true lift, also for a large and for a rare
/// segment.
#[test]
fn intervals_cover_the_true_lift() {
    const SHOPS: u64 = 1_000;
    let (shares, rates) = ([0.6, 0.3, 0.1], [0.2, 0.35, 0.6]);
    let base: f64 = shares.iter().zip(rates).map(|(share, rate)| share * rate).sum();
    let mut covered = [0; 3];
    for shop in 0..SHOPS {
        let mut rng = RandomStream::new(7, shop);
        let mut groups = [RunningMoments::default(); 3];
        for _ in 0..400 {
            let drawn = rng.uniform_unit();
            let segment = usize::from(drawn >= shares[0]) + usize::from(drawn >= 0.9);
            groups[segment].add(f64::from(u8::from(rng.uniform_unit() < rates[segment])));
        }
        let all = groups[0].merged_with(&groups[1]).merged_with(&groups[2]);
        for (segment, group) in groups.iter().enumerate() {
            let [low, high] = GroupLift::measure(group, &all).unwrap().interval.unwrap();
            covered[segment] += u64::from((low..=high).contains(&(rates[segment] / base)));
        }
    }
    // Three standard errors of the share of a thousand.
    for covered in covered {
        assert!((929..=971).contains(&covered), "{covered} of {SHOPS}");
    }
}

#[test]
fn nothing_is_measured_where_nothing_can_be() {
    let (none, some) = (moments([0.0; 40]), moments([1.0, 2.0, 0.0, 1.0]));
    assert_eq!(GroupLift::measure(&none, &none), None, "a base of 0");
    assert_eq!(GroupLift::measure(&RunningMoments::default(), &some), None);
    assert_eq!(GroupLift::measure(&some, &some).unwrap().interval, None, "three rows");
    let whole = moments([1.0, 2.0, 0.0, 1.0, 5.0, 2.0]);
    assert_eq!(GroupLift::measure(&whole, &whole).unwrap().interval, Some([1.0, 1.0]));
    assert_eq!(AnalysisOfVariance::measure(&[some]), None, "one group");
    assert_eq!(AnalysisOfVariance::measure(&[none, none]), None, "a constant");
    let parted = AnalysisOfVariance::measure(&[none, moments([1.0; 5])]).unwrap();
    assert_eq!((parted.explained_share, parted.p_value), (1.0, 0.0));
}

fn segment(number: i64) -> AssignedSegment {
    AssignedSegment { generation: number / 3, segment_id: format!("seg_{number}").into() }
}

proptest! {
    /// The moments of two parts are those of all pairs.
    #[test]
    fn moments_of_parts_merge(
        values in prop::collection::vec((0..20_u32, 0.0..1e6_f64), 3..60),
        cut in 0..60_usize,
    ) {
        let cut = cut.min(values.len());
        let all = |values: &[(u32, f64)]| pairs(values.iter().map(|(x, y)| (f64::from(*x), *y)));
        let (merged, whole) = (all(&values[..cut]).merged_with(&all(&values[cut..])), all(&values));
        let (found, expected) = (merged.outcome, whole.outcome);
        prop_assert_eq!((found.rows, found.non_zero), (expected.rows, expected.non_zero));
        prop_assert!((found.mean - expected.mean).abs() < 1e-9 * 1e6);
        prop_assert!((found.squares - expected.squares).abs() <= 1e-9 * expected.squares.max(1.0));
        match (merged.explained_share(), whole.explained_share()) {
            (Some(found), Some(expected)) => prop_assert!((found - expected).abs() < 1e-6),
            (found, expected) => prop_assert_eq!(found, expected),
        }
    }

    /// The assignment found backwards is the one found by following the history from its start,
    /// also if older changes are not known.
    #[test]
    fn a_past_assignment_is_the_one_in_force(
        steps in prop::collection::vec((0..5_i64, prop::option::of(0..9_i64)), 0..12),
        instant in 0..40_i64,
        forgotten in 0..40_i64,
    ) {
        let mut changes = Vec::new();
        let (mut now, mut present, mut expected) = (0, None, None);
        for (pause, next) in steps {
            now += pause;
            changes.push(AssignmentChange {
                changed_at: Timestamp::from_millis(now), before: present.map(segment),
            });
            present = next;
            if now <= instant {
                expected = present.map(segment);
            }
        }
        let is_known = |change: &AssignmentChange| {
            change.changed_at.millis() > forgotten.min(instant)
        };
        changes.retain(is_known);
        let present = present.map(segment);
        let assignments = CustomerAssignments { present: present.as_ref(), changes: &changes };
        prop_assert_eq!(assignments.at(Timestamp::from_millis(instant)), expected.as_ref());
    }

    /// Orders count on their day: not those of the present day, nor those before the period.
    #[test]
    fn orders_of_a_period_are_those_of_its_days(
        orders in prop::collection::vec((0..200_i64, 1..90_000_u32), 0..30),
        days in 1..150_u32,
    ) {
        let set = FeatureSet::parse(RETAIL).unwrap();
        let now = Timestamp::from_millis(180 * MILLIS_PER_DAY + 5_000_000);
        let period = DayPeriod::before(now, days, &set);
        prop_assert_eq!(period.from.millis(), (180 - i64::from(days)) * MILLIS_PER_DAY);
        prop_assert_eq!(period.until.millis(), 180 * MILLIS_PER_DAY);
        let events: Vec<CustomerEvent> = orders
            .iter()
            .enumerate()
            .map(|(id, (day, cents))| order(id, *day, f64::from(*cents) / 100.0))
            .collect();
        let state = CustomerState::replay(&set, &events);
        let found = state.known_orders(&set, now).unwrap().in_period(&period);
        let first = 180 - i64::from(days);
        let within = || orders.iter().filter(|(day, _)| (first..180).contains(day));
        let mut within_days: Vec<i64> = within().map(|(day, _)| *day).collect();
        within_days.sort_unstable();
        within_days.dedup();
        let value: f64 = within().map(|(_, cents)| f64::from(*cents) / 100.0).sum();
        prop_assert_eq!(found.order_days as usize, within_days.len());
        let before: std::collections::BTreeSet<i64> = orders
            .iter()
            .map(|(day, _)| *day)
            .filter(|day| (first - i64::from(days)..first).contains(day))
            .collect();
        prop_assert_eq!(found.previous_order_days as usize, before.len());
        prop_assert_eq!(found.has_earlier_order, orders.iter().any(|(day, _)| *day < first));
        prop_assert!((found.value - value).abs() < 1e-6);
    }
}

fn order(id: usize, day: i64, value: f64) -> CustomerEvent {
    let properties =
        vec![("order_id", text(&format!("o{id}"))), ("sales_value", number(&value.to_string()))];
    let at = Timestamp::from_millis(day * MILLIS_PER_DAY + 40_000_000);
    event("c", EventKind::Track, "Order Completed", at, properties)
}

/// Days are those of the shop, and a return takes back the order of its day.
#[test]
fn periods_follow_the_zone_and_returns() {
    let london = format!("{RETAIL}\n[time]\nzone = \"Europe/London\"\n");
    let set = FeatureSet::parse(&london).unwrap();
    // Summer time: midnight is 23:00 UTC.
    let period = DayPeriod::before(at("2026-07-11T12:00:00Z"), 10, &set);
    assert_eq!(period.from, at("2026-06-30T23:00:00Z"));
    assert_eq!(period.until, at("2026-07-10T23:00:00Z"));
    let placed = |id: &str, time: &str, name: &str, value: &str| {
        let properties = vec![("order_id", text(id)), ("sales_value", number(value))];
        event("c", EventKind::Track, name, at(time), properties)
    };
    let events = [
        placed("before", "2026-06-30T22:30:00Z", "Order Completed", "10"),
        placed("first", "2026-06-30T23:30:00Z", "Order Completed", "20"),
        placed("last", "2026-07-10T22:30:00Z", "Order Completed", "40"),
        placed("last", "2026-07-10T23:30:00Z", "Order Refunded", "15"),
        placed("gone", "2026-07-05T10:00:00Z", "Order Completed", "99"),
        placed("gone", "2026-07-06T10:00:00Z", "Order Cancelled", "99"),
        placed("after", "2026-07-10T23:30:00Z", "Order Completed", "80"),
    ];
    let orders =
        CustomerState::replay(&set, &events).known_orders(&set, at("2026-07-11T12:00:00Z"));
    assert_eq!(
        orders.unwrap().in_period(&period),
        PeriodOrders {
            has_earlier_order: true,
            previous_order_days: 1,
            order_days: 2,
            value: 45.0,
        }
    );
}

/// Three segments of 40, 40 and 29 customers: the smallest is in no figure, nor in the base.
#[test]
fn small_segments_are_in_no_figure() {
    let set = FeatureSet::parse(RETAIL).unwrap();
    let now = Timestamp::from_millis(200 * MILLIS_PER_DAY);
    // Of these, the window of one alone is within a horizon with figures.
    let outcomes = ["orders_28d", "orders_90d", "orders"].map(Into::into).to_vec();
    let mut tally =
        BacktestTally::new(&TrainingSpec { outcomes, ..horizons(&[30, 90]) }, &set, now);
    assert_eq!(tally.changes_since(), Some(Timestamp::from_millis(110 * MILLIS_PER_DAY)));
    // Assigned on day 120, after the beginning of the longer period.
    let changes = [AssignmentChange {
        changed_at: Timestamp::from_millis(120 * MILLIS_PER_DAY),
        before: None,
    }];
    let segments = [segment(3), segment(4), segment(5)];
    for customer in 0..109 {
        let number = (customer / 40_usize).min(2);
        // All ordered before; of the first segment every second, of the second every fourth.
        let mut events = vec![order(1, 10, 5.0)];
        if customer % (2 * (number + 1)) == 0 {
            events.extend([order(2, 190, 10.0), order(3, 191, 30.0)]);
        }
        let state = CustomerState::replay(&set, &events);
        let (row, orders) = (state.feature_row(&set, now), state.known_orders(&set, now).unwrap());
        let present = Some(&segments[number]);
        tally.add(&CustomerAssignments { present, changes: &changes }, &orders, &row);
    }
    assert_eq!(tally.generations(), [1]);
    let mut past = PastDeployments::default();
    let model = segmentd::domain::id::ModelId::of(b"model");
    past.models.insert(1, model.clone());
    past.names.insert((1, "seg_3".into()), "Regulars".into());
    let report = tally.finish(&past).unwrap();
    let [short, long] = &report.horizons[..] else { panic!("{report:?}") };
    assert_eq!(
        long.gap.as_deref(),
        Some("no customer had a segment of a model at 1970-04-21T00:00:00.000Z")
    );
    assert_eq!((short.customers, short.models[0].customers), (109, 109));
    assert_eq!(short.models[0].model_id, model);
    assert_eq!(short.outcomes.len(), 5);
    let means: Vec<[f64; 3]> = short
        .outcomes
        .iter()
        .map(|one| {
            assert_eq!((one.customers, one.segments.len()), (80, 2));
            [one.base, one.segments[0].mean, one.segments[1].mean]
        })
        .collect();
    let expected = [
        [0.375, 0.5, 0.25],
        [0.75, 1.0, 0.5],
        [15.0, 20.0, 10.0],
        [0.625, 0.75, 0.5],
        [0.75, 1.0, 0.5],
    ];
    for (found, expected) in means.iter().flatten().zip(expected.iter().flatten()) {
        assert!((found - expected).abs() < 1e-12, "{means:?}");
    }
    // All had one order long before: it explains nothing.
    assert_eq!(short.outcomes[0].explained_by_previous_orders, None);
    let orders = &short.outcomes[1];
    assert_eq!(orders.outcome, BacktestOutcome::Orders);
    assert_eq!(short.outcomes[4].outcome.to_string(), "features.orders_28d");
    let stored = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<BacktestReport>(&stored).unwrap(), report);
    assert_eq!(&*orders.segments[0].segment.name, "Regulars");
    assert_eq!(report.best_segment_lift(), orders.segments[0].interval.map(|[low, _]| low));
    assert!(report.best_segment_lift().is_some_and(|lift| (0.8..1.33).contains(&lift)));
}

/// Each horizon without figures says why.
#[test]
fn gaps_have_reasons() {
    let set = FeatureSet::parse(RETAIL).unwrap();
    let now = Timestamp::from_millis(200 * MILLIS_PER_DAY);
    let state = CustomerState::replay(&set, &[order(1, 10, 5.0)]);
    let (row, orders) = (state.feature_row(&set, now), state.known_orders(&set, now).unwrap());
    let gap_with = |sizes: [usize; 2], past: &PastDeployments| {
        let mut tally = BacktestTally::new(&horizons(&[30]), &set, now);
        for (number, size) in [(0, sizes[0]), (1, sizes[1])] {
            let assigned = segment(number);
            for _ in 0..size {
                let assignments = CustomerAssignments { present: Some(&assigned), changes: &[] };
                tally.add(&assignments, &orders, &row);
            }
        }
        tally.finish(past).unwrap().horizons[0].gap.clone().unwrap().to_string()
    };
    let known = PastDeployments::default();
    assert!(gap_with([30, 29], &known).contains("1 segment(s) had at least 30 customers"));
    assert_eq!(gap_with([30, 30], &known), "no customer ordered in the period");
    let since = Timestamp::from_millis(171 * MILLIS_PER_DAY);
    let forgotten = PastDeployments { changes_deleted_before: Some(since), ..known };
    assert!(gap_with([30, 30], &forgotten).contains("begins at 1970-06-21T00:00:00.000Z"));
    assert_eq!(BacktestTally::new(&horizons(&[]), &set, now).finish(&forgotten), None);
    let without_orders = FeatureSet::parse(FOLDS).unwrap();
    let tally = BacktestTally::new(&horizons(&[30]), &without_orders, now);
    assert_eq!(tally.changes_since(), None);
    let report = tally.finish(&forgotten).unwrap();
    assert!(report.horizons[0].gap.as_deref().unwrap().contains("declares no `[orders]`"));
}
