//! Features over properties that were not stored before: missing, never 0.

use segmentd::domain::event::{CustomerEvent, EventKind, PropertyValue};
use segmentd::domain::feature::FeatureValue::{Missing, Number};
use segmentd::domain::feature::{CustomerState, FeatureSet, FeatureValue, StoredProperty};
use segmentd::domain::model::ScoringScratch;
use segmentd::domain::rescore_schedule::{AnswerSource, QuietCustomer, RescoreSchedule};
use segmentd::domain::time::Timestamp;

use crate::feature::commerce::set_of;
use crate::feature::support::{at, event};

const ORDERS: (&str, &str) = ("orders", "fold = \"count\"\nfrom = { name = \"Buy\" }");
const TAX: (&str, &str) = ("tax", "fold = \"sum\"\nproperty = \"tax\"\nfrom = { name = \"Buy\" }");
const TAX_30D: (&str, &str) = (
    "tax_30d",
    "fold = \"sum\"\nproperty = \"tax\"\nfrom = { name = \"Buy\" }\nwindow = { rolling_days = 30 }",
);
const LAST_TAX: (&str, &str) = (
    "last_tax",
    "fold = \"last\"\nproperty = \"tax\"\nkind = \"number\"\nfrom = { name = \"Buy\" }",
);

/// The set after one that stored `before`, with what it stores itself.
fn served(
    features: &[(&str, &str)],
    before: &[StoredProperty],
    since: &str,
) -> (FeatureSet, Vec<StoredProperty>) {
    let set = set_of("", features);
    let stored = set.stored_properties(before, at(since));
    (set.with_stored_properties(stored.clone()), stored)
}

fn buy(time: &str, tax: Option<f64>) -> CustomerEvent {
    let properties = tax.map(|tax| ("tax", PropertyValue::Number(tax)));
    event("c", EventKind::Track, "Buy", at(time), properties.into_iter().collect())
}

/// The state of events that arrived when they happened.
fn replayed(set: &FeatureSet, events: &[CustomerEvent]) -> CustomerState {
    let mut state = CustomerState::new(set);
    for event in events {
        state.apply_stored(set, event, event.timestamp);
    }
    state
}

fn row(set: &FeatureSet, state: &CustomerState, now: &str) -> Vec<FeatureValue> {
    state.feature_row(set, at(now)).0
}

#[test]
fn a_new_property_is_missing_where_it_was_dropped() {
    let (_, before) = served(&[ORDERS], &[], "2024-01-01T00:00:00Z");
    let (set, _) = served(&[ORDERS, TAX, TAX_30D, LAST_TAX], &before, "2024-03-01T00:00:00Z");
    // Before and after the declaration.
    let old = [buy("2024-02-20T00:00:00Z", None), buy("2024-03-10T00:00:00Z", Some(5.0))];
    let state = replayed(&set, &old);
    assert_eq!(
        row(&set, &state, "2024-03-20T00:00:00Z")[..4],
        [Number(2.0), Missing, Missing, Number(5.0)]
    );
    // The old event leaves the window of 30 days, but not the past.
    assert_eq!(
        row(&set, &state, "2024-03-21T00:00:00Z")[..4],
        [Number(2.0), Missing, Number(5.0), Number(5.0)]
    );
    // Only new events, though one of them happened long ago: a full history.
    let mut state = CustomerState::new(&set);
    state.apply_stored(&set, &buy("2023-01-01T00:00:00Z", None), at("2024-03-02T00:00:00Z"));
    assert_eq!(
        row(&set, &state, "2024-03-20T00:00:00Z")[..4],
        [Number(1.0), Number(0.0), Number(0.0), Missing]
    );
    // A customer without events of this name.
    let state =
        replayed(&set, &[event("c", EventKind::Track, "Look", at("2024-02-20T00:00:00Z"), vec![])]);
    assert_eq!(row(&set, &state, "2024-03-20T00:00:00Z")[..2], [Number(0.0), Number(0.0)]);
    // The state keeps the gap, and any order of arrival gives the same one.
    let state = replayed(&set, &old);
    let read = CustomerState::from_bytes(&set, &state.to_bytes(&set)).unwrap();
    assert_eq!(read, state);
    let backward: Vec<CustomerEvent> = old.iter().rev().cloned().collect();
    assert_eq!(replayed(&set, &backward), state);
}

