//! The fault of a body or a query of the wrong shape, in the words of the API instead of the
//! parser's.

use crate::domain::fault::ValidationFault;

/// The fault behind a data error of `serde_json`, at `path` or at the field that it names.
pub(super) fn json_fault(path: &str, error: &serde_json::Error) -> ValidationFault {
    let text = error.to_string();
    let message = text.rsplit_once(" at line ").map_or(&*text, |(message, _)| message);
    shape_fault(path, message)
}

/// The fault behind a data error of `serde_urlencoded`, at the parameter `path`.
pub(super) fn query_fault(path: &str, message: &str) -> ValidationFault {
    let problem = match message {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "must be a whole number"
        }
        "number too large to fit in target type" => "the number is too large",
        "number too small to fit in target type" => "the number is too small",
        "invalid float literal" | "cannot parse float from empty string" => "must be a number",
        "provided string was not `true` or `false`" => "must be true or false",
        message => {
            let fault = shape_fault(path, message);
            return match quoted(message, "duplicate field `") {
                Some((field, _)) => ValidationFault::new(field, "is given twice"),
                None if fault.path == "body" => ValidationFault::new("query", fault.problem),
                None => fault,
            };
        }
    };
    ValidationFault::new(path, problem)
}

fn shape_fault(path: &str, message: &str) -> ValidationFault {
    let path = path.trim_start_matches('.').replace(".[", "[");
    if let Some((field, _)) = quoted(message, "missing field `") {
        return ValidationFault::new(joined(&path, field), "is required");
    }
    if let Some((field, known)) = quoted(message, "unknown field `") {
        let known = known.trim_start_matches(", expected ").trim_start_matches("one of ");
        let problem = match known {
            "" | ", there are no fields" => "unknown field".to_owned(),
            known => format!("unknown field; the fields are {known}"),
        };
        // The path may already name the field.
        let path = if path.ends_with(field) { path } else { joined(&path, field) };
        return ValidationFault::new(path, problem);
    }
    let path = if path.is_empty() { "body".to_owned() } else { path };
    if let Some((found, known)) = quoted(message, "unknown variant `") {
        let known = known.trim_start_matches(", expected ").trim_start_matches("one of ");
        return ValidationFault::new(path, format!("must be one of {known}: `{found}`"));
    }
    for start in ["invalid type: ", "invalid value: "] {
        let parts = message.strip_prefix(start).and_then(|rest| rest.rsplit_once(", expected "));
        if let Some((found, expected)) = parts {
            let problem = format!("must be {}: {}", plain_type(expected), plain_type(found));
            return ValidationFault::new(path, problem);
        }
    }
    ValidationFault::new(path, message)
}

/// The text in back quotes after `start`, and the rest of the message.
fn quoted<'m>(message: &'m str, start: &str) -> Option<(&'m str, &'m str)> {
    message.strip_prefix(start)?.split_once('`')
}

fn joined(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

/// A type of Rust or of serde's data model as a type of JSON.
fn plain_type(name: &str) -> &str {
    match name {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a string" | "a borrowed string" => "a text",
        "a sequence" | "sequence" => "an array",
        "a map" | "map" => "an object",
        "a boolean" => "true or false",
        name if name.starts_with("struct ") || name.starts_with("internally tagged enum ") => {
            "an object"
        }
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Request {
        name: String,
        count: Option<u32>,
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Inner {
        kind: Kind,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        One,
        Two,
    }

    #[test]
    fn each_fault_names_its_field_and_what_would_be_right() {
        for (json, fault) in [
            ("{}", "name: is required"),
            (
                r#"{"name":"x","size":1}"#,
                "size: unknown field; the fields are `name`, `count`, `inner`",
            ),
            (r#"{"name":5}"#, "name: must be a text: integer `5`"),
            (
                r#"{"name":"x","count":-1}"#,
                "count: must be a whole number of at least 0: integer `-1`",
            ),
            (
                r#"{"name":"x","count":"1"}"#,
                "count: must be a whole number of at least 0: string \"1\"",
            ),
            (r#"{"name":"x","inner":{}}"#, "inner.kind: is required"),
            (
                r#"{"name":"x","inner":{"kind":"three"}}"#,
                "inner.kind: must be one of `one` or `two`: `three`",
            ),
            ("[]", "body: invalid length 0, expected struct Request with 3 elements"),
            ("7", "body: must be an object: integer `7`"),
        ] {
            let mut deserializer = serde_json::Deserializer::from_str(json);
            let error = serde_path_to_error::deserialize::<_, Request>(&mut deserializer);
            let error = error.unwrap_err();
            assert_eq!(json_fault(&error.path().to_string(), error.inner()).to_string(), fault);
        }
    }
}
