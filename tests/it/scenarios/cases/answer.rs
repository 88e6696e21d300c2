//! Comparison of an answer with the part of it that a case expects.

use serde_json::Value;

/// Two numbers are equal within this part of the larger one.
const RELATIVE_TOLERANCE: f64 = 1e-9;

/// The differences between an answer and the expected part of it, each with its path. An
/// object may have further fields; an array has the expected length.
pub(super) fn differences(expected: &Value, found: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    compare("", expected, found, &mut differences);
    differences
}

fn compare(path: &str, expected: &Value, found: &Value, differences: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(fields), Value::Object(found_fields)) => {
            for (name, expected) in fields {
                let path = join(path, name);
                match found_fields.get(name) {
                    Some(found) => compare(&path, expected, found, differences),
                    None => differences.push(format!("{path}: expected {expected}, is absent")),
                }
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                compare(&join(path, &index.to_string()), expected, found, differences);
            }
        }
        _ if is_equal(expected, found) => {}
        _ => {
            let path = if path.is_empty() { "answer" } else { path };
            differences.push(format!("{path}: expected {expected}, is {found}"));
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn is_equal(expected: &Value, found: &Value) -> bool {
    if expected == found {
        return true;
    }
    // Two different integers are never equal, however large.
    if expected.is_i64() && (found.is_i64() || found.is_u64()) {
        return false;
    }
    let (Some(expected), Some(found)) = (expected.as_f64(), found.as_f64()) else { return false };
    (expected - found).abs() <= RELATIVE_TOLERANCE * expected.abs().max(found.abs())
}

/// The value at a dotted path; a number in it is the index of an array.
pub(super) fn value_at<'a>(found: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(found, |value, name| match value {
        Value::Array(elements) => {
            name.parse().ok().and_then(|index: usize| elements.get(index)).unwrap_or(&Value::Null)
        }
        _ => value.get(name).unwrap_or(&Value::Null),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_name_the_field() {
        let found = json!({
            "accepted": 2, "features": { "orders": 3.0, "spend": 10.1, "plan": null },
            "outcomes": [{ "status": "accepted", "id": 9_007_199_254_740_993_u64 }],
        });
        for (expected, difference) in [
            (json!({ "accepted": 2, "features": { "orders": 3 } }), None),
            (json!({ "features": { "spend": 10.100_000_001 } }), None),
            (
                json!({ "features": { "spend": 10.1001 } }),
                Some("features.spend: expected 10.1001, is 10.1"),
            ),
            (json!({ "features": { "tax": 0 } }), Some("features.tax: expected 0, is absent")),
            (
                json!({ "outcomes": [{ "id": 9_007_199_254_740_992_u64 }] }),
                Some("outcomes.0.id: expected 9007199254740992, is 9007199254740993"),
            ),
            (json!({ "accepted": "2" }), Some("accepted: expected \"2\", is 2")),
            (json!({ "outcomes": [{ "status": "accepted" }] }), None),
        ] {
            assert_eq!(differences(&expected, &found), Vec::from_iter(difference), "{expected}");
        }
        assert_eq!(differences(&json!([1]), &json!([1, 2])), ["answer: expected [1], is [1,2]"]);
        assert_eq!(*value_at(&found, "outcomes.0.status"), "accepted");
        assert!(value_at(&found, "features.plan").is_null());
        assert!(value_at(&found, "features.tax.rate").is_null());
    }
}
