//! The normal form of a feature set as a features file.

use serde_json::Value;

/// Converts canonical JSON to TOML: every key of the root on a line, tables inline.
pub(crate) fn as_toml(normal_form: &str) -> String {
    let document: serde_json::Map<String, Value> = serde_json::from_str(normal_form).unwrap();
    let line = |(key, value): (&String, &Value)| format!("{key} = {}", inline(value));
    document.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn inline(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| format!("{key} = {}", inline(value));
            format!("{{ {} }}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        // JSON's escapes are TOML's, which has one more.
        text => text.to_string().replace('\u{7f}', "\\u007f"),
    }
}
