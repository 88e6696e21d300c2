//! Every fold under every window equals pandas; edge cases of windows.

use segmentd::domain::event::{CustomerEvent, EventKind, PropertyValue};
use segmentd::domain::feature::{CustomerState, FeatureSet, FeatureValue};

use crate::feature::support::{FOLDS, assert_row, at, event, number, rows, state_of, text};

/// The generated events, in the arbitrary order of the file.
pub(crate) fn made_up(set: &FeatureSet) -> Vec<CustomerEvent> {
    let (header, rows) = rows("golden/features_folds_events.csv");
    let read = |row: &csv::StringRecord| {
        let properties = header.iter().zip(row).skip(4).filter(|(_, value)| !value.is_empty());
        let properties = properties.map(|(name, value)| {
            let value = match name {
                "amount" | "tax" | "score" => number(value),
                "gift" => PropertyValue::Bool(value == "true"),
                _ => text(value),
            };
            (name, value)
        });
        let kind = EventKind::parse(&row[2]).unwrap();
        set.validate_event(event(&row[0], kind, &row[3], at(&row[1]), properties.collect()))
            .unwrap()
            .event
    };
    rows.iter().map(read).collect()
}

#[test]
fn every_fold_and_window_equals_pandas() {
    let set = FeatureSet::parse(FOLDS).unwrap();
    let events = made_up(&set);
    let (header, golden) = rows("golden/features_folds_values.csv");
    assert_eq!(golden.len(), 10);
    for row in &golden {
        let mine = events.iter().filter(|event| event.customer.as_str() == &row[0]);
        let state = state_of(&set, mine);
        assert_row(&set, &state.feature_row(&set, at(&row[1])).0, &header, row);
    }
}

#[test]
fn folds_of_nothing_are_zero_or_missing() {
    let set = FeatureSet::parse(FOLDS).unwrap();
    let row = CustomerState::new(&set).feature_row(&set, at("2024-01-01T00:00:00Z"));
    let zero = [
        "events",
        "events_1d",
        "pages",
        "buys_named",
        "buys_decayed",
        "amount",
        "amount_30d",
        "amount_decayed",
        "items",
        "items_14d",
        "gifts",
        "sessions",
        "sessions_30d",
    ];
    for (def, value) in set.features().iter().zip(row.0) {
        let expected = if zero.contains(&&*def.name) {
            FeatureValue::Number(0.0)
        } else {
            FeatureValue::Missing
        };
        assert_eq!(value, expected, "{}", def.name);
    }
}

/// A feature set with one feature of this fold and window.
fn one(feature: &str) -> FeatureSet {
    let head = "title = \"t\"\nunit = \"u\"\nowner = \"o\"\nsensitivity = \"public\"\n";
    let scored = "{ feature = \"always\", cuts = [1, 2, 3, 4] }";
    FeatureSet::parse(&format!(
        "[[feature]]\nname = \"x\"\n{head}{feature}\n[[feature]]\nname = \"always\"\n{head}\
         fold = \"count\"\n[rfm]\nrecency = {scored}\nfrequency = {scored}\nmonetary = {scored}\n"
    ))
    .unwrap()
}

fn seen(time: &str, value: f64) -> CustomerEvent {
    event("c", EventKind::Track, "e", at(time), vec![("v", PropertyValue::Number(value))])
}

fn x(set: &FeatureSet, events: &[CustomerEvent], now: &str) -> FeatureValue {
    state_of(set, events).feature_row(set, at(now)).0[0].clone()
}

#[test]
fn a_rolling_window_is_whole_utc_days_today_included() {
    let set = one("fold = \"count\"\nwindow = { rolling_days = 2 }");
    let events = [seen("2024-05-01T00:00:00Z", 1.0), seen("2024-05-01T23:59:59.999Z", 1.0)];
    for (now, expected) in [
        ("2024-05-02T00:00:00Z", 2.0),
        ("2024-05-02T23:59:59.999Z", 2.0),
        ("2024-05-03T00:00:00Z", 0.0),
    ] {
        assert_eq!(x(&set, &events, now), FeatureValue::Number(expected), "{now}");
    }
}

