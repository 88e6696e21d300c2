//! Normal form: a feature declaration as canonical JSON, for the store and for the feature
//! set's id.
//!
//! The keys are those of the file with defaults filled in, sorted, without spaces. A key that
//! is added to the format later must be omitted at its default. Otherwise the id of every
//! feature set changes and every stored state is rebuilt.

use serde_json::{Map, Value, json};

use crate::domain::feature::define::{FeatureDefinition, FeatureEncoding, MissingValueRule};
use crate::domain::feature::parse::FeatureDeclarations;
use crate::domain::feature::rfm::RfmInput;
use crate::domain::feature::source::{
    EventFeatureSource, FeatureFold, FeatureSource, PropertyCondition, PropertyTest,
};
use crate::domain::feature::window::TimeWindow;

pub(super) fn canonical_json(declared: &FeatureDeclarations) -> String {
    let features: Vec<Value> = declared
        .features
        .iter()
        .zip(&declared.sources)
        .map(|(def, source)| Value::Object(feature(def, *source, declared)))
        .collect();
    let rfm = &declared.rfm;
    let document = json!({
        "trait": declared.traits,
        "feature": features,
        "rfm": {
            "recency": scored(&rfm.recency),
            "frequency": scored(&rfm.frequency),
            "monetary": scored(&rfm.monetary),
        },
    });
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
    put(&mut keys, "unit", json!(def.unit));
    put(&mut keys, "owner", json!(def.owner));
    put(&mut keys, "sensitivity", json!(def.sensitivity));
    match source {
        FeatureSource::Trait(index) => put(&mut keys, "trait", json!(declared.traits[index].name)),
        FeatureSource::Ratio(ratio) => {
            put(&mut keys, "fold", json!("ratio"));
            put(&mut keys, "numerator", json!(declared.features[ratio.numerator].name));
            put(&mut keys, "denominator", json!(declared.features[ratio.denominator].name));
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
    let mut from = Map::new();
    from.extend(source.head.kind.map(|kind| ("kind".to_owned(), json!(kind))));
    from.extend(source.head.name.as_ref().map(|name| ("name".to_owned(), json!(name))));
    if !from.is_empty() {
        put(keys, "from", from.into());
    }
    if !source.conditions.is_empty() {
        put(keys, "where", source.conditions.iter().map(condition).collect());
    }
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

fn fold(fold: &FeatureFold) -> (&'static str, Vec<(&'static str, Value)>) {
    match fold {
        FeatureFold::Count => ("count", vec![]),
        FeatureFold::Sum { properties } => ("sum", vec![("property", json!(properties))]),
        FeatureFold::Mean { property } => ("mean", vec![("property", json!(property))]),
        FeatureFold::Min { property } => ("min", vec![("property", json!(property))]),
        FeatureFold::Max { property } => ("max", vec![("property", json!(property))]),
        FeatureFold::Last { property, kind } => {
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
            keys.extend(weight_by.as_ref().map(|weight_by| ("weight_by", json!(weight_by))));
            ("share", keys)
        }
        FeatureFold::Sessions { gap_minutes } => {
            ("sessions", vec![("gap_minutes", json!(gap_minutes))])
        }
    }
}

fn condition(condition: &PropertyCondition) -> Value {
    let mut keys = Map::new();
    keys.insert("property".to_owned(), json!(condition.property));
    match &condition.test {
        PropertyTest::OneOf(values) => keys.extend([("equals".to_owned(), json!(values))]),
        PropertyTest::Between { above, below } => {
            keys.extend(above.map(|above| ("above".to_owned(), json!(above))));
            keys.extend(below.map(|below| ("below".to_owned(), json!(below))));
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
