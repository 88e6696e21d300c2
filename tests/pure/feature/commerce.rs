//! Folds over orders, elements of arrays, signed events and money equal pandas.

use std::fmt::Write as _;

use segmentd::domain::event::CustomerEvent;
use segmentd::domain::feature::{FeatureSet, FeatureValue, RateTable};
use segmentd::domain::identity::SentinelIds;
use segmentd::domain::json::RawJson;
use segmentd::domain::time::Timestamp;
use segmentd::domain::wire::{EventLimits, native};
use serde_json::{Value, json};

use crate::feature::support::{assert_row, at, data, rows, state_of};

pub(crate) const COMMERCE: &str = include_str!("../../data/golden/features_commerce.toml");

/// The feature set with other rules of orders, and with its rates.
pub(crate) fn commerce(repeated: &str, unmatched: &str) -> FeatureSet {
    let toml = COMMERCE
        .replacen("repeated = \"replace\"", &format!("repeated = \"{repeated}\""), 1)
        .replacen("unmatched = \"ignore\"", &format!("unmatched = \"{unmatched}\""), 1);
    let set = FeatureSet::parse(&toml).unwrap();
    let rates = std::fs::read_to_string(data("golden/features_commerce_rates.csv")).unwrap();
    set.with_rates(RateTable::parse(&rates).unwrap())
}

/// An event as a client sends it, validated by the feature set.
pub(crate) fn accepted(set: &FeatureSet, event: &Value) -> CustomerEvent {
    let limits = EventLimits {
        max_future_millis: 3_600_000,
        max_property_depth: 8,
        max_event_bytes: 32_768,
        sentinel_ids: SentinelIds::default(),
    };
    let received_at = at("2030-01-01T00:00:00Z");
    let text = event.to_string();
    let event = RawJson::parse(text.as_bytes()).unwrap();
    let message = native::parse_event(event, received_at, &limits, || None).unwrap();
    set.validate_event(message.event).unwrap().event
}

pub(crate) fn made_up(set: &FeatureSet) -> Vec<CustomerEvent> {
    let lines = std::fs::read_to_string(data("golden/features_commerce_events.ndjson")).unwrap();
    lines.lines().map(|line| accepted(set, &serde_json::from_str(line).unwrap())).collect()
}

#[test]
fn orders_elements_money_and_zones_equal_pandas() {
    let (header, golden) = rows("golden/features_commerce_values.csv");
    let mut compared = 0;
    for rules in ["replace ignore", "add newest", "replace newest", "add ignore"] {
        let (repeated, unmatched) = rules.split_once(' ').unwrap();
        let set = commerce(repeated, unmatched);
        let events = made_up(&set);
        for row in golden.iter().filter(|row| &row[2] == rules) {
            let now = at(&row[1]);
            let mine = events.iter().filter(|e| e.customer.as_str() == &row[0]);
            let state = state_of(&set, mine.filter(|e| e.timestamp <= now));
            compared += assert_row(&set, &state.feature_row(&set, now).0, &header, row);
        }
    }
    assert!(compared > 7000, "{compared}");
}

/// A set with one `[orders]` table, as far as a case does not say otherwise.
pub(crate) fn set_of(tables: &str, features: &[(&str, &str)]) -> FeatureSet {
    let mut toml = String::from(tables);
    let head = "title = \"t\"\nunit = \"u\"\nowner = \"o\"\nsensitivity = \"public\"\n";
    for (name, feature) in features.iter().chain(&[("always", "fold = \"count\"")]) {
        write!(toml, "\n[[feature]]\nname = \"{name}\"\n{head}{feature}\n").unwrap();
    }
    let scored = "{ feature = \"always\", cuts = [1, 2, 3, 4] }";
    write!(toml, "[rfm]\nrecency = {scored}\nfrequency = {scored}\nmonetary = {scored}\n").unwrap();
    FeatureSet::parse(&toml).unwrap()
}

const ORDERS: &str = r#"
[orders]
id = "order_id"
value = "total"
placed = [{ name = "Order Completed" }]
returned = [{ name = "Order Refunded" }]
cancelled = [{ name = "Order Cancelled" }]
"#;

const NET: [(&str, &str); 5] = [
    ("orders", "fold = \"count\"\nfrom = \"orders\""),
    ("spend", "fold = \"sum\"\nfrom = \"orders\""),
    ("days", "fold = \"recency\"\nfrom = \"orders\""),
    ("repeats", "fold = \"count\"\nfrom = \"orders\"\nskip_first = true"),
    ("later_spend", "fold = \"sum\"\nfrom = \"orders\"\nskip_first = true"),
];

