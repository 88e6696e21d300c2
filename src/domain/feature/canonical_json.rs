//! Normal form: a feature declaration as canonical JSON, for the store and for the feature
//! set's id.
//!
//! The keys are those of the file with defaults filled in, sorted, without spaces. A key that
//! is added to the format later must be omitted at its default. Otherwise the id of every
//! feature set changes and every stored state is rebuilt.

use serde_json::{Map, Value, json};

use crate::domain::feature::define::{FeatureDefinition, FeatureEncoding, MissingValueRule};
use crate::domain::feature::orders::rules::{OrderEventRule, OrderRules, OrderStep};
use crate::domain::feature::parse::FeatureDeclarations;
use crate::domain::feature::reading::amount::NumberExpression;
use crate::domain::feature::reading::filter::{
    EventFilter, NumberRange, PropertyCondition, PropertyTest,
};
use crate::domain::feature::reading::money::MoneyRules;
use crate::domain::feature::rfm::RfmInput;
use crate::domain::feature::source::{
    EventFeatureSource, FeatureFold, FeatureSource, WeightedFilter,
};
use crate::domain::feature::window::TimeWindow;
use crate::domain::feature::zone::DayZone;

pub(super) fn canonical_json(declared: &FeatureDeclarations) -> String {
    let features: Vec<Value> = declared
        .features
        .iter()
        .zip(&declared.sources)
        .map(|(def, source)| Value::Object(feature(def, *source, declared)))
        .collect();
    let rfm = &declared.rfm;
    let mut document = json!({
        "trait": declared.traits,
        "feature": features,
        "rfm": {
            "recency": scored(&rfm.recency),
            "frequency": scored(&rfm.frequency),
            "monetary": scored(&rfm.monetary),
        },
    });
    if let Some(keys) = document.as_object_mut() {
        keys.extend(declared.orders.as_ref().map(|rules| ("orders".to_owned(), orders(rules))));
        keys.extend(declared.money.as_ref().map(|rules| ("money".to_owned(), money(rules))));
        if declared.zone != DayZone::Utc {
            put(keys, "time", json!({ "zone": declared.zone.name() }));
        }
    }
    let mut text = String::new();
    write(&document, &mut text);
    text
}

fn put(keys: &mut Map<String, Value>, key: &str, value: Value) {
    keys.insert(key.to_owned(), value);
}

fn feature(
    def: &FeatureDefinition,
    source: FeatureSource,
    declared: &FeatureDeclarations,
) -> Map<String, Value> {
    let mut keys = Map::new();
    put(&mut keys, "name", json!(def.name));
    put(&mut keys, "title", json!(def.title));
    if !def.segment_words.is_empty() {
        put(&mut keys, "segment_words", json!(def.segment_words));
    }
    put(&mut keys, "unit", json!(def.unit));
    put(&mut keys, "owner", json!(def.owner));
    put(&mut keys, "sensitivity", json!(def.sensitivity));
    match source {
        FeatureSource::Trait(index) => put(&mut keys, "trait", json!(declared.traits[index].name)),
        FeatureSource::Derived(derived) => {
            let (fold, left, right) = derived.rule.keys();
            put(&mut keys, "fold", json!(fold));
            put(&mut keys, left, json!(declared.features[derived.left].name));
            put(&mut keys, right, json!(declared.features[derived.right].name));
            keys.extend(derived.floor.map(|floor| ("floor".to_owned(), json!(floor))));
        }
        FeatureSource::Events(index) => put_event_source(&mut keys, &declared.event_sources[index]),
    }
    match def.encoding {
        None => {}
        Some(FeatureEncoding::Number {
            missing,
            missing_flag,
            winsorise,
            transform,
            scale,
            weight,
        }) => {
            put(
                &mut keys,
                "missing",
                match missing {
                    MissingValueRule::Mean => json!("mean"),
                    MissingValueRule::Median => json!("median"),
                    MissingValueRule::Constant(constant) => json!(constant),
                },
            );
            let mut encoding = json!({
                "as": "number",
                "missing_flag": missing_flag,
                "transform": transform,
                "scale": scale,
                "weight": weight,
            });
            if let (Some((lower, upper)), Some(keys)) = (winsorise, encoding.as_object_mut()) {
                keys.insert("winsorise".to_owned(), json!([lower, upper]));
            }
            put(&mut keys, "encoding", encoding);
        }
        Some(FeatureEncoding::OneHot { floor, weight }) => {
            put(
                &mut keys,
                "encoding",
                json!({ "as": "one-hot", "floor": floor, "weight": weight }),
            );
        }
    }
    keys
}

