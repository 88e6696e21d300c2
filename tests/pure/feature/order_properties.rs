//! Laws of orders on generated events: independent of arrival order, equal to a computation
//! from all events, never negative, and readable from any bytes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use segmentd::domain::event::{CustomerEvent, EventKind, PropertyValue};
use segmentd::domain::feature::{CustomerState, FeatureSet, FeatureValue};
use segmentd::domain::time::Timestamp;

use crate::feature::commerce::commerce;
use crate::feature::support::{event, state_of};

const NAMES: [&str; 4] = ["Order Completed", "Order Updated", "Order Refunded", "Order Cancelled"];
const RULES: [(&str, &str); 4] =
    [("replace", "ignore"), ("add", "newest"), ("replace", "newest"), ("add", "ignore")];

/// Cents, so that sums of floats are exact enough to compare.
fn made_up_event() -> impl Strategy<Value = CustomerEvent> {
    let name = prop_oneof![5 => Just(0), 1 => Just(1), 3 => Just(2), 1 => Just(3_usize)];
    let order = proptest::option::weighted(0.9, 0..6_u32);
    let total = proptest::option::weighted(0.9, -300..2_000_i32);
    // Around the changes of the clock in London, often at one instant.
    let at = prop_oneof![0..5_i64, 0..2_000_i64].prop_map(|half_hours| {
        Timestamp::from_millis(1_711_843_200_000 - 40 * 86_400_000 + half_hours * 1_800_000)
    });
    (name, order, total, at).prop_map(|(name, order, total, at)| {
        let mut properties = Vec::new();
        properties
            .extend(order.map(|id| ("order_id", PropertyValue::Text(format!("o{id}").into()))));
        properties.extend(total.map(|cents| {
            (
                "total",
                PropertyValue::Number(
                    f64::from(if name == 2 { cents.abs() } else { cents }) / 100.0,
                ),
            )
        }));
        event("c", EventKind::Track, NAMES[name], at, properties)
    })
}

/// Hundreds of orders and returns, twice in another order.
fn many_without_id() -> impl Strategy<Value = (Vec<CustomerEvent>, Vec<CustomerEvent>)> {
    let one = (0..5_u32, 1..2_000_i32, 0..500_i64).prop_map(|(name, cents, half_hours)| {
        let name = if name == 0 { "Order Refunded" } else { "Order Completed" };
        let at = 1_711_843_200_000 - 20 * 86_400_000 + half_hours * 1_800_000;
        let total = PropertyValue::Number(f64::from(cents) / 100.0);
        event("c", EventKind::Track, name, Timestamp::from_millis(at), vec![("total", total)])
    });
    proptest::collection::vec(one, 100..400)
        .prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle()))
}

fn two_orders() -> impl Strategy<Value = (Vec<CustomerEvent>, Vec<CustomerEvent>)> {
    proptest::collection::vec(made_up_event(), 0..60)
        .prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle()))
}

fn value(set: &FeatureSet, state: &CustomerState, name: &str, now: Timestamp) -> FeatureValue {
    state.feature_row(set, now).0[set.index_of(name).unwrap()].clone()
}

fn number(set: &FeatureSet, state: &CustomerState, name: &str, now: Timestamp) -> f64 {
    match value(set, state, name, now) {
        FeatureValue::Number(number) => number,
        other => panic!("{name} is {other:?}"),
    }
}

/// Number and value of the orders, where a second `placed` event adds and returns of unknown
/// orders have no effect.
fn by_hand(events: &[CustomerEvent]) -> (f64, f64) {
    #[derive(Default)]
    struct Order {
        placed: bool,
        gone: bool,
        value: f64,
        returned: f64,
    }
    let mut orders: BTreeMap<String, Order> = BTreeMap::new();
    for event in events {
        let id = match event.properties.get("order_id") {
            Some(PropertyValue::Text(id)) => id.to_string(),
            _ => event.message_id.as_str().to_owned(),
        };
        let order = orders.entry(id).or_default();
        let total = event.properties.number("total");
        match (&*event.name, total) {
            ("Order Completed" | "Order Updated", Some(total)) if total < 0.0 => {
                order.returned -= total;
            }
            ("Order Completed" | "Order Updated", total) => {
                order.placed = true;
                order.value += total.unwrap_or_default();
            }
            ("Order Refunded", Some(total)) => order.returned += total,
            _ => order.gone = true,
        }
    }
    let valued = |order: &Order| order.value - order.returned > 1e-9;
    let stands =
        |order: &&Order| order.placed && !order.gone && (order.returned == 0.0 || valued(order));
    let standing: Vec<&Order> = orders.values().filter(stands).collect();
    let value = standing.iter().filter(|o| valued(o)).map(|o| o.value - o.returned).sum();
    (standing.len() as f64, value)
}

/// A table with days instead of times has many equal orders at one instant.
#[test]
fn equal_orders_without_an_id_take_bounded_space() {
    let set = commerce("replace", "newest");
    let at = Timestamp::from_millis(1_711_843_200_000);
    let total = vec![("total", PropertyValue::Number(2.5))];
    let events: Vec<CustomerEvent> = (0..5_000)
        .map(|_| event("c", EventKind::Track, "Order Completed", at, total.clone()))
        .collect();
    let state = state_of(&set, &events);
    assert_eq!(number(&set, &state, "net_orders", at), 5_000.0);
    assert_eq!(number(&set, &state, "net_spend", at), 12_500.0);
    assert!(state.to_bytes(&set).len() < 4_000);
}

