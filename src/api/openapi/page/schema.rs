//! Schemas on the documentation page: a table of properties each.

use std::fmt::Write;

use serde_json::Value;

use super::html::{anchor, escape, marked_up};
use crate::api::openapi::walk::SCHEMA_PATH;

/// Appends a named schema.
pub(super) fn push_html(page: &mut String, name: &str, schema: &Value) {
    let description = marked_up(schema["description"].as_str().unwrap_or_default());
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "<details id={}><summary><code>{}</code></summary><p>{description}</p>",
        anchor("schema", name),
        escape(name),
    );
    if has_properties(schema) {
        page.push_str("<table><thead><tr><th>Property<th>Type<th>Description</thead><tbody>");
        push_properties(page, schema);
        page.push_str("</tbody></table>");
    } else {
        let _ = write!(page, "<p>{}</p>", type_text(schema));
    }
    page.push_str("</details>");
}

fn has_properties(schema: &Value) -> bool {
    schema["properties"].is_object()
        || schema["allOf"].as_array().is_some_and(|parts| parts.iter().any(has_properties))
}

fn push_properties(page: &mut String, schema: &Value) {
    let required = schema["required"].as_array();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let is_required = required.is_some_and(|names| names.iter().any(|one| one == name));
        let mark = if is_required { " <span class=required>required</span>" } else { "" };
        let description = marked_up(property["description"].as_str().unwrap_or_default());
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "<tr><td><code>{}</code>{mark}<td>{}<td>{description}",
            escape(name),
            type_text(property),
        );
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        if part["$ref"].is_string() {
            // Writing to a String cannot fail.
            let _ = write!(page, "<tr><td colspan=3>and the properties of {}", type_text(part));
        } else {
            push_properties(page, part);
        }
    }
}

/// The type of a schema in words, with its bounds.
pub(super) fn type_text(schema: &Value) -> String {
    if let Some(path) = schema["$ref"].as_str() {
        let name = path.strip_prefix(SCHEMA_PATH).unwrap_or(path);
        return format!("<a href=\"#{}\">{}</a>", anchor("schema", name), escape(name));
    }
    if let Some(choices) = schema["enum"].as_array() {
        let choices: Vec<String> =
            choices.iter().map(|choice| format!("<code>{}</code>", plain(choice))).collect();
        return choices.join(", ");
    }
    for (keyword, joint) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
        if let Some(parts) = schema[keyword].as_array() {
            let parts: Vec<String> = parts.iter().map(type_text).collect();
            return parts.join(joint);
        }
    }
    let names: Vec<String> = match &schema["type"] {
        Value::Array(names) => names.iter().map(plain).collect(),
        Value::Null => vec!["any value".to_owned()],
        name => vec![plain(name)],
    };
    let mut text = names.join(" or ");
    if schema["items"].is_object() {
        text = text + " of " + &type_text(&schema["items"]);
    }
    if schema["additionalProperties"].is_object() {
        text = text + ", each value " + &type_text(&schema["additionalProperties"]);
    }
    for (keyword, words) in [
        ("format", ""),
        ("minimum", "from "),
        ("maximum", "to "),
        ("minLength", "at least this long: "),
        ("maxLength", "at most this long: "),
        ("minItems", "items at least "),
        ("maxItems", "items at most "),
        ("default", "default "),
    ] {
        if let Some(value) = schema.get(keyword).filter(|value| !value.is_null()) {
            text = text + ", " + words + &plain(value);
        }
    }
    text
}

/// A JSON value as text.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| escape(&value.to_string()), escape)
}
