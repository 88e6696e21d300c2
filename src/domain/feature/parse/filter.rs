//! First pass over event filters and conditions.

use crate::domain::event::{EventKind, PropertyValue};
use crate::domain::feature::parse::document::{DocumentNode, NodeData};
use crate::domain::feature::parse::fields::TableReader;
use crate::domain::feature::reading::filter::{
    EventFilter, NumberRange, PropertyCondition, PropertyTest, PropertyType,
};
use crate::domain::feature::source::WeightedFilter;
use crate::domain::feature::validation::convert::MAX_TEXT_BYTES;
use crate::domain::text::is_storable;

/// Greater numbers must be written as integers: a double may be another number than the
/// digits of the file.
const LARGE_NUMBER: f64 = 9_007_199_254_740_992.0;
const BOUNDS: [&str; 4] = ["above", "at_least", "below", "at_most"];
const MAX_WEIGHT: f64 = 1000.0;

/// Parses `from`: one filter or a list of filters.
pub(super) fn filters(fields: &mut TableReader<'_, '_>) -> Option<Vec<WeightedFilter>> {
    let Some(node) = fields.get("from") else {
        let filter = EventFilter { kind: None, name: None };
        return Some(vec![WeightedFilter { filter, weight: 1.0 }]);
    };
    let NodeData::List(_) = &node.data else {
        let inner = fields.table_of("from", node)?;
        return Some(vec![weighted(inner)?]);
    };
    let items =
        fields.list_of("from", node, "event filters such as [{ name = \"Order Completed\" }]")?;
    // Collected before the first `None` ends the reading, so that every fault is recorded.
    let read: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(i, item)| fields.table_of(&format!("from[{}]", i + 1), item).and_then(weighted))
        .collect();
    read.into_iter().collect()
}

fn weighted(mut fields: TableReader<'_, '_>) -> Option<WeightedFilter> {
    let filter = filter(&mut fields);
    let weight = match fields.get("weight") {
        None => Some(1.0),
        Some(node) => {
            let range = format!("a number from -{MAX_WEIGHT} to {MAX_WEIGHT} other than 0");
            fields.number_of("weight", node, &range, |n| n != 0.0 && n.abs() <= MAX_WEIGHT)
        }
    };
    fields.finish("an event filter");
    Some(WeightedFilter { filter: filter?, weight: weight? })
}

/// Parses the keys `kind` and `name`.
pub(super) fn filter(inner: &mut TableReader<'_, '_>) -> Option<EventFilter> {
    let kind = match inner.get("kind") {
        None => Some(None),
        Some(node) => match &node.data {
            NodeData::Text(text) if &**text == "identify" => {
                let problem = "`identify` events set traits: declare a `[[trait]]` and give the \
                               feature `trait` instead of `fold`";
                inner.fault(node.line, "kind", problem);
                None
            }
            _ => {
                let kinds =
                    [EventKind::Track, EventKind::Page, EventKind::Screen, EventKind::Group];
                inner.choice("kind", &kinds.map(|kind| (kind.as_str(), kind))).map(Some)
            }
        },
    };
    let such_as = "the event's name, such as \"Order Completed\"";
    let name = match inner.get("name") {
        None => Some(None),
        Some(node) => inner.text_of("name", node, such_as).map(Some),
    };
    Some(EventFilter { kind: kind?, name: name? })
}

/// Parses `where` and `except`.
pub(super) fn conditions(fields: &mut TableReader<'_, '_>) -> Option<Vec<PropertyCondition>> {
    let required = conditions_of(fields, "where", false);
    let excluded = conditions_of(fields, "except", true);
    Some([required?, excluded?].concat())
}

fn conditions_of(
    fields: &mut TableReader<'_, '_>,
    key: &'static str,
    is_negated: bool,
) -> Option<Vec<PropertyCondition>> {
    let Some(node) = fields.get(key) else { return Some(Vec::new()) };
    let such_as = "conditions such as [{ property = \"channel\", equals = \"web\" }]";
    let items = fields.list_of(key, node, such_as)?;
    let read: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(i, item)| {
            let inner = fields.table_of(&format!("{key}[{}]", i + 1), item)?;
            Some(PropertyCondition { is_negated, ..condition(inner)? })
        })
        .collect();
    read.into_iter().collect()
}

