//! Purchase histories equal those of lifetimes, are split at any day, and are net of returns.

use proptest::prelude::*;
use segmentd::domain::event::{CustomerEvent, EventKind};
use segmentd::domain::feature::{CustomerState, DayPeriod, FeatureSet, PurchaseHistory};
use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};
use serde::Deserialize;

use crate::feature::support::{RETAIL, at, event, number, text};

#[derive(Deserialize)]
struct Golden {
    histories: Vec<GoldenHistory>,
}

#[derive(Debug, Deserialize)]
struct GoldenHistory {
    /// Day and value.
    orders: Vec<(String, f64)>,
    x: u32,
    t_x: u32,
    t: u32,
    /// Mean value of a repeat day; 0 without one.
    mean: f64,
}

fn order(id: usize, timestamp: Timestamp, value: f64) -> CustomerEvent {
    let properties =
        vec![("order_id", text(&format!("o{id}"))), ("sales_value", number(&value.to_string()))];
    event("c", EventKind::Track, "Order Completed", timestamp, properties)
}

fn set() -> FeatureSet {
    FeatureSet::parse(RETAIL).unwrap()
}

#[test]
fn histories_equal_those_of_lifetimes() {
    let golden = std::fs::read("tests/data/golden/value.json").unwrap();
    let golden: Golden = serde_json::from_slice(&golden).unwrap();
    let (set, end) = (set(), at("2014-12-31T12:00:00Z"));
    for history in golden.histories {
        let orders = history.orders.iter().enumerate();
        let events: Vec<CustomerEvent> = orders
            .map(|(id, (day, value))| order(id, at(&format!("{day}T10:00:00Z")), *value))
            .collect();
        let found = CustomerState::replay(&set, &events)
            .known_orders(&set, end)
            .unwrap()
            .history()
            .unwrap();
        let PurchaseHistory { repeat_days, last_day, age_days, orders, .. } = found;
        assert_eq!((repeat_days, last_day, age_days), (history.x, history.t_x, history.t));
        assert_eq!(orders, history.orders.len() as u64);
        let mean = found.mean_repeat_value().unwrap_or(0.0);
        assert!((mean - history.mean).abs() <= 1e-9 * history.mean, "{found:?} {history:?}");
        let total: f64 = history.orders.iter().map(|(_, value)| value).sum();
        assert!((found.total_value - total).abs() < 1e-9 * total);
    }
}

proptest! {
    /// The part before a split is the history without the later orders.
    #[test]
    fn a_split_does_not_see_the_future(
        days in proptest::collection::vec((0..400_u32, 1..5_000_u32), 1..40),
        holdout_days in 1..300_u32,
    ) {
        let set = set();
        let day = |day: u32| Timestamp::from_millis(i64::from(day) * MILLIS_PER_DAY + 1_000);
        let event = |(id, (on, cents)): (usize, &(u32, u32))| order(id, day(*on), f64::from(*cents) / 100.0);
        let events: Vec<CustomerEvent> = days.iter().enumerate().map(event).collect();
        let (now, until) = (day(400), 400 - holdout_days);
        let split = CustomerState::replay(&set, &events).known_orders(&set, now).unwrap().split(holdout_days);
        let earlier = days.iter().enumerate().filter(|(_, (on, _))| *on <= until).map(event);
        let earlier: Vec<CustomerEvent> = earlier.collect();
        let before = CustomerState::replay(&set, &earlier).known_orders(&set, day(until)).unwrap().history();
        prop_assert_eq!(split.map(|split| split.before), before);
        // A period of days excludes the day of `now`, so it begins on the day after `until`.
        let period = DayPeriod::from_day_of(day(until + 1), now, &set);
        prop_assert_eq!(period.days(), i64::from(holdout_days) - 1);
        let known = CustomerState::replay(&set, &events).known_orders(&set, now).unwrap();
        prop_assert_eq!(known.history_before(&period), before);
        if let Some(split) = split {
            let mut after: Vec<u32> = days.iter().map(|(on, _)| *on).filter(|on| *on > until).collect();
            after.sort_unstable();
            after.dedup();
            prop_assert_eq!(split.days_after as usize, after.len());
            let value = days.iter().filter(|(on, _)| *on > until);
            let value: f64 = value.map(|(_, cents)| f64::from(*cents) / 100.0).sum();
            prop_assert!((split.value_after - value).abs() < 1e-6);
        }
    }
}

#[test]
fn a_returned_order_was_never_placed() {
    let set = set();
    let first = order(1, at("2026-01-01T10:00:00Z"), 20.0);
    let second = order(2, at("2026-02-01T10:00:00Z"), 30.0);
    let refund = |value: &str| {
        let properties = vec![("order_id", text("o2")), ("sales_value", number(value))];
        event("c", EventKind::Track, "Order Refunded", at("2026-02-05T10:00:00Z"), properties)
    };
    let now = at("2026-03-01T10:00:00Z");
    let history = |events: &[&CustomerEvent]| {
        CustomerState::replay(&set, events.iter().copied())
            .known_orders(&set, now)
            .unwrap()
            .history()
            .unwrap()
    };
    let (partial, whole) = (refund("12"), refund("30"));
    assert_eq!(history(&[&first, &second]).mean_repeat_value(), Some(30.0));
    assert_eq!(history(&[&first, &second, &partial]).mean_repeat_value(), Some(18.0));
    assert_eq!(history(&[&first, &second, &whole]), history(&[&first]));
}

/// Orders beyond the newest thousand are counted without their days.
#[test]
fn a_thousand_orders_and_more_are_a_history() {
    let set = set();
    let day = |day: i64| Timestamp::from_millis(day * MILLIS_PER_DAY);
    let events: Vec<CustomerEvent> =
        (0..1_500).map(|on| order(usize::try_from(on).unwrap(), day(on), 10.0)).collect();
    let found = CustomerState::replay(&set, &events)
        .known_orders(&set, day(1_510))
        .unwrap()
        .history()
        .unwrap();
    let days = (found.repeat_days, found.last_day, found.age_days);
    assert_eq!((days, found.orders), ((1_499, 1_499, 1_510), 1_500));
    assert_eq!(found.mean_repeat_value(), Some(10.0));
    assert_eq!(found.total_value, 15_000.0);
}

#[test]
fn a_customer_without_an_order_has_no_history() {
    let set = set();
    assert_eq!(
        CustomerState::new(&set).known_orders(&set, at("2026-01-01T00:00:00Z")).unwrap().history(),
        None
    );
    let page = event("c", EventKind::Page, "Home", at("2026-01-01T00:00:00Z"), Vec::new());
    let seen = CustomerState::replay(&set, [&page]);
    assert_eq!(seen.known_orders(&set, at("2026-02-01T00:00:00Z")).unwrap().history(), None);
    assert_eq!(seen.known_orders(&set, at("2026-02-01T00:00:00Z")).unwrap().split(10), None);
}
