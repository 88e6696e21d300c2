//! Values inside JSON text, found without parsing the rest.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::cell::TableCell;

/// The cell for a JSON value.
pub(super) fn json_cell(raw: &str) -> TableCell<'_> {
    let raw = raw.trim();
    match raw.as_bytes().first() {
        None | Some(b'n') => TableCell::Missing,
        Some(b't') => TableCell::Bool(true),
        Some(b'f') => TableCell::Bool(false),
        Some(b'"') => text_cell(unescaped(raw)),
        Some(b'[' | b'{') => TableCell::Json(raw.into()),
        Some(_) => TableCell::Digits(raw.into()),
    }
}

/// The cell for trimmed text; empty text is missing.
pub(super) fn text_cell(text: Cow<'_, str>) -> TableCell<'_> {
    let text = match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    };
    if text.is_empty() { TableCell::Missing } else { TableCell::Text(text) }
}

/// The content of a JSON string. Escapes that are not Unicode remain as they are.
fn unescaped(raw: &str) -> Cow<'_, str> {
    if let Ok(text) = serde_json::from_str::<&str>(raw) {
        return text.into();
    }
    serde_json::from_str::<String>(raw).map_or_else(|_| raw.trim_matches('"').into(), Cow::Owned)
}

/// The value at a path: a name in an object, an index in an array, or the key of an element
/// in a list of key-value pairs, as in exports of `BigQuery`.
pub(super) fn at_path<'a>(raw: &'a str, path: &[String]) -> Option<&'a str> {
    path.iter().try_fold(raw, |raw, step| at_step(raw, step))
}

fn at_step<'a>(raw: &'a str, step: &str) -> Option<&'a str> {
    match raw.trim_start().as_bytes().first()? {
        b'{' => member(raw, step),
        b'[' => {
            let elements: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
            match step.parse::<usize>() {
                Ok(index) => elements.get(index).map(|element| element.get()),
                Err(_) => elements.iter().find_map(|element| pair_value(element.get(), step)),
            }
        }
        _ => None,
    }
}

/// The value of `{"key": …, "value": …}` if it has that key. Typed values
/// (`{"string_value": null, "int_value": 3}`) are unwrapped.
fn pair_value<'a>(pair: &'a str, key: &str) -> Option<&'a str> {
    let name = member(pair, "key")?;
    if unescaped(name) != key {
        return None;
    }
    let value = member(pair, "value")?;
    if !value.starts_with('{') {
        return Some(value);
    }
    ["string_value", "int_value", "double_value", "float_value"]
        .into_iter()
        .filter_map(|kind| member(value, kind))
        .find(|value| *value != "null")
}

/// The member `name` of a JSON object.
fn member<'a>(raw: &'a str, name: &str) -> Option<&'a str> {
    let mut object = serde_json::Deserializer::from_str(raw);
    object.deserialize_map(MemberSearch { name }).ok().flatten()
}

struct MemberSearch<'n> {
    name: &'n str,
}

impl<'de> Visitor<'de> for MemberSearch<'_> {
    type Value = Option<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let mut found = None;
        while let Some(name) = members.next_key::<MemberName<'_>>()? {
            if name.0 == self.name {
                found = Some(members.next_value::<&RawValue>()?.get());
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// A member of a JSON object.
pub(super) struct JsonMember<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) value: &'a str,
}

/// The members of a JSON object, in order.
pub(super) fn members(raw: &str) -> Result<Vec<JsonMember<'_>>, serde_json::Error> {
    let mut object = serde_json::Deserializer::from_str(raw);
    let members = object.deserialize_map(MemberList)?;
    object.end()?;
    Ok(members)
}

struct MemberList;

impl<'de> Visitor<'de> for MemberList {
    type Value = Vec<JsonMember<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let mut found = Vec::new();
        while let Some(name) = members.next_key::<MemberName<'de>>()? {
            let value = members.next_value::<&RawValue>()?.get();
            found.push(JsonMember { name: name.0, value });
        }
        Ok(found)
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct MemberName<'a>(#[serde(borrow)] Cow<'a, str>);

/// The elements of a JSON array; `None` for other values.
pub(crate) fn elements(raw: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(raw).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(raw: &str, path: &str) -> Option<String> {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        at_path(raw, &path).map(str::to_owned)
    }

    #[test]
    fn paths_follow_names_indices_and_keys() {
        let raw = r#"{"a": {"b": [1, {"c": 100000000000000000001}]},
            "p": [{"key": "x", "value": {"string_value": null, "int_value": "3"}}]}"#;
        assert_eq!(at(raw, "a.b.0").as_deref(), Some("1"));
        assert_eq!(at(raw, "a.b.1.c").as_deref(), Some("100000000000000000001"));
        assert_eq!(at(raw, "p.x").as_deref(), Some("\"3\""));
        assert_eq!(at(raw, "p.y"), None);
        assert_eq!(at(raw, "a.x"), None);
    }

    #[test]
    fn text_is_unescaped_and_trimmed() {
        assert_eq!(json_cell(r#"" a\tb ""#), TableCell::Text("a\tb".into()));
        assert_eq!(json_cell(r#"" ""#), TableCell::Missing);
        assert_eq!(json_cell(r#""\ud800""#), TableCell::Text("\\ud800".into()));
    }
}