#[test]
fn a_property_that_was_not_declared_for_a_time_has_a_gap() {
    let (first, stored) = served(&[ORDERS, TAX], &[], "2024-01-01T00:00:00Z");
    // The first set has always stored its properties, also of events that arrived before it.
    let state = replayed(&first, &[buy("2023-01-01T00:00:00Z", None)]);
    assert_eq!(row(&first, &state, "2024-02-01T00:00:00Z")[1], FeatureValue::Number(0.0));
    let (_, without) = served(&[ORDERS], &stored, "2024-02-01T00:00:00Z");
    let (again, stored) = served(&[ORDERS, TAX], &without, "2024-03-01T00:00:00Z");
    let state = replayed(&again, &[buy("2024-02-20T00:00:00Z", None)]);
    assert_eq!(row(&again, &state, "2024-04-01T00:00:00Z")[1], FeatureValue::Missing);
    // An event that was stored with the property, before the gap, is complete.
    let state = replayed(&again, &[buy("2024-01-20T00:00:00Z", Some(3.0))]);
    assert_eq!(row(&again, &state, "2024-04-01T00:00:00Z")[1], FeatureValue::Number(3.0));
    // A restart changes nothing, and neither does a filter that the earlier one covers.
    let (same, unchanged) = served(&[ORDERS, TAX], &stored, "2024-05-01T00:00:00Z");
    assert_eq!(unchanged, stored);
    let narrower = [(
        "tax",
        "fold = \"sum\"\nproperty = \"tax\"\nfrom = { kind = \"track\", name = \"Buy\" }",
    )];
    let (_, narrow) = served(&narrower, &stored, "2024-06-01T00:00:00Z");
    let tax = narrow.iter().find(|stored| &*stored.property == "tax").unwrap();
    assert_eq!(tax.since, Some(at("2024-03-01T00:00:00Z")));
    drop(same);
    // A set without properties is a set.
    let (_, none) = served(&[], &[], "2024-01-01T00:00:00Z");
    let (_, later) = served(&[TAX], &none, "2024-02-01T00:00:00Z");
    let tax = later.iter().find(|stored| &*stored.property == "tax").unwrap();
    assert_eq!(tax.since, Some(at("2024-02-01T00:00:00Z")));
}

#[test]
fn the_end_of_a_gap_is_scheduled() {
    let (_, before) = served(&[ORDERS], &[], "2024-01-01T00:00:00Z");
    let toml = "[time]\nzone = \"Europe/London\"\n";
    let set = set_of(toml, &[ORDERS, TAX_30D]);
    let stored = set.stored_properties(&before, at("2024-03-01T00:00:00Z"));
    let set = set.with_stored_properties(stored);
    let normal_form = set.normal_form().replacen(
        "\"monetary\":{\"cuts\":[1.0,2.0,3.0,4.0],\"feature\":\"always\"}",
        "\"monetary\":{\"cuts\":[1.0,2.0,3.0,4.0],\"feature\":\"tax_30d\"}",
        1,
    );
    let parsed = FeatureSet::parse(&crate::feature::normal_form::as_toml(&normal_form)).unwrap();
    assert_ne!(parsed.id(), set.id(), "{normal_form}");
    let stored = parsed.stored_properties(&before, at("2024-03-01T00:00:00Z"));
    let set = parsed.with_stored_properties(stored);
    let state =
        replayed(&set, &[buy("2024-03-01T00:00:00Z", None), buy("2024-02-28T23:30:00Z", None)]);
    let now = at("2024-03-10T00:00:00Z");
    let row = state.feature_row(&set, now);
    assert_eq!(row.0[1], FeatureValue::Missing);
    let schedule = RescoreSchedule::new(&set, None, &[]);
    let next = schedule.next_rescore_at(
        AnswerSource { features: &set, model: None },
        QuietCustomer { state: &state, row: &row, now },
        None,
        &mut ScoringScratch::default(),
    );
    // 30 days after 28 February is 29 March, in winter time.
    let next: Timestamp = next.unwrap();
    assert_eq!(next, at("2024-03-29T00:00:00Z"));
    assert_eq!(state.feature_row(&set, next.plus_millis(-1)).0[1], FeatureValue::Missing);
    assert_eq!(state.feature_row(&set, next).0[1], FeatureValue::Number(0.0));
}