fn put_event_source(keys: &mut Map<String, Value>, source: &EventFeatureSource) {
    put_filters(keys, source);
    keys.extend(source.each.as_ref().map(|each| ("each".to_owned(), json!(each))));
    keys.extend(source.floor.map(|floor| ("floor".to_owned(), json!(floor))));
    put_conditions(keys, &source.conditions);
    let (name, parameters) = fold(&source.fold);
    put(keys, "fold", json!(name));
    for (key, value) in parameters {
        put(keys, key, value);
    }
    match source.window {
        // Also the window of folds that take none.
        TimeWindow::Lifetime => {}
        TimeWindow::RollingDays(days) => put(keys, "window", json!({ "rolling_days": days })),
        TimeWindow::HalfLifeDays(days) => put(keys, "window", json!({ "half_life_days": days })),
    }
}

/// One filter without a weight as a table, others as a list; nothing for all events.
fn put_filters(keys: &mut Map<String, Value>, source: &EventFeatureSource) {
    if source.is_of_orders() {
        put(keys, "from", json!("orders"));
        return;
    }
    match source.filters.as_slice() {
        [only] if !source.is_weighted() => {
            let from = filter(&only.filter);
            if !from.is_empty() {
                put(keys, "from", from.into());
            }
        }
        filters => put(keys, "from", filters.iter().map(weighted_filter).collect()),
    }
}

fn weighted_filter(weighted: &WeightedFilter) -> Value {
    let mut from = filter(&weighted.filter);
    if weighted.weight.total_cmp(&1.0).is_ne() {
        put(&mut from, "weight", json!(weighted.weight));
    }
    from.into()
}

fn filter(filter: &EventFilter) -> Map<String, Value> {
    let mut from = Map::new();
    from.extend(filter.kind.map(|kind| ("kind".to_owned(), json!(kind))));
    from.extend(filter.name.as_ref().map(|name| ("name".to_owned(), json!(name))));
    from
}

/// A property by its name, others as a table.
fn expression(expression: &NumberExpression) -> Value {
    let names: Vec<&str> = expression.properties().iter().map(|own| &*own.name).collect();
    match expression {
        NumberExpression::Property(property) => json!(property.name),
        NumberExpression::FirstOf(_) => json!({ "first_of": names }),
        NumberExpression::Product(_) => json!({ "product_of": names }),
    }
}

fn orders(rules: &OrderRules) -> Value {
    let mut keys = Map::new();
    put(&mut keys, "id", json!(rules.id));
    put(&mut keys, "value", expression(&rules.value));
    for step in [OrderStep::Placed, OrderStep::Returned, OrderStep::Cancelled] {
        let events = rules.events.iter().filter(|rule| rule.step == step);
        let events: Vec<Value> = events.map(order_event).collect();
        if !events.is_empty() {
            put(&mut keys, step.key(), events.into());
        }
    }
    put(&mut keys, "repeated", json!(rules.repeated.name()));
    put(&mut keys, "unmatched", json!(rules.unmatched.name()));
    keys.into()
}

fn order_event(rule: &OrderEventRule) -> Value {
    let mut keys = filter(&rule.filter);
    put_conditions(&mut keys, &rule.conditions);
    keys.into()
}