fn order(name: &str, time: &str, properties: &Value) -> Value {
    json!({ "type": "track", "customer_id": "c", "name": name, "timestamp": time,
            "message_id": format!("{name} {time}"), "properties": properties })
}

/// The values after the events, in any order of arrival.
fn values(set: &FeatureSet, events: &[Value], now: Timestamp) -> Vec<FeatureValue> {
    let events: Vec<CustomerEvent> = events.iter().map(|event| accepted(set, event)).collect();
    let forward = state_of(set, &events);
    let backward = state_of(set, events.iter().rev());
    assert_eq!(forward.to_bytes(set), backward.to_bytes(set));
    forward.feature_row(set, now).0
}

fn numbers(values: &[f64]) -> Vec<FeatureValue> {
    values.iter().map(|value| FeatureValue::number(*value)).collect()
}

#[test]
fn a_customer_who_returned_everything_has_no_orders_and_no_value() {
    let set = set_of(ORDERS, &NET);
    let now = at("2024-05-10T00:00:00Z");
    let first =
        order("Order Completed", "2024-05-01T00:00:00Z", &json!({ "order_id": 1, "total": 100 }));
    let second =
        order("Order Completed", "2024-05-05T00:00:00Z", &json!({ "order_id": 2, "total": 40 }));
    let back = |id: i32, total: Option<f64>| {
        order(
            "Order Refunded",
            &format!("2024-05-0{}T00:00:00Z", id + 6),
            &json!({ "order_id": id, "total": total }),
        )
    };
    let cancelled = order("Order Cancelled", "2024-05-09T00:00:00Z", &json!({ "order_id": 2 }));
    let both = [first.clone(), second.clone()];
    assert_eq!(values(&set, &both, now)[..5], numbers(&[2.0, 140.0, 5.0, 1.0, 40.0]));
    // The newest order is taken back, so the one before it decides the recency.
    let one = [first.clone(), second.clone(), cancelled.clone()];
    assert_eq!(values(&set, &one, now)[..5], numbers(&[1.0, 100.0, 9.0, 0.0, 0.0]));
    // A part of the first order.
    let part = [first.clone(), second.clone(), back(1, Some(30.0))];
    assert_eq!(values(&set, &part, now)[..5], numbers(&[2.0, 110.0, 5.0, 1.0, 40.0]));
    // All of it, in two parts; the second one becomes the first.
    let whole = [first.clone(), second.clone(), back(1, Some(100.0))];
    assert_eq!(values(&set, &whole, now)[..5], numbers(&[1.0, 40.0, 5.0, 0.0, 0.0]));
    let without_value = [first.clone(), second.clone(), back(1, None)];
    assert_eq!(values(&set, &without_value, now)[..5], numbers(&[1.0, 40.0, 5.0, 0.0, 0.0]));
    let nothing = values(&set, &[first, second, cancelled, back(1, None)], now);
    assert_eq!(nothing[..2], numbers(&[0.0, 0.0]));
    assert_eq!(nothing[2], FeatureValue::Missing);
}

#[test]
fn returns_without_a_known_order_are_taken_from_the_newest_if_declared() {
    let newest = format!("{ORDERS}unmatched = \"newest\"\n");
    let ignored = set_of(ORDERS, &NET);
    let taken = set_of(&newest, &NET);
    let now = at("2024-05-10T00:00:00Z");
    // Invoices of Online Retail: a cancellation has a number of its own.
    let line = |id: &str, time: &str, total: f64| {
        order("Order Completed", time, &json!({ "order_id": id, "total": total }))
    };
    let jars = [
        line("541431", "2024-05-01T10:01:00Z", 77183.6),
        line("C541433", "2024-05-01T10:17:00Z", -77183.6),
    ];
    assert_eq!(values(&taken, &jars, now)[..2], numbers(&[0.0, 0.0]));
    assert_eq!(values(&ignored, &jars, now)[..2], numbers(&[1.0, 77183.6]));
    // Never bought anything here.
    let only = [line("C1", "2024-05-01T10:17:00Z", -5.0), line("C2", "2024-05-02T10:17:00Z", -7.0)];
    let row = values(&taken, &only, now);
    assert_eq!(row[..2], numbers(&[0.0, 0.0]));
    assert_eq!(row[2], FeatureValue::Missing);
    // A return before the order does not reduce it; one of another value takes the newest.
    let mixed = [
        line("1", "2024-05-01T00:00:00Z", 50.0),
        line("2", "2024-05-02T00:00:00Z", 30.0),
        line("C3", "2024-05-03T00:00:00Z", -35.0),
        line("4", "2024-05-04T00:00:00Z", 80.0),
    ];
    assert_eq!(values(&taken, &mixed, now)[..2], numbers(&[2.0, 125.0]));
}

