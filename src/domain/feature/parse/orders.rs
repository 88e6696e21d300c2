//! First pass over the table `[orders]`.

use crate::domain::feature::orders::rules::{
    OrderEventRule, OrderRules, OrderStep, RepeatedOrder, UnmatchedReturn,
};
use crate::domain::feature::parse::fields::TableReader;
use crate::domain::feature::parse::{amount, filter};
use crate::domain::feature::reading::filter::EventFilter;

const REPEATED: [(&str, RepeatedOrder); 2] = [
    (RepeatedOrder::Replace.name(), RepeatedOrder::Replace),
    (RepeatedOrder::Add.name(), RepeatedOrder::Add),
];
const UNMATCHED: [(&str, UnmatchedReturn); 2] = [
    (UnmatchedReturn::Ignore.name(), UnmatchedReturn::Ignore),
    (UnmatchedReturn::Newest.name(), UnmatchedReturn::Newest),
];
const EVENTS_EXAMPLE: &str = "event filters such as [{ name = \"Order Completed\" }]";

pub(super) fn read_orders(mut fields: TableReader<'_, '_>) -> Option<OrderRules> {
    let id = fields.text("id", "the property with the order's id, such as \"order_id\"");
    let value = amount::required(&mut fields, "value");
    fields.need("placed", EVENTS_EXAMPLE);
    // Cancellations and returns come first, so that `placed` may name all other events.
    let cancelled = steps(&mut fields, "cancelled", OrderStep::Cancelled);
    let returned = steps(&mut fields, "returned", OrderStep::Returned);
    let placed = steps(&mut fields, "placed", OrderStep::Placed);
    let repeated = fields.choice_or("repeated", &REPEATED, RepeatedOrder::Replace);
    let unmatched = fields.choice_or("unmatched", &UNMATCHED, UnmatchedReturn::Ignore);
    fields.finish("the table of orders");
    let events = [cancelled?, returned?, placed?].concat();
    Some(OrderRules { id: id?, value: value?, events, repeated: repeated?, unmatched: unmatched? })
}

fn steps(
    fields: &mut TableReader<'_, '_>,
    key: &'static str,
    step: OrderStep,
) -> Option<Vec<OrderEventRule>> {
    let Some(node) = fields.get(key) else { return Some(Vec::new()) };
    let items = fields.list_of(key, node, EVENTS_EXAMPLE)?;
    // Collected before the first `None` ends the reading, so that every fault is recorded.
    let read: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(i, item)| {
            let inner = fields.table_of(&format!("{key}[{}]", i + 1), item)?;
            event_rule(inner, step)
        })
        .collect();
    read.into_iter().collect()
}

fn event_rule(mut fields: TableReader<'_, '_>, step: OrderStep) -> Option<OrderEventRule> {
    let filter: Option<EventFilter> = filter::filter(&mut fields);
    let conditions = filter::conditions(&mut fields);
    fields.finish("an event filter of orders");
    Some(OrderEventRule { filter: filter?, conditions: conditions?, step })
}