#[test]
fn an_event_half_a_life_old_counts_half() {
    let set = one("fold = \"sum\"\nproperty = \"v\"\nwindow = { half_life_days = 10 }");
    let events = [seen("2024-05-01T08:00:00Z", 8.0)];
    for (now, expected) in [
        ("2024-05-01T09:00:00Z", 8.0),
        ("2024-05-11T01:00:00Z", 4.0),
        ("2024-05-21T23:00:00Z", 2.0),
        // 400 days weigh 2⁻⁴⁰ and still count; 401 do not.
        ("2025-06-05T00:00:00Z", 8.0 * 2f64.powi(-40)),
        ("2025-06-06T00:00:00Z", 0.0),
    ] {
        assert_eq!(x(&set, &events, now), FeatureValue::Number(expected), "{now}");
    }
}

#[test]
fn an_instant_before_the_newest_event_reads_as_that_event() {
    let set = one("fold = \"recency\"");
    let events = [seen("2024-05-01T00:00:00Z", 1.0)];
    assert_eq!(x(&set, &events, "2024-04-30T00:00:00Z"), FeatureValue::Number(0.0));
    assert_eq!(x(&set, &events, "2024-05-02T12:00:00Z"), FeatureValue::Number(1.5));
}

#[test]
fn a_late_event_joins_two_sessions() {
    let set = one("fold = \"sessions\"\ngap_minutes = 30");
    let apart = [seen("2024-05-01T10:00:00Z", 1.0), seen("2024-05-01T11:00:00Z", 1.0)];
    let now = "2024-05-02T00:00:00Z";
    assert_eq!(x(&set, &apart, now), FeatureValue::Number(2.0));
    let [first, last] = apart;
    let joined = [first, last, seen("2024-05-01T10:30:00Z", 1.0)];
    assert_eq!(x(&set, &joined, now), FeatureValue::Number(1.0));
}

#[test]
fn a_session_over_midnight_belongs_to_the_day_it_ends() {
    let set = one("fold = \"sessions\"\ngap_minutes = 30\nwindow = { rolling_days = 1 }");
    let events = [seen("2024-05-01T23:50:00Z", 1.0), seen("2024-05-02T00:05:00Z", 1.0)];
    assert_eq!(x(&set, &events, "2024-05-02T12:00:00Z"), FeatureValue::Number(1.0));
    assert_eq!(x(&set, &events, "2024-05-03T12:00:00Z"), FeatureValue::Number(0.0));
}

#[test]
fn the_greater_of_values_at_one_instant_is_the_last() {
    let set = one("fold = \"last\"\nproperty = \"v\"\nkind = \"number\"");
    let time = "2024-05-01T00:00:00Z";
    for order in [[2.0, 3.0], [3.0, 2.0]] {
        assert_eq!(x(&set, &order.map(|v| seen(time, v)), time), FeatureValue::Number(3.0));
    }
}

#[test]
fn sums_are_exact_to_the_last_bit() {
    let set = one("fold = \"sum\"\nproperty = \"v\"");
    let time = "2024-05-01T00:00:00Z";
    let events = [1e12, 0.1, 0.2, -1e12].map(|v| seen(time, v));
    // Floats, added left to right, would give 0.2999267578125.
    let FeatureValue::Number(sum) = x(&set, &events, time) else { panic!() };
    assert!((sum - 0.3).abs() < 1e-16, "{sum}");
}

#[test]
fn state_is_bounded_by_the_window_not_by_the_number_of_events() {
    let set = one(
        "fold = \"distinct\"\nproperty = \"v\"\nsketch_size = 16\nwindow = { rolling_days = 3 }",
    );
    let mut state = CustomerState::new(&set);
    let mut longest = 0;
    for i in 0..20_000_u32 {
        let time = at("2024-01-01T00:00:00Z").plus_millis(i64::from(i) * 600_000);
        let properties = vec![("v", PropertyValue::Number(f64::from(i)))];
        state.apply(&set, &event("c", EventKind::Track, "e", time, properties));
        longest = longest.max(state.to_bytes(&set).len());
    }
    // Three days of seventeen 64-bit hashes of at most ten bytes, plus overhead.
    assert!(longest < 600, "{longest} bytes");
}