fn money(rules: &MoneyRules) -> Value {
    let mut keys = Map::new();
    put(&mut keys, "currency", json!(rules.currency));
    put(&mut keys, "properties", json!(rules.properties));
    keys.extend(rules.property.as_ref().map(|name| ("property".to_owned(), json!(name))));
    keys.extend(rules.rates_file.as_ref().map(|file| ("rates".to_owned(), json!(file))));
    keys.into()
}

fn fold(fold: &FeatureFold) -> (&'static str, Vec<(&'static str, Value)>) {
    match fold {
        FeatureFold::Count => ("count", vec![]),
        FeatureFold::Sum { terms } => {
            let terms: Vec<Value> = terms.iter().map(expression).collect();
            ("sum", vec![("property", terms.into())])
        }
        FeatureFold::Mean { value } => ("mean", vec![("property", expression(value))]),
        FeatureFold::Min { value } => ("min", vec![("property", expression(value))]),
        FeatureFold::Max { value } => ("max", vec![("property", expression(value))]),
        FeatureFold::First { property, kind, .. } => {
            ("first", vec![("property", json!(property)), ("kind", json!(kind))])
        }
        FeatureFold::Last { property, kind, .. } => {
            ("last", vec![("property", json!(property)), ("kind", json!(kind))])
        }
        FeatureFold::Recency => ("recency", vec![]),
        FeatureFold::Tenure => ("tenure", vec![]),
        FeatureFold::MeanGap => ("mean-gap", vec![]),
        FeatureFold::Distinct { property, sketch_size } => {
            ("distinct", vec![("property", json!(property)), ("sketch_size", json!(sketch_size))])
        }
        FeatureFold::Share { property, values, weight_by } => {
            let mut keys = vec![("property", json!(property)), ("values", json!(values))];
            keys.extend(weight_by.as_ref().map(|weight| ("weight_by", expression(weight))));
            ("share", keys)
        }
        FeatureFold::Sessions { gap_minutes } => {
            ("sessions", vec![("gap_minutes", json!(gap_minutes))])
        }
        FeatureFold::Orders { fold, .. } => {
            let skip_first = fold.skip_first.then_some(("skip_first", json!(true)));
            (fold.aggregate.name(), skip_first.into_iter().collect())
        }
    }
}

fn put_conditions(keys: &mut Map<String, Value>, conditions: &[PropertyCondition]) {
    for (key, is_negated) in [("where", false), ("except", true)] {
        let of_key = conditions.iter().filter(|condition| condition.is_negated == is_negated);
        let of_key: Vec<Value> = of_key.map(condition).collect();
        if !of_key.is_empty() {
            put(keys, key, of_key.into());
        }
    }
}

fn condition(condition: &PropertyCondition) -> Value {
    let mut keys = Map::new();
    keys.insert("property".to_owned(), json!(condition.property));
    match &condition.test {
        PropertyTest::OneOf(values) => keys.extend([("equals".to_owned(), json!(values))]),
        PropertyTest::Exists => keys.extend([("exists".to_owned(), json!(true))]),
        PropertyTest::Within { range, .. } => {
            let NumberRange { above, at_least, below, at_most } = *range;
            let bounds =
                [("above", above), ("at_least", at_least), ("below", below), ("at_most", at_most)];
            for (key, bound) in bounds {
                keys.extend(bound.map(|bound| (key.to_owned(), json!(bound))));
            }
        }
    }
    keys.into()
}

fn scored(scored: &RfmInput) -> Value {
    json!({ "feature": scored.feature, "cuts": scored.cuts })
}

/// Writes canonical JSON. Sorts keys itself: whether the maps of `serde_json` are sorted
/// depends on a feature that any other crate in the build can switch.
fn write(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(keys) => {
            let mut sorted: Vec<_> = keys.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (i, (key, item)) in sorted.into_iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                text.push_str(&json!(key).to_string());
                text.push(':');
                write(item, text);
            }
            text.push('}');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}
