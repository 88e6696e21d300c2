//! Examples of request and response bodies, built from the examples of their properties.
//!
//! A schema's own `example` comes first. Otherwise an object has the examples of its
//! properties, an array one item, and a value of fixed choices the first of them.

use serde_json::{Map, Value, json};

use super::walk::resolve;

/// The instant in examples.
const INSTANT: &str = "2026-03-01T09:30:00.000Z";
/// Depth at which a schema that contains itself ends.
const MAX_DEPTH: usize = 12;

/// Adds an example to each JSON body of an operation that has none.
pub(super) fn add_to_operation(operation: &mut Value, schemas: &Map<String, Value>) {
    if let Some(request) = operation.get_mut("requestBody") {
        add_to_body(request, schemas);
    }
    let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
    for (status, response) in responses.into_iter().flatten() {
        if status.starts_with('2') {
            add_to_body(response, schemas);
        }
    }
}

fn add_to_body(body: &mut Value, schemas: &Map<String, Value>) {
    let content = body.get_mut("content").and_then(Value::as_object_mut);
    for (media_type, media) in content.into_iter().flatten() {
        let has_example = media.get("example").is_some() || media.get("examples").is_some();
        if media_type == "application/json" && !has_example && media.get("schema").is_some() {
            media["example"] = example(&media["schema"], schemas, 0);
        }
    }
}

/// An example of a schema.
fn example(schema: &Value, schemas: &Map<String, Value>, depth: usize) -> Value {
    if let Some(given) = given_example(schema) {
        return given.clone();
    }
    let schema = resolve(schema, schemas);
    if let Some(given) = given_example(schema) {
        return given.clone();
    }
    if depth >= MAX_DEPTH {
        return Value::Null;
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let mut whole = Map::new();
        for part in parts {
            if let Value::Object(properties) = example(part, schemas, depth + 1) {
                whole.extend(properties);
            }
        }
        return whole.into();
    }
    let choices = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
    if let Some(choices) = choices {
        let choice = choices.iter().find(|choice| choice["type"] != "null");
        return choice.map_or(Value::Null, |choice| example(choice, schemas, depth + 1));
    }
    match type_name(schema) {
        "object" => object_example(schema, schemas, depth),
        "array" if schema["items"].is_object() => {
            json!([example(&schema["items"], schemas, depth + 1)])
        }
        "array" => json!([]),
        "string" if schema["format"] == "date-time" => INSTANT.into(),
        "string" => "text".into(),
        "integer" => schema.get("minimum").cloned().unwrap_or_else(|| 1.into()),
        "number" => schema.get("minimum").cloned().unwrap_or_else(|| 0.5.into()),
        "boolean" => false.into(),
        _ => Value::Null,
    }
}

fn object_example(schema: &Value, schemas: &Map<String, Value>, depth: usize) -> Value {
    let properties = schema["properties"].as_object();
    let mut object: Map<String, Value> = properties
        .into_iter()
        .flatten()
        .map(|(name, property)| (name.clone(), example(property, schemas, depth + 1)))
        .collect();
    let others = &schema["additionalProperties"];
    if object.is_empty() && others.is_object() {
        object.insert("name".to_owned(), example(others, schemas, depth + 1));
    }
    object.into()
}

/// The example that the schema states, or the only or first value that it allows.
fn given_example(schema: &Value) -> Option<&Value> {
    schema
        .get("example")
        .or_else(|| schema["examples"].get(0))
        .or_else(|| schema.get("const"))
        .or_else(|| schema.get("default").filter(|default| !default.is_null()))
        .or_else(|| schema["enum"].get(0))
}

/// The type of a schema, without null.
fn type_name(schema: &Value) -> &str {
    match &schema["type"] {
        Value::Array(types) => {
            types.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or_default()
        }
        name => name.as_str().unwrap_or_default(),
    }
}
