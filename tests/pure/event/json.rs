//! The JSON reader of events, against `serde_json`.

use std::borrow::Cow;

use proptest::prelude::*;
use segmentd::domain::event::PropertyValue;
use segmentd::domain::json::{JsonKind, RawJson, decimal};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The value as `serde_json` would build it.
fn value(raw: RawJson<'_>) -> Value {
    match raw.kind() {
        JsonKind::Object => {
            let members = raw.members().unwrap();
            Value::Object(
                members.map(|m| (m.name.into_owned(), value(m.value))).collect::<Map<_, _>>(),
            )
        }
        JsonKind::Array => raw.elements().unwrap().map(value).collect(),
        JsonKind::Text => raw.text().unwrap().into(),
        _ => serde_json::from_str(raw.as_str()).unwrap(),
    }
}

#[test]
fn what_no_feature_reads_may_be_anything_that_json_allows() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for text in [r#""\ud800""#, r#""\udc00\ud800""#, "1e999", "-1e999", r#"{"\ud800":1}"#, &deep] {
        assert!(RawJson::parse(text.as_bytes()).is_ok(), "{}", &text[..6]);
    }
    let text = |json: &str| RawJson::parse(json.as_bytes()).unwrap().text().map(Cow::into_owned);
    assert_eq!(text(r#""\ud83d\ude00\u00e9\n\/""#).as_deref(), Some("😀é\n/"));
    assert_eq!(text(r#""\ud83d""#), None);
    assert_eq!(text(r#""\ud83dx""#), None);
    assert_eq!(text(r#""\ud83d\u0041""#), None);
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    for (text, error) in [
        (r#"{"a": NaN}"#, "a value is expected at byte 6"),
        (r#"{"a": 'x'}"#, "a value is expected at byte 6"),
        (r#"{"a": 1,}"#, "the name of a member, in double quotes, is expected at byte 8"),
        (r#"{"a": 007}"#, "a number must not begin with zeros at byte 6"),
        (r#"{"a": .5}"#, "a value is expected at byte 6"),
        ("{\"a\": \"x\ty\"}", "a control character in a string must be escaped at byte 8"),
        (r#"{"a": "x}"#, "the text ends before its JSON is complete at byte 9"),
        (r#"{"a": "\q"}"#, "the escape is not one of JSON at byte 7"),
        ("1 2", "the text continues after its JSON is complete at byte 2"),
        ("", "the text ends before its JSON is complete at byte 0"),
        ("[1}", "`,` or `]` is expected at byte 2"),
    ] {
        assert_eq!(RawJson::parse(text.as_bytes()).unwrap_err().to_string(), error, "{text}");
    }
    let latin = RawJson::parse(b"\"caf\xe9\"").unwrap_err();
    assert_eq!(latin.to_string(), "the text is not UTF-8 at byte 4");
}

#[test]
fn integers_keep_every_digit() {
    let digits = |text: &str| decimal::integer_digits(text, 200);
    for (text, expected) in [
        ("17850", "17850"),
        ("17850.0", "17850"),
        ("1.785e4", "17850"),
        ("100000000000000000001", "100000000000000000001"),
        ("-0", "0"),
        ("0.000e9", "0"),
        ("-12.50e1", "-125"),
        ("1E+3", "1000"),
    ] {
        assert_eq!(digits(text).as_deref(), Some(expected), "{text}");
    }
    for text in ["1.5", "1e-1", "1e201", "1e99999999999999999999", "", "-", "1.2.3", "NaN", "inf"] {
        assert_eq!(digits(text), None, "{text}");
    }
    let value = |text: &str| PropertyValue::from_decimal(text);
    assert_eq!(value("9007199254740993"), Some(PropertyValue::Integer(9_007_199_254_740_993)));
    assert_eq!(value("9007199254740992"), Some(PropertyValue::Number(9_007_199_254_740_992.0)));
    assert_eq!(value("1e20"), Some(PropertyValue::Integer(100_000_000_000_000_000_000)));
    assert_eq!(value("1.25"), Some(PropertyValue::Number(1.25)));
    assert_eq!(value("1e999"), None);
    assert_eq!(value("12 34"), None);
}

fn any_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just(",".to_owned()),
        Just(":".to_owned()),
        Just("\"a\"".to_owned()),
        Just("1".to_owned()),
        Just("-1.5e3".to_owned()),
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just(" ".to_owned()),
        "[ -~\n\\\\\"]{0,4}",
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    /// The same texts are valid, except for what `serde_json` checks beyond the grammar.
    #[test]
    fn the_grammar_is_that_of_json(text in any_text()) {
        let strict = serde_json::from_str::<&RawValue>(&text);
        prop_assert_eq!(RawJson::parse(text.as_bytes()).is_ok(), strict.is_ok(), "{}", text);
        if let Ok(parsed) = serde_json::from_str::<Value>(&text) {
            prop_assert_eq!(value(RawJson::parse(text.as_bytes()).unwrap()), parsed);
        }
    }

    /// A number is the same after it was stored as JSON.
    #[test]
    fn numbers_survive_storage(
        number in prop_oneof![
            any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| n.to_string()),
            any::<i64>().prop_map(|n| n.to_string()),
            any::<u64>().prop_map(|n| n.to_string()),
            any::<i128>().prop_map(|n| n.to_string()),
            "-?[1-9][0-9]{0,5}\\.[0-9]{1,6}e-?[0-9]{1,2}",
        ],
    ) {
        let value = PropertyValue::from_decimal(&number).unwrap();
        let stored = serde_json::to_string(&value).unwrap();
        prop_assert_eq!(PropertyValue::from_decimal(&stored), Some(value.clone()));
        let exact = value.as_number().unwrap();
        prop_assert_eq!(exact.to_bits(), number.parse::<f64>().unwrap().to_bits());
    }
}
