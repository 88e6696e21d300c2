//! Numbers, instants and texts beyond a limit, or beyond the range of Postgres, are refused
//! with the field and the limit, and are never an internal error.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use reqwest::Method;
use segmentd::api::openapi_document;
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::openapi_requests::{Probe, filled, operations, parameters, send};

/// A text of the maximal length is accepted; one more character is refused with the limit.
#[tokio::test(flavor = "multi_thread")]
async fn free_text_is_bounded() {
    let app = TestApp::start().await;
    let model = "a".repeat(64);
    let until = segmentd::service::clock::TimeSource::System.now().plus_millis(60_000);
    let text = |chars: usize| "é".repeat(chars);
    let channel = |name: &str, owner: &str, reason: &str| {
        let target = json!({ "kind": "slack", "url": "https://example.com/x" });
        json!({ "name": name, "owners": [owner], "target": target, "reason": reason })
    };
    let silence = |owner: &str, prefix: &str, reason: &str| json!({ "until": until, "owner": owner, "key_prefix": prefix, "reason": reason });
    let policy = |reason: &str| json!({ "policy": {}, "reason": reason });
    let reason = |reason: &str| json!({ "reason": reason });
    let (long, short) = (text(2001), text(201));
    let huge = "x".repeat(200_000);
    let (status, answer) =
        app.post("/v1/deployment/rollback", reason(&"x".repeat(4_000_000)).to_string()).await;
    assert_eq!(status, 413, "{answer}");
    let promote = format!("/v1/models/{model}/promote");
    let table = [
        (Method::POST, "/v1/deployment/rollback", reason(&huge), "reason", 2000),
        (Method::POST, "/v1/deployment/rollback", reason(&long), "reason", 2000),
        (Method::POST, "/v1/deployment/fallback", reason(&long), "reason", 2000),
        (Method::POST, &promote, reason(&long), "reason", 2000),
        (Method::POST, "/v1/training-runs", reason(&long), "reason", 2000),
        (Method::PATCH, "/v1/policy", policy(&long), "reason", 2000),
        (Method::POST, "/v1/silences", silence("o", "k", &long), "reason", 2000),
        (Method::POST, "/v1/silences", silence(&short, "k", "r"), "owner", 200),
        (Method::POST, "/v1/silences", silence("o", &short, "r"), "key_prefix", 200),
        (Method::POST, "/v1/alerts/none/acknowledge", json!({ "note": &long }), "note", 2000),
        (Method::POST, "/v1/channels", channel(&short, "o", "r"), "name", 200),
        (Method::POST, "/v1/channels", channel("n", &short, "r"), "owners[0]", 200),
        (Method::POST, "/v1/channels", channel("n", "o", &long), "reason", 2000),
    ];
    for (method, path, body, field, limit) in table {
        let probe =
            Probe { method, path: path.to_owned(), body: Some(body.to_string().into_bytes()) };
        let (status, _, answer) = send(&app, &probe).await;
        let problem: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(status, 422, "{path} {field}");
        assert!(answer.len() < 1000, "{path} {field}: {} bytes", answer.len());
        assert_eq!(problem["errors"][0]["field"], field, "{path}: {answer}");
        let output = problem["errors"][0]["problem"].as_str().unwrap();
        assert!(output.contains(&limit.to_string()), "{path}: {answer}");
    }
    let longest = channel(&text(200), &text(200), &text(2000)).to_string();
    let (status, answer) = app.post("/v1/channels", longest).await;
    assert_eq!(status, 201, "{answer}");
    let (status, answer) =
        app.post("/v1/silences", silence(&text(200), &text(200), &text(2000)).to_string()).await;
    assert_eq!(status, 201, "{answer}");

    let named = |name: &str| {
        let (db, name) = (app.db.clone(), name.to_owned());
        async move {
            let scopes = [segmentd::domain::access::AccessScope::Read];
            segmentd::service::api_keys::create_key(
                &db,
                &segmentd::service::clock::TimeSource::System,
                &name,
                &scopes,
            )
            .await
        }
    };
    for name in ["", " ", "a\nb", "a\0b", &short] {
        let refused = named(name).await.unwrap_err().to_string();
        assert!(refused.starts_with("name: "), "{refused}");
    }
    named(&text(200)).await.unwrap();
    app.stop().await;
}

