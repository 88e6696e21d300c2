//! Cost of a customer's feature row, and of folding one more event, by the number of orders.

use std::hint::black_box;
use std::time::Instant;

use segmentd::domain::event::{CustomerEvent, EventKind};
use segmentd::domain::feature::{CustomerState, FeatureSet};
use segmentd::domain::time::Timestamp;

use crate::feature_support::{RETAIL, event, number, text};
use crate::{Figure, median};

pub(crate) const FIGURES: [&str; 2] = ["feature_row_1000_orders", "feature_event_1000_orders"];

/// Orders of the two customers. A state keeps at most 1,000 order events.
const MANY: u32 = 1000;
const FEW: u32 = 10;

const DAY_MILLIS: i64 = 86_400_000;
const RUNS: usize = 5;
const REPETITIONS: u32 = 200;

pub(crate) fn run(ids: &[&str]) -> Vec<Figure> {
    let set = FeatureSet::parse(RETAIL).unwrap();
    let [many, few] = [MANY, FEW].map(|orders| Measured::with_orders(&set, orders));
    let figures = [
        ("feature_row_1000_orders", "feature row, microseconds", many.row, few.row),
        ("feature_event_1000_orders", "event and row, microseconds", many.event, few.event),
    ];
    let wanted = figures.into_iter().filter(|(id, ..)| ids.contains(id));
    wanted
        .map(|(id, description, value, baseline_value)| Figure {
            id,
            description,
            value,
            unit: "µs",
            baseline: "a customer with 10 orders",
            baseline_value,
            ratio: value / baseline_value,
            runs: RUNS,
        })
        .collect()
}

/// Median times in microseconds.
struct Measured {
    row: f64,
    event: f64,
}

impl Measured {
    fn with_orders(set: &FeatureSet, orders: u32) -> Self {
        // Two years of orders; every tenth is returned in part.
        let begin = Timestamp::from_millis(1_700_000_000_000);
        let at =
            |part: u32| begin.plus_millis(i64::from(part) * 730 * DAY_MILLIS / i64::from(orders));
        let mut events: Vec<CustomerEvent> = Vec::new();
        for order in 0..orders {
            events.push(order_event("Order Completed", order, 40 + order % 60, at(order)));
            if order % 10 == 0 {
                events.push(order_event("Order Refunded", order, 5, at(order)));
            }
        }
        let state = CustomerState::replay(set, &events);
        let now = at(orders);
        let next = order_event("Order Completed", orders, 50, now);
        let timed = |action: &dyn Fn()| {
            let runs = (0..RUNS).map(|_| {
                let started = Instant::now();
                (0..REPETITIONS).for_each(|_| action());
                started.elapsed().as_secs_f64() * 1e6 / f64::from(REPETITIONS)
            });
            median(runs.collect())
        };
        Self {
            row: timed(&|| drop(black_box(state.feature_row(set, now)))),
            event: timed(&|| {
                let mut state = state.clone();
                state.apply(set, &next);
                drop(black_box(state.feature_row(set, now)));
            }),
        }
    }
}

fn order_event(name: &str, order: u32, value: u32, at: Timestamp) -> CustomerEvent {
    let properties =
        vec![("order_id", text(&order.to_string())), ("sales_value", number(&value.to_string()))];
    event("c", EventKind::Track, name, at, properties)
}
