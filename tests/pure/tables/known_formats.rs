//! Known table formats: the built-in mappings load each without an edit, and its features
//! equal those that pandas computes (tests/data/golden/tables.py).

use std::collections::BTreeMap;
use std::path::Path;

use segmentd::domain::feature::{CustomerState, FeatureSet, FeatureValue};
use segmentd::domain::identity::SentinelIds;
use segmentd::domain::json::RawJson;
use segmentd::domain::time::Timestamp;
use segmentd::domain::wire::{EventLimits, native};
use serde_json::Value;

use super::support::{data, file_events};

/// What one customer did, by the events of a table.
#[derive(Debug, Default)]
struct CustomerFigures {
    state: Option<CustomerState>,
    items: f64,
    last_order_ms: Option<i64>,
}

fn figures(features: &FeatureSet, events: &[Value]) -> BTreeMap<String, CustomerFigures> {
    let limits = EventLimits {
        max_future_millis: i64::MAX,
        max_property_depth: 8,
        max_event_bytes: 32_768,
        sentinel_ids: SentinelIds::default(),
    };
    let mut customers: BTreeMap<String, CustomerFigures> = BTreeMap::new();
    for value in events {
        let text = value.to_string();
        let json = RawJson::parse(text.as_bytes()).unwrap();
        let message = native::parse_event(json, Timestamp::default(), &limits, || None);
        let event = message.unwrap_or_else(|faults| panic!("{faults}: {value}")).event;
        let event = features.validate_event(event).expect("an event that features can read").event;
        let found = customers.entry(event.customer.as_str().to_owned()).or_default();
        if &*event.name == "Order Completed" {
            let at = event.timestamp.millis();
            found.last_order_ms = found.last_order_ms.max(Some(at));
            let products = value["properties"]["products"].as_array();
            for product in products.into_iter().flatten() {
                found.items += product["quantity"].as_f64().unwrap_or(0.0);
            }
        }
        found.state.get_or_insert_with(|| CustomerState::new(features)).apply(features, &event);
    }
    customers
}

#[test]
fn features_of_known_formats_equal_those_of_pandas() {
    let features = std::fs::read_to_string(data("features.toml")).expect("the feature set");
    let features = FeatureSet::parse(&features).expect("a valid feature set");
    let mut reader = csv::Reader::from_path(data("expected.csv")).expect("expected.csv");
    let headers = reader.headers().expect("a header").clone();
    let mut formats: BTreeMap<String, BTreeMap<String, CustomerFigures>> = BTreeMap::new();
    let mut customers: BTreeMap<String, usize> = BTreeMap::new();
    for row in reader.records() {
        let row = row.expect("a row");
        let expected: BTreeMap<&str, &str> = headers.iter().zip(row.iter()).collect();
        let format = expected["format"];
        let found = formats.entry(format.to_owned()).or_insert_with(|| {
            let table = file_events(Path::new(format), &data(expected["file"]));
            let table = table.unwrap_or_else(|error| panic!("{format}: {error:#}"));
            assert!(table.faults.is_empty(), "{format}: {:?}", table.faults);
            figures(&features, &table.events)
        });
        *customers.entry(format.to_owned()).or_default() += 1;
        let who = format!("{format}, customer {}", expected["customer"]);
        let one = found.get(expected["customer"]).unwrap_or_else(|| panic!("no {who}"));
        let state = one.state.as_ref().expect("a state");
        let row = state.feature_row(&features, Timestamp::from_millis(1_800_000_000_000));
        for name in ["orders", "revenue", "refunds", "refunded", "views"] {
            let index = features.index_of(name).expect("a feature");
            let FeatureValue::Number(value) = row.0[index] else { panic!("{who}: no {name}") };
            let wanted: f64 = expected[name].parse().expect("a number");
            assert!((value - wanted).abs() < 1e-6, "{who}: {name} {value}, pandas {wanted}");
        }
        let items: f64 = expected["items"].parse().expect("a number");
        assert_eq!(one.items, items, "{who}: items");
        let last: Option<i64> = expected["last_order_ms"].parse().ok();
        assert_eq!(one.last_order_ms, last, "{who}: time of the last order");
    }
    for (format, found) in &formats {
        assert_eq!(found.len(), customers[format], "{format}: customers {:?}", found.keys());
    }
    assert_eq!(formats.len(), 12);
}

#[test]
fn content_ids_of_known_formats_are_distinct_and_stable() {
    for (format, file) in [("rees46", "rees46.csv.gz"), ("retailrocket", "retailrocket.csv")] {
        let ids = |()| {
            let table = file_events(Path::new(format), &data(file)).expect("a table");
            let ids = table.events.iter().map(|event| event["message_id"].to_string());
            ids.collect::<Vec<String>>()
        };
        let first = ids(());
        assert_eq!(first, ids(()));
        let distinct: std::collections::BTreeSet<&String> = first.iter().collect();
        assert_eq!(distinct.len(), first.len(), "{format}");
    }
}
