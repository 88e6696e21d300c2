//! Redaction of API keys in stored text.

use segmentd::domain::wire::redact::redact_keys;

#[test]
fn keys_are_redacted_and_other_text_stays() {
    for (text, expected) in [
        (r#"{"a": "sgm_12ab_34cd"}"#, r#"{"a": "sgm_12ab_***"}"#),
        ("sgm_12ab_34cd sgm_12ab_34cd", "sgm_12ab_*** sgm_12ab_***"),
        ("sgm_12ab_34", "sgm_12ab_***"),
        (r#"{"writeKey" : "a\"b", "x": "y"}"#, r#"{"writeKey" : "***", "x": "y"}"#),
        (r#"{"WRITE_KEY":"ab"#, r#"{"WRITE_KEY":"***"#),
        (r#"{"x": "\u0073gm_12ab_\u0033"}"#, r#"{"x": "sgm_12ab_***"}"#),
        (r#"{"write\u004bey": "ab"}"#, r#"{"writeKey": "***"}"#),
    ] {
        assert_eq!(redact_keys(text), expected);
        assert_eq!(redact_keys(expected), expected);
    }
    for untouched in [
        "",
        "sgm_",
        "sgm_12ab",
        "sgm__12",
        r#"{"writeKey": 5, "x": "é\u00e9\\u0073"}"#,
        r#"{"x": "\\u0073gm_12ab_34", "y": "\"#,
    ] {
        assert_eq!(redact_keys(untouched), untouched);
    }
}
