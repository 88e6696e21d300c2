//! Input validation for NUL characters in path parameters, query parameters and JSON bodies.
//!
//! Postgres stores every character except NUL. A NUL in a statement fails there, as an
//! internal error (500). Requests that contain one are therefore rejected with 422 and the
//! name of the field.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use serde_json::Value;
use url::form_urlencoded;

use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::text::{NUL_PROBLEM, is_storable};

/// Rejects path parameters with NUL. A path that cannot be decoded passes: the extractor
/// reports it.
pub(crate) async fn check_path<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<(), ValidationFaults> {
    let Ok(parameters) = RawPathParams::from_request_parts(parts, state).await else {
        return Ok(());
    };
    let mut faults = ValidationFaults::default();
    for (name, value) in &parameters {
        if !is_storable(value) {
            faults.push(ValidationFault::new(name, NUL_PROBLEM));
        }
    }
    faults.into_result(())
}

/// Rejects a query string with NUL in the name or the value of a parameter.
pub(crate) fn check_query(query: &str) -> Result<(), ValidationFaults> {
    // A substring search is cheaper than decoding. `%00` is the only encoding of NUL.
    if !query.contains("%00") {
        return Ok(());
    }
    let mut faults = ValidationFaults::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if !is_storable(&name) || !is_storable(&value) {
            faults.push(ValidationFault::new(name.escape_default().to_string(), NUL_PROBLEM));
        }
    }
    faults.into_result(())
}

/// Rejects a JSON document with NUL in a string or in the name of a member. Text that is
/// not JSON passes: the deserialiser reports it.
pub(crate) fn check_json(body: &[u8]) -> Result<(), ValidationFaults> {
    // The only encoding of NUL in JSON: raw control characters are not allowed.
    const ESCAPED: &[u8] = b"\\u0000";
    // Few bodies contain a backslash, and the search for one byte is far faster.
    if !body.contains(&b'\\') || !body.windows(ESCAPED.len()).any(|part| part == ESCAPED) {
        return Ok(());
    }
    let Ok(document) = serde_json::from_slice::<Value>(body) else { return Ok(()) };
    let mut faults = ValidationFaults::default();
    find_nul("", &document, &mut faults);
    faults.into_result(())
}

/// Most faults that are reported: every string of a document may contain NUL.
const MAX_FAULTS: usize = 100;

/// Adds a fault for each string and member name with NUL. The depth of recursion is limited
/// to 128 by the JSON parser.
fn find_nul(path: &str, value: &Value, faults: &mut ValidationFaults) {
    if faults.0.len() >= MAX_FAULTS {
        return;
    }
    match value {
        Value::String(text) if !is_storable(text) => {
            faults.push(ValidationFault::new(path, NUL_PROBLEM));
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                find_nul(&format!("{path}[{i}]"), item, faults);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let shown = name.escape_default();
                let inner =
                    if path.is_empty() { shown.to_string() } else { format!("{path}.{shown}") };
                if !is_storable(name) {
                    faults.push(ValidationFault::new(&*inner, "must not contain NUL in its name"));
                }
                find_nul(&inner, member, faults);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(checked: Result<(), ValidationFaults>) -> Vec<String> {
        checked.err().unwrap_or_default().0.into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn nul_in_a_query_is_found_by_name() {
        assert_eq!(check_query("owner=a%20b&limit=3"), Ok(()));
        // An escaped percent sign, then two digits.
        assert_eq!(check_query("owner=%2500"), Ok(()));
        assert_eq!(fields(check_query("limit=3&owner=a%00")), ["owner"]);
        assert_eq!(fields(check_query("a%00=1&b=%00")), ["a\\u{0}", "b"]);
    }

    #[test]
    fn nul_in_json_is_found_wherever_it_is() {
        assert_eq!(check_json(br#"{"reason": "a b"}"#), Ok(()));
        // A backslash, then letters and digits.
        assert_eq!(check_json(br#"{"reason": "a\\u0000b"}"#), Ok(()));
        assert_eq!(fields(check_json(br#"{"reason": "a\u0000b"}"#)), ["reason"]);
        let nested = br#"{"target": {"to": ["a", "\u0000"]}, "a\u0000": 1}"#;
        assert_eq!(fields(check_json(nested)), ["a\\u{0}", "target.to[1]"]);
        assert_eq!(check_json(b"{\"reason\": \"\\u0000"), Ok(()));
    }
}