#[test]
fn more_orders_than_the_ledger_keeps_are_settled() {
    let set = set_of(ORDERS, &NET);
    let mut events = Vec::new();
    for n in 0..1_500 {
        let time = at("2020-01-01T00:00:00Z").plus_millis(n * 3_600_000).to_string();
        events.push(order("Order Completed", &time, &json!({ "order_id": n, "total": 2.5 })));
    }
    // Of the newest ones.
    for n in [1_499, 1_498] {
        events.push(order(
            "Order Cancelled",
            "2024-05-01T00:00:00Z",
            &json!({ "order_id": n, "total": 2.5 }),
        ));
        events.last_mut().unwrap()["message_id"] = json!(format!("cancelled {n}"));
    }
    let now = at("2024-05-10T00:00:00Z");
    let row = values(&set, &events, now);
    assert_eq!(row[..2], numbers(&[1_498.0, 1_498.0 * 2.5]));
    assert_eq!(row[3..5], numbers(&[1_497.0, 1_497.0 * 2.5]));
}

#[test]
fn signed_events_net_on_their_own_day() {
    let from =
        "from = [{ name = \"Order Completed\" }, { name = \"Order Refunded\", weight = -1 }]";
    let set = set_of(
        "",
        &[
            ("net", &format!("fold = \"sum\"\nproperty = \"total\"\n{from}")),
            (
                "net_3d",
                &format!(
                    "fold = \"sum\"\nproperty = \"total\"\nfloor = 0\nwindow = {{ rolling_days = 3 }}\n{from}"
                ),
            ),
            ("count", &format!("fold = \"count\"\n{from}")),
            (
                "gross",
                "fold = \"sum\"\nproperty = \"total\"\nfrom = { name = \"Order Completed\" }",
            ),
            ("taken_back", "fold = \"difference\"\nminuend = \"gross\"\nsubtrahend = \"net\""),
        ],
    );
    let events = [
        order("Order Completed", "2024-05-01T00:00:00Z", &json!({ "total": 20.1 })),
        order("Order Completed", "2024-05-02T00:00:00Z", &json!({ "total": 10.2 })),
        order("Order Refunded", "2024-05-08T00:00:00Z", &json!({ "total": 20.1 })),
    ];
    let row = values(&set, &events, at("2024-05-10T00:00:00Z"));
    assert_eq!(row[..5], numbers(&[10.2, 0.0, 1.0, 30.3, 30.3 - 10.2]));
}

#[test]
fn only_declared_fields_of_elements_are_stored() {
    let set = set_of(
        "",
        &[(
            "games",
            "fold = \"sum\"\neach = \"products\"\nproperty = \"products.price\"\n\
         where = [{ property = \"products.category\", equals = \"Games\" }]",
        )],
    );
    let event = order(
        "Order Completed",
        "2024-05-01T00:00:00Z",
        &json!({
            "card": "4111",
            "products": [
                { "price": 1.5, "category": "Games", "name": "Monopoly", "tags": ["a"] },
                { "price": 2.5, "category": "Books" },
                "not an object",
                { "price": 4.0, "category": "Games" },
            ],
        }),
    );
    let stored = accepted(&set, &event);
    let names: Vec<&str> = stored.properties.iter().map(|property| property.0).collect();
    let fields =
        |index: usize| [format!("products.{index}.category"), format!("products.{index}.price")];
    assert_eq!(names, [fields(0), fields(1), fields(3)].concat());
    assert_eq!(values(&set, &[event], at("2024-05-02T00:00:00Z"))[0], FeatureValue::Number(5.5));
    // Elements by index are in order of name: 10 before 2.
    let many: Vec<Value> = (0..120).map(|n| json!({ "price": n, "category": "Games" })).collect();
    let event = order("Order Completed", "2024-05-01T00:00:00Z", &json!({ "products": many }));
    assert_eq!(values(&set, &[event], at("2024-05-02T00:00:00Z"))[0], FeatureValue::Number(7140.0));
}