proptest! {
    #[test]
    fn no_order_of_arrival_shows((one, other) in two_orders(), rules in 0..4_usize, later in 0..200_i64) {
        let set = commerce(RULES[rules].0, RULES[rules].1);
        let now = Timestamp::from_millis(1_711_843_200_000 + later * 43_200_000);
        let (one, other) = (state_of(&set, &one), state_of(&set, &other));
        prop_assert_eq!(one.to_bytes(&set), other.to_bytes(&set));
        prop_assert_eq!(one.feature_row(&set, now), other.feature_row(&set, now));
    }

    /// More events without an id than are kept one by one, on fewer days.
    #[test]
    fn many_orders_without_an_id_are_summed_exactly(
        (one, other) in many_without_id(), rules in 0..4_usize,
    ) {
        let set = commerce(RULES[rules].0, RULES[rules].1);
        let now = Timestamp::from_millis(1_712_000_000_000);
        let (first, second) = (state_of(&set, &one), state_of(&set, &other));
        prop_assert_eq!(first.to_bytes(&set), second.to_bytes(&set));
        let placed = one.iter().filter(|event| *event.name == *"Order Completed");
        let spend: f64 = placed.clone().filter_map(|event| event.properties.number("total")).sum();
        let returned: f64 = one
            .iter()
            .filter(|event| *event.name == *"Order Refunded")
            .filter_map(|event| event.properties.number("total"))
            .sum();
        let is_newest = RULES[rules].1 == "newest";
        let expected = if is_newest { (spend - returned).max(0.0) } else { spend };
        let found = number(&set, &first, "net_spend", now);
        prop_assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        if !is_newest {
            prop_assert_eq!(number(&set, &first, "net_orders", now), placed.count() as f64);
        }
        prop_assert!(first.to_bytes(&set).len() < 8_000);
    }

    #[test]
    fn orders_equal_a_computation_from_all_events((events, _) in two_orders()) {
        // Without a value, a return in part cannot be told from a whole one.
        let events: Vec<CustomerEvent> = events
            .into_iter()
            .filter(|event| event.properties.number("total").is_some())
            .collect();
        let set = commerce("add", "ignore");
        let state = state_of(&set, &events);
        let now = Timestamp::from_millis(1_712_000_000_000);
        let (count, spend) = by_hand(&events);
        prop_assert_eq!(number(&set, &state, "net_orders", now), count);
        prop_assert!((number(&set, &state, "net_spend", now) - spend).abs() < 1e-6);
    }

    #[test]
    fn returns_never_make_a_customer_negative((events, _) in two_orders(), rules in 0..4_usize) {
        let set = commerce(RULES[rules].0, RULES[rules].1);
        let state = state_of(&set, &events);
        let now = Timestamp::from_millis(1_712_000_000_000);
        for name in ["net_orders", "net_spend", "net_spend_90d", "repeat_orders", "signed_spend_30d", "net_spend_fading"] {
            prop_assert!(number(&set, &state, name, now) >= 0.0, "{name}");
        }
        // Without cancellations and ids, all that was placed minus all that was returned.
        let bare: Vec<CustomerEvent> = events
            .iter()
            .filter(|event| *event.name != *"Order Cancelled")
            .filter(|event| event.properties.number("total").is_some())
            .cloned()
            .map(|mut event| {
                event.properties.retain(|name| name != "order_id");
                event
            })
            .collect();
        let net: f64 = bare
            .iter()
            .filter_map(|event| {
                let sign = if *event.name == *"Order Refunded" { -1.0 } else { 1.0 };
                Some(sign * event.properties.number("total")?)
            })
            .sum();
        if rules == 1 || rules == 2 {
            let spend = number(&set, &state_of(&set, &bare), "net_spend", now);
            prop_assert!((spend - net.max(0.0)).abs() < 1e-6, "{spend} is not {net}");
        }
        let gross = events
            .iter()
            .filter(|event| matches!(&*event.name, "Order Completed" | "Order Updated"))
            .filter_map(|event| event.properties.number("total"))
            .filter(|total| *total > 0.0)
            .sum::<f64>();
        prop_assert!(number(&set, &state, "net_spend", now) <= gross + 1e-6);
    }

    #[test]
    fn a_stored_ledger_continues_unchanged(
        (_, events) in two_orders(),
        cut in any::<proptest::sample::Index>(),
        damage in any::<(proptest::sample::Index, u8)>(),
    ) {
        let set = commerce("replace", "newest");
        let (first, second) = events.split_at(cut.index(events.len() + 1));
        let mut stored = state_of(&set, first).to_bytes(&set);
        let mut state = CustomerState::from_bytes(&set, &stored).unwrap();
        for event in second {
            state.apply(&set, event);
        }
        prop_assert_eq!(state, state_of(&set, &events));
        // Every accepted state must work without a panic.
        let at = damage.0.index(stored.len());
        stored[at] = damage.1;
        if let Ok(mut state) = CustomerState::from_bytes(&set, &stored) {
            for event in second {
                state.apply(&set, event);
            }
            state.feature_row(&set, Timestamp::from_millis(1_712_000_000_000));
        }
    }
}
