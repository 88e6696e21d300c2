//! Walks through the JSON of the OpenAPI document.

use serde_json::{Map, Value};

pub(super) const SCHEMA_PATH: &str = "#/components/schemas/";

/// The schema behind a `$ref`, or the schema itself.
pub(super) fn resolve<'v>(schema: &'v Value, schemas: &'v Map<String, Value>) -> &'v Value {
    let name = schema["$ref"].as_str().and_then(|path| path.strip_prefix(SCHEMA_PATH));
    name.and_then(|name| schemas.get(name)).unwrap_or(schema)
}

/// Calls `change` with every object in `value`, the outer ones first.
pub(super) fn for_each_object(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            change(object);
            object.values_mut().for_each(|value| for_each_object(value, change));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| for_each_object(item, change)),
        _ => {}
    }
}