#[test]
fn currencies_without_a_rate_are_reported_and_left_out() {
    let money = "[money]\ncurrency = \"EUR\"\nproperty = \"currency\"\nproperties = [\"total\"]\n";
    let feature = [("spend", "fold = \"sum\"\nproperty = \"total\"")];
    let with_rates = set_of(&format!("{money}rates = \"rates.csv\"\n"), &feature)
        .with_rates(RateTable::parse("date,currency,rate\n2024-05-02,USD,0.9\n").unwrap());
    let sent = |currency: &str, time: &str| {
        order("Order Completed", time, &json!({ "total": 10, "currency": currency }))
    };
    for (currency, time, expected) in [
        ("USD", "2024-05-02T00:00:00Z", 9.0),
        (" usd", "2024-06-02T00:00:00Z", 9.0),
        ("EUR", "2024-05-02T00:00:00Z", 10.0),
        ("", "2024-05-02T00:00:00Z", 10.0),
        // Before the first rate, and without any.
        ("USD", "2024-05-01T00:00:00Z", 0.0),
        ("CHF", "2024-05-02T00:00:00Z", 0.0),
    ] {
        let row = values(&with_rates, &[sent(currency, time)], at("2024-06-10T00:00:00Z"));
        assert_eq!(row[0], FeatureValue::Number(expected), "{currency} {time}");
    }
    // A sender cannot choose the rate.
    let mut forged = sent("EUR", "2024-05-02T00:00:00Z");
    forged["properties"]["$rate"] = json!(1000);
    assert_eq!(
        values(&with_rates, &[forged], at("2024-06-10T00:00:00Z"))[0],
        FeatureValue::Number(10.0)
    );
    // The stored event has the rate, and a better table changes nothing that was accepted.
    let stored = accepted(&with_rates, &sent("USD", "2024-05-02T00:00:00Z"));
    assert_eq!(stored.properties.number("$rate"), Some(0.9));
}

#[test]
fn unconverted_amounts_and_orders_without_a_value_are_warned_of() {
    let money = "[money]\ncurrency = \"EUR\"\nproperty = \"currency\"\nproperties = [\"total\"]\n";
    let unconverted = set_of(&format!("{money}{ORDERS}"), &NET);
    let rates = RateTable::parse("date,currency,rate\n2024-05-02,USD,0.9\n").unwrap();
    let converted = set_of(&format!("{money}rates = \"r.csv\"\n{ORDERS}"), &NET).with_rates(rates);
    let warnings = |set: &FeatureSet, properties: Value| {
        let mut event =
            accepted(set, &order("Order Completed", "2024-05-03T00:00:00Z", &json!({})));
        event.properties =
            accepted(set, &order("Order Cancelled", "2024-05-03T00:00:00Z", &properties))
                .properties;
        let faults = set.complete_event(&mut event);
        faults.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let good = json!({ "total": 5, "currency": "EUR" });
    assert!(
        warnings(&unconverted, good.clone()).is_empty() && warnings(&converted, good).is_empty()
    );
    let dollars = json!({ "total": 5, "currency": "USD" });
    assert!(warnings(&converted, dollars.clone()).is_empty());
    assert_eq!(
        warnings(&unconverted, dollars),
        [
            "properties.currency: is `USD`, but amounts are read as EUR: declare `rates` in `[money]` to convert them",
        ]
    );
    assert_eq!(
        warnings(&unconverted, json!({ "order_id": "1" })),
        [
            "properties.total: is missing: the order counts without a value, which is read from total",
        ]
    );
}

#[test]
fn every_faulty_rate_is_reported_by_its_line() {
    let faults = RateTable::parse("date,currency,rate\n2024-13-01,USD,1\n2024-01-01,USD,-1\n2024-01-01,,1\n2024-01-02,USD,1\n2024-01-02,USD,2\n").unwrap_err();
    let texts: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "line 2: rates: date must be a day such as 2024-02-29; it is `2024-13-01`",
            "line 3: rates: rate must be a number from 0.000001 to 1000000; it is `-1`",
            "line 4: rates: currency must be a code such as USD; it is blank",
            "line 6: rates: has two rates for one currency on 2024-01-02: remove one",
        ]
    );
    assert!(RateTable::parse("day,currency,rate\n").is_err());
}