fn condition(mut fields: TableReader<'_, '_>) -> Option<PropertyCondition> {
    let property = fields.text("property", "the name of a property");
    let equals = fields.get("equals");
    let bounds = BOUNDS.map(|key| (key, fields.get(key)));
    let has_bound = bounds.iter().any(|(_, node)| node.is_some());
    let exists = fields.get("exists");
    let given = [equals.is_some(), has_bound, exists.is_some()].into_iter().filter(|given| *given);
    let test = match (given.count(), equals, exists) {
        (0, ..) => {
            let problem = "is missing: give `equals`, `exists`, or bounds by `above`, `at_least`, \
                           `below` and `at_most`";
            fields.fault(fields.line, "equals", problem);
            None
        }
        (1, Some(node), _) => {
            scalars(&fields, "equals", node, "a value or a list of values").map(PropertyTest::OneOf)
        }
        (1, None, Some(node)) => exists_test(&fields, node),
        (1, None, None) => {
            range(&fields, bounds).map(|range| PropertyTest::Within { range, is_money: false })
        }
        _ => {
            let problem = "cannot be combined with another test: remove either, or make two \
                           conditions";
            let (key, node) = match (equals, exists) {
                (Some(node), _) => ("equals", Some(node)),
                (None, node) => ("exists", node),
            };
            fields.fault(node.and_then(|node| node.line), key, problem);
            None
        }
    };
    fields.finish("a condition");
    Some(PropertyCondition { property: property?, test: test?, is_negated: false })
}

fn exists_test(fields: &TableReader<'_, '_>, node: &DocumentNode) -> Option<PropertyTest> {
    if matches!(node.data, NodeData::Bool(true)) {
        return Some(PropertyTest::Exists);
    }
    let problem = "must be true; for events without the property, give the condition in `except`";
    fields.fault(node.line, "exists", problem);
    None
}

/// Parses the bounds of a range.
fn range(
    fields: &TableReader<'_, '_>,
    bounds: [(&'static str, Option<&DocumentNode>); 4],
) -> Option<NumberRange> {
    let [above, at_least, below, at_most] = bounds
        .map(|(key, node)| node.map(|node| fields.number_of(key, node, "a number", |_| true)));
    // A faulty bound is recorded.
    let optional = |bound: Option<Option<f64>>| bound.map_or(Some(None), |bound| bound.map(Some));
    let range = NumberRange {
        above: optional(above)?,
        at_least: optional(at_least)?,
        below: optional(below)?,
        at_most: optional(at_most)?,
    };
    let lower = [("above", above), ("at_least", at_least)];
    let upper = [("below", below), ("at_most", at_most)];
    for (low_key, low) in lower.map(|(key, bound)| (key, bound.flatten())) {
        for (high_key, high) in upper.map(|(key, bound)| (key, bound.flatten())) {
            let (Some(low), Some(high)) = (low, high) else { continue };
            let is_closed = low_key == "at_least" && high_key == "at_most";
            if low > high || low >= high && !is_closed {
                let problem = format!(
                    "must be less than `{high_key}`: nothing is {} {low} and {} {high}",
                    low_key.replace('_', " "),
                    high_key.replace('_', " ")
                );
                let found = bounds.iter().find(|(key, _)| *key == low_key);
                let line = found.and_then(|(_, node)| node.and_then(|node| node.line));
                fields.fault(line, low_key, problem);
                return None;
            }
        }
    }
    Some(range)
}

/// Parses one value or a list of values, all of one type.
pub(super) fn scalars(
    fields: &TableReader<'_, '_>,
    key: &str,
    node: &DocumentNode,
    such_as: &str,
) -> Option<Vec<PropertyValue>> {
    let items = match &node.data {
        NodeData::List(items) if !items.is_empty() => items.as_slice(),
        NodeData::List(_) => {
            fields.fault(node.line, key, format!("must not be empty: give {such_as}"));
            return None;
        }
        _ => std::slice::from_ref(node),
    };
    let mut values: Vec<PropertyValue> = Vec::with_capacity(items.len());
    for item in items {
        let value = match &item.data {
            NodeData::Text(text) if text.len() > MAX_TEXT_BYTES || !is_storable(text) => {
                let problem = format!(
                    "must hold texts of at most {MAX_TEXT_BYTES} bytes without NUL: no event can \
                     have another"
                );
                fields.fault(item.line, key, problem);
                return None;
            }
            NodeData::Text(text) => PropertyValue::Text(text.clone()),
            NodeData::Number(n) if n.is_finite() && n.abs() <= LARGE_NUMBER => {
                PropertyValue::Number(*n)
            }
            NodeData::LargeInteger(n) => PropertyValue::Integer(*n),
            NodeData::Bool(b) => PropertyValue::Bool(*b),
            _ => {
                let problem = format!("must be {such_as}; it holds {}", item.noun());
                fields.fault(item.line, key, problem);
                return None;
            }
        };
        if let Some(first) = values.first()
            && PropertyType::of_scalar(first) != PropertyType::of_scalar(&value)
        {
            let problem = "must hold values of one type: texts, numbers, or true and false";
            fields.fault(item.line, key, problem);
            return None;
        }
        values.push(value);
    }
    Some(values)
}
