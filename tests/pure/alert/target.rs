//! Channel targets: validation, redaction, signatures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use segmentd::domain::alert::{DeliveryTarget, SigningKey, encode_webhook_secret};
use serde_json::{Value, json};

fn target(value: Value) -> DeliveryTarget {
    serde_json::from_value(value).unwrap()
}

fn faults(value: Value) -> Vec<String> {
    let checked = target(value).check();
    checked
        .err()
        .map(|faults| faults.0)
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn secret(prefix: &str, bytes: &[u8]) -> String {
    format!("{prefix}{}", BASE64.encode(bytes))
}

/// Test 1 of RFC 8032, section 7.1.
const SEED: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];
const PUBLIC: [u8; 32] = [
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
    0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
];
const SIGNATURE: &str =
    "5VZDAMNgrHKQhuLMgG6CioSHfx645dl02HPgZSJJAVVfuIIVkKM7rMYeOXAc+bRr0lv18FlbviRlUUFDjnoQCw==";

#[test]
fn a_pair_of_keys_signs_as_its_standard_shows() {
    for bytes in [SEED.to_vec(), [SEED, PUBLIC].concat()] {
        let key = SigningKey::parse(&secret("whsk_", &bytes)).unwrap();
        assert_eq!(key.public_key(), Some(secret("whpk_", &PUBLIC)));
        assert_eq!(key.sign(b""), format!("v1a,{SIGNATURE}"));
    }
}

/// The example of the readme of the reference libraries.
#[test]
fn a_shared_secret_signs_as_its_standard_shows() {
    let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let message = br#"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}"#;
    assert_eq!(key.sign(message), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert_eq!(key.public_key(), None);
}

#[test]
fn valid_targets_are_accepted() {
    let made = encode_webhook_secret([7; 32]);
    for good in [
        json!({"kind": "webhook", "url": "https://example.com/hook", "secrets": [made.expose()]}),
        json!({"kind": "webhook", "url": "http://10.0.0.1:8080", "format": "cloudevents_binary",
            "secrets": [secret("whsec_", &[1; 24]), secret("whsk_", &SEED)]}),
        json!({"kind": "alertmanager", "url": "http://user:pass@alerts.internal:9093/prefix/"}),
        json!({"kind": "slack", "url": "https://hooks.slack.com/services/T0/B0/x"}),
        json!({"kind": "email", "to": ["data-team@example.com", "o'hara+x@mail.example.co.uk"]}),
    ] {
        assert_eq!(faults(good.clone()), [""; 0], "{good}");
    }
}

#[test]
fn every_error_names_its_field_and_never_the_secret() {
    let wrong = [[1; 32], PUBLIC].concat();
    let cases: [(Value, &[&str]); 6] = [
        (json!({"kind": "slack", "url": "ftp://hidden.example"}), &["url: is not an address"]),
        (json!({"kind": "slack", "url": "https://"}), &["url: is not an address"]),
        (json!({"kind": "webhook", "url": "hidden", "secrets": []}), &["url: ", "secrets: has 0"]),
        (
            json!({"kind": "webhook", "url": "https://example.com", "secrets": [
                "hidden", "whsec_hidden", secret("whsec_", &[1; 23]), secret("whsec_", &[1; 65]),
                secret("whsk_", &[1; 31]), secret("whsk_", &wrong),
            ]}),
            &[
                "secrets[0]: begins",
                "secrets[1]: is not `whsec_`",
                "secrets[2]: is not `whsec_`",
                "secrets[3]: is not `whsec_`",
                "secrets[4]: is not `whsk_`",
                "secrets[5]: is not `whsk_`",
            ],
        ),
        (json!({"kind": "email", "to": []}), &["to: has 0"]),
        (
            json!({"kind": "email", "to": [
                "nobody", "a b@example.com", "a@example.com\r\nBcc: b@example.com", "a@-x.com",
                "<a@example.com>", "a..b@example.com", "@example.com", "a@", "a@x,b@y",
            ]}),
            &[
                "to[0]: ", "to[1]: ", "to[2]: ", "to[3]: ", "to[4]: ", "to[5]: ", "to[6]: ",
                "to[7]: ", "to[8]: ",
            ],
        ),
    ];
    for (value, expected) in cases {
        let found = faults(value.clone());
        assert_eq!(found.len(), expected.len(), "{value}\n{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected) && !found.contains("hidden"), "{found}");
        }
    }
}

#[test]
fn a_shown_target_has_no_secret() {
    let shown = |value| serde_json::to_value(target(value).redacted()).unwrap();
    let hook = json!({"kind": "webhook", "url": "https://user:hidden@example.com/hidden?hidden",
        "secrets": [encode_webhook_secret([7; 32]).expose(), secret("whsk_", &SEED)]});
    assert_eq!(
        shown(hook.clone()),
        json!({"kind": "webhook", "host": "example.com", "format": "standard",
            "public_keys": [secret("whpk_", &PUBLIC)]})
    );
    assert!(!format!("{:?}", target(hook)).contains("hidden"));
    assert_eq!(
        shown(json!({"kind": "email", "to": ["a@example.com"]})),
        json!({"kind": "email", "to": ["a@example.com"]})
    );
    let slack = json!({"kind": "slack", "url": "https://hooks.slack.com/services/hidden"});
    assert_eq!(shown(slack), json!({"kind": "slack", "host": "hooks.slack.com"}));
}