/// Numbers, instants and texts at the limits of Postgres.
#[tokio::test(flavor = "multi_thread")]
async fn extreme_values_in_urls_are_no_internal_error() {
    let app = TestApp::start().await;
    let event = json!({ "type": "track", "name": "Order Completed", "customer_id": "c1" });
    assert_eq!(app.post("/v1/events", event.to_string()).await.0, 200);
    let long = "é".repeat(5000);
    let numbers =
        ["-1", "0", "9223372036854775807", "-9223372036854775808", "18446744073709551616", "1e9"];
    let instants = [
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999Z",
        "9999-12-31T23:59:60Z",
        "-9999-01-01T00:00:00Z",
        "%2B294277-01-01T00:00:00Z",
        "-4714-01-01T00:00:00Z",
        "0000-01-01T00:00:00%2B23:59",
    ];
    let document = openapi_document();
    let mut paths = vec![format!("/v1/customers/{long}"), format!("/v1/alerts/{long}")];
    for (method, path, operation) in operations(&document) {
        if method != Method::GET {
            continue;
        }
        let path = filled(&path, None);
        for name in parameters(&operation, "query") {
            for value in numbers.iter().chain(&instants).copied().chain([&*long]) {
                paths.push(format!("{path}?{name}={value}"));
            }
        }
    }
    // Well-formed cursors with impossible instants and ids.
    for list in ["/v1/models", "/v1/training-runs", "/v1/keys"] {
        for instant in instants {
            for id in ["\0", "x"] {
                let key = json!([instant.replace("%2B", "+"), id]).to_string();
                let cursor = BASE64_URL_SAFE_NO_PAD.encode(key);
                paths.push(format!("{list}?cursor={cursor}"));
            }
        }
    }
    // Well-formed cursors with impossible transaction ids.
    for transaction in [0, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX] {
        for change in [0, i64::MAX] {
            paths.push(format!("/v1/changes?cursor={}", cursor(transaction, change)));
        }
    }
    // Well-formed cursors with extreme sort keys.
    for instant in instants {
        let instant = instant.replace("%2B", "+");
        let history = page_cursor(&json!([instant, i64::MAX]));
        let silences = page_cursor(&json!([instant, long]));
        let links = page_cursor(&json!([long, instant, long, true]));
        paths.push(format!("/v1/customers/c1/history?cursor={history}"));
        paths.push(format!("/v1/silences?cursor={silences}"));
        paths.push(format!("/v1/customers/c1/links?cursor={links}"));
    }
    paths.push(format!("/v1/channels?cursor={}", page_cursor(&json!(long))));
    paths.push(format!("/v1/alerts?cursor={}", page_cursor(&json!(i64::MIN))));
    let mut failures = Vec::new();
    for path in paths {
        let probe = Probe { method: Method::GET, path, body: None };
        let (status, _, answer) = send(&app, &probe).await;
        if status >= 500 && !probe.path.contains("/ready") {
            let shown: String = probe.path.chars().take(120).collect();
            failures.push(format!("{shown}: {status} {answer}"));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn extreme_values_in_bodies_are_no_internal_error() {
    let app = TestApp::start().await;
    let long = "é".repeat(5000);
    let mut failures = Vec::new();
    let bodies = [
        (
            "/v1/events",
            json!({ "type": "page", "customer_id": "c".repeat(200), "message_id": "€".repeat(200) }),
        ),
        (
            "/v1/events",
            json!({ "type": "page", "customer_id": "𝄞".repeat(200), "anonymous_id": "𝄢".repeat(200), "message_id": "𝄫".repeat(200) }),
        ),
        ("/v1/events", json!({ "type": "page", "customer_id": "€".repeat(201) })),
        ("/v1/events", json!({ "type": "page", "customer_id": "c", "name": "€".repeat(10_000) })),
        (
            "/v1/events",
            json!({ "type": "page", "customer_id": "c", "timestamp": "9999-12-31T23:59:59Z", "sent_at": "0000-01-01T00:00:00Z" }),
        ),
        (
            "/v1/events",
            json!({ "type": "page", "customer_id": "c", "timestamp": "0000-01-01T00:00:00Z", "sent_at": "9999-12-31T23:59:59Z" }),
        ),
        (
            "/v1/events",
            json!({ "type": "track", "name": "x", "customer_id": "c", "properties": { long.clone(): { long.clone(): { long.clone(): 1 } } } }),
        ),
        (
            "/v1/events",
            json!({ "type": "identify", "customer_id": "c", "traits": { "age": long, "loyalty_tier": "𝄞".repeat(255) } }),
        ),
        (
            "/v1/alias",
            json!({ "userId": "𝄞".repeat(200), "previousId": "𝄢".repeat(200), "messageId": "𝄫".repeat(200) }),
        ),
        ("/v1/group", json!({ "userId": "u", "groupId": "𝄞".repeat(255) })),
        (
            "/v1/events/failed/replay",
            json!({ "failed_event_ids": ["9223372036854775807", "-9223372036854775808"], "cursor": "OTIyMzM3MjAzNjg1NDc3NTgwNw" }),
        ),
        ("/v1/events/failed/replay", json!({ "failed_event_ids": ["9223372036854775808"] })),
        ("/v1/events/failed/replay", json!({ "limit": i64::MAX })),
        ("/v1/events/failed/replay", json!({ "reason": "€".repeat(100_000) })),
        ("/v1/training-runs", json!({ "seed": u64::MAX, "what_if": true })),
        ("/v1/training-runs", json!({ "segments": u64::MAX })),
        ("/v1/training-runs", json!({ "tolerance": 1e308, "sample": u64::MAX })),
        ("/v1/silences", json!({ "until": "9999-12-31T23:59:59Z", "reason": "r" })),
        (
            "/v1/channels",
            json!({ "name": "n", "escalation_delay_seconds": u32::MAX, "target": { "kind": "email", "to": ["a@b.c"] } }),
        ),
        (
            "/v1/channels",
            json!({ "name": "n", "target": { "kind": "slack", "url": format!("https://example.com/{}", "x".repeat(3000)) } }),
        ),
    ];
    for (path, body) in bodies {
        let (status, answer) = app.post(path, body.to_string()).await;
        if status >= 500 {
            let shown: String = body.to_string().chars().take(120).collect();
            failures.push(format!("{path} {shown}: {status} {answer}"));
        }
    }
    // Lone surrogates, and bytes that are not UTF-8.
    for body in [
        &br#"{"type":"page","customer_id":"\ud800","name":"x"}"#[..],
        br#"{"type":"page","customer_id":"c","name":"\udfff\ud800"}"#,
        b"{\"type\":\"page\",\"customer_id\":\"c\xff\",\"name\":\"x\"}",
    ] {
        for path in ["/v1/events", "/v1/page", "/v1/silences", "/v1/deployment/rollback"] {
            let (status, answer) = app.post(path, body.to_vec()).await;
            // The Segment API answers 200, and lists rejected messages.
            let is_refused = (400..500).contains(&status) || answer["rejected"] == 1;
            assert!(is_refused, "{path}: {status} {answer}");
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    app.stop().await;
}

/// A cursor of a list with this sort key.
fn page_cursor(key: &Value) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(key.to_string())
}

/// A cursor of the change feed, encoded as segmentd does.
fn cursor(transaction: u64, change: i64) -> String {
    use sha2::Digest as _;
    let mut bytes = vec![1];
    bytes.extend_from_slice(&transaction.to_be_bytes());
    bytes.extend_from_slice(&change.to_be_bytes());
    let check = sha2::Sha256::digest(&bytes);
    bytes.extend_from_slice(&check[..2]);
    segmentd::domain::id::encode_hex(&bytes)
}
