//! Text that Postgres cannot store, or that is too long or out of range, wherever a
//! request can contain it: refused with the name of the field, never an internal error.

use reqwest::Method;
use segmentd::api::openapi::document;
use serde_json::{Map, Value, json};

use crate::support::TestApp;

/// A request, and what of it is hostile.
struct Probe {
    method: Method,
    path: String,
    body: Option<Vec<u8>>,
}

/// Sends it; the status, and the answer's media type and body.
async fn send(app: &TestApp, probe: &Probe) -> (u16, String, String) {
    let client = reqwest::Client::new();
    let url = format!("{}{}", app.url, probe.path);
    let mut request = client.request(probe.method.clone(), url).bearer_auth(&app.key);
    if let Some(body) = &probe.body {
        request = request.body(body.clone());
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let media = answer.headers().get("content-type");
    let media = media.map(|media| media.to_str().unwrap().to_owned()).unwrap_or_default();
    (status, media, answer.text().await.unwrap())
}

/// Every documented operation: method, path, description.
fn operations(document: &Value) -> Vec<(Method, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().unwrap().clone().into_iter();
        let path = path.clone();
        methods.map(move |(method, operation)| {
            (method.to_uppercase().parse().unwrap(), path.clone(), operation)
        })
    };
    paths.iter().flat_map(of_path).collect::<Vec<_>>()
}

fn parameters(operation: &Value, place: &str) -> Vec<String> {
    let all = operation["parameters"].as_array().cloned().unwrap_or_default();
    let of_place = all.into_iter().filter(|parameter| parameter["in"] == place);
    of_place.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
}

/// The path with a plausible value for each parameter, but `hostile` for one.
fn filled(path: &str, hostile: Option<(&str, &str)>) -> String {
    let model = "a".repeat(64);
    let fill = |part: &str| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        None => part.to_owned(),
        Some(name) => match hostile {
            Some((wanted, value)) if wanted == name => value.to_owned(),
            _ if path.starts_with("/v2") && name == "name" => "segmentd".to_owned(),
            _ if path.starts_with("/v1/models") || name == "version" => model.clone(),
            _ => "c1".to_owned(),
        },
    };
    path.split('/').map(fill).collect::<Vec<_>>().join("/")
}

/// Plausible documents of a schema: one for each alternative in it.
fn samples(schemas: &Value, schema: &Value) -> Vec<Value> {
    if let Some(name) = schema["$ref"].as_str() {
        return samples(schemas, &schemas[name.rsplit('/').next().unwrap()]);
    }
    if let Some(value) = schema.get("const") {
        return vec![value.clone()];
    }
    if let Some(values) = schema["enum"].as_array() {
        return vec![values[0].clone()];
    }
    if schema.get("properties").is_none()
        && let Some(alternatives) = schema["oneOf"].as_array().or(schema["anyOf"].as_array())
    {
        return alternatives.iter().flat_map(|one| samples(schemas, one)).collect();
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds[0].as_str(),
        kind => kind.as_str(),
    };
    match kind {
        Some("object") | None if schema.get("properties").is_some() => {
            let mut documents = vec![Map::new()];
            for (name, property) in schema["properties"].as_object().unwrap() {
                let values = samples(schemas, property);
                // The first alternative of each property, and the others one at a time.
                let first = documents[0].clone();
                for document in &mut documents {
                    document.insert(name.clone(), values[0].clone());
                }
                for value in values.into_iter().skip(1) {
                    let mut other = first.clone();
                    other.insert(name.clone(), value);
                    documents.push(other);
                }
            }
            documents.into_iter().map(Value::Object).collect()
        }
        Some("object") => vec![json!({ "some": "text" })],
        Some("array") => {
            let items = samples(schemas, &schema["items"]);
            items.into_iter().map(|item| json!([item])).collect()
        }
        Some("integer" | "number") => vec![json!(schema["minimum"].as_f64().unwrap_or(1.0) as i64)],
        Some("boolean") => vec![json!(false)],
        _ if schema["format"] == "date-time" => vec![json!("2017-01-01T11:53:26Z")],
        _ => vec![json!("text")],
    }
}

/// Where the strings of a document are, as JSON pointers.
fn strings(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at.to_owned()),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                strings(item, &format!("{at}/{i}"), found);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                strings(member, &format!("{at}/{name}"), found);
            }
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nul_anywhere_in_a_request_is_no_internal_error() {
    let app = TestApp::start().await;
    let document = document();
    let schemas = &document["components"]["schemas"];
    let (mut probes, mut bodies) = (Vec::new(), 0);
    for (method, path, operation) in operations(&document) {
        let plain = |path: String| Probe { method: method.clone(), path, body: None };
        for name in parameters(&operation, "path") {
            for hostile in ["%00", "a%00b"] {
                probes.push(plain(filled(&path, Some((&name, hostile)))));
            }
        }
        for name in parameters(&operation, "query") {
            for hostile in ["%00", "a%00b"] {
                probes.push(plain(format!("{}?{name}={hostile}", filled(&path, None))));
            }
        }
        let Some(content) = operation["requestBody"]["content"].as_object() else { continue };
        let schema = content.values().next().unwrap()["schema"].clone();
        for sample in samples(schemas, &schema) {
            let mut places = Vec::new();
            strings(&sample, "", &mut places);
            for place in places {
                let mut hostile = sample.clone();
                *hostile.pointer_mut(&place).unwrap() = json!("a\0b");
                bodies += 1;
                probes.push(Probe {
                    method: method.clone(),
                    path: filled(&path, None),
                    body: Some(hostile.to_string().into_bytes()),
                });
            }
        }
    }
    assert!(probes.len() > 250 && bodies > 100, "{} probes, {bodies} bodies", probes.len());
    let mut failures = Vec::new();
    for probe in &probes {
        let (status, media, answer) = send(&app, probe).await;
        let by_design = status == 503 && probe.path.ends_with("/ready");
        let is_address = probe.path.contains("%00");
        // An address with NUL is refused, in the words of its protocol.
        let is_problem = media == "application/problem+json"
            || probe.path.starts_with("/v2")
            || probe.path.starts_with("/v1/projects");
        if !by_design && (status >= 500 || (is_address && !(status >= 400 && is_problem))) {
            let body = probe.body.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            failures
                .push(format!("{} {} {body}: {status} {media} {answer}", probe.method, probe.path));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    app.stop().await;
}

/// What was answered 500, each with the field that is named now.
#[tokio::test(flavor = "multi_thread")]
async fn nul_is_refused_by_the_name_of_its_field() {
    let app = TestApp::start().await;
    let get = |path: &str, field: &str| (Method::GET, path.to_owned(), None, field.to_owned());
    let post = |path: &str, body: Value, field: &str| {
        (Method::POST, path.to_owned(), Some(body), field.to_owned())
    };
    let target = json!({ "kind": "slack", "url": "http://example.com/\0" });
    let table = [
        get("/v1/alerts/%00", "id"),
        get("/v1/alerts/%00/picture.svg", "id"),
        get("/v1/segments/%00/lineage", "id"),
        get("/v1/alerts?owner=%00", "owner"),
        get("/v1/events/failed?door=%00", "door"),
        get("/v1/events/failed?key=%00", "key"),
        get("/v1/events/failed?reason=a%00b", "reason"),
        get("/v1/customers/a%00b", "id"),
        get("/v1/assignments?segment=%00", "segment"),
        get("/v1/changes?segment=%00", "segment"),
        (Method::DELETE, "/v1/silences/%00".into(), None, "id".into()),
        (Method::DELETE, "/v1/channels/%00".into(), None, "id".into()),
        (Method::DELETE, "/v1/customers/a/links/%00".into(), None, "from".into()),
        post("/v1/channels/%00/enable", json!({}), "id"),
        post("/v1/deliveries/%00/replay", json!({}), "id"),
        post("/v1/events/failed/replay", json!({ "reason": "\0" }), "reason"),
        post("/v1/events/failed/replay", json!({ "ids": ["1", "\0"] }), "ids[1]"),
        post("/v1/models/rollback", json!({ "reason": "a\0b" }), "reason"),
        post("/v1/models/fall-back", json!({ "reason": "a\0b" }), "reason"),
        post("/v1/channels", json!({ "name": "x", "target": target }), "target.url"),
        post("/v1/training-runs", json!({ "baseline": { "recency": "\0" } }), "baseline.recency"),
    ];
    for (method, path, body, field) in table {
        let body = body.map(|body| body.to_string().into_bytes());
        let probe = Probe { method, path, body };
        let (status, media, answer) = send(&app, &probe).await;
        let problem: Value = serde_json::from_str(&answer).unwrap_or_default();
        assert_eq!((status, &*media), (422, "application/problem+json"), "{}", probe.path);
        assert_eq!(problem["errors"][0]["field"], json!(field), "{}: {answer}", probe.path);
        let said = problem["errors"][0]["problem"].as_str().unwrap();
        assert!(said.contains("NUL"), "{}: {answer}", probe.path);
    }
    // What is no UTF-8 is a problem too.
    for path in ["/v1/customers/%FF", "/v1/alerts/%C3%28"] {
        let probe = Probe { method: Method::GET, path: path.into(), body: None };
        let (status, media, answer) = send(&app, &probe).await;
        assert_eq!((status, &*media), (400, "application/problem+json"), "{answer}");
        assert!(answer.contains("malformed-path"), "{answer}");
    }
    app.stop().await;
}

/// One more than the longest text is refused with the limit; the longest is taken.
#[tokio::test(flavor = "multi_thread")]
async fn free_text_is_bounded() {
    let app = TestApp::start().await;
    let model = "a".repeat(64);
    let until = segmentd::service::clock::Clock::System.now().plus_millis(60_000);
    let text = |chars: usize| "é".repeat(chars);
    let channel = |name: &str, owner: &str, reason: &str| {
        let target = json!({ "kind": "slack", "url": "https://example.com/x" });
        json!({ "name": name, "owners": [owner], "target": target, "reason": reason })
    };
    let silence = |owner: &str, prefix: &str, reason: &str| json!({ "until": until, "owner": owner, "key_prefix": prefix, "reason": reason });
    let policy = |reason: &str| json!({ "policy": {}, "reason": reason });
    let reason = |reason: &str| json!({ "reason": reason });
    let (long, short) = (text(2001), text(201));
    let huge = "x".repeat(4_000_000);
    let promote = format!("/v1/models/{model}/promote");
    let table = [
        (Method::POST, "/v1/models/rollback", reason(&huge), "reason", 2000),
        (Method::POST, "/v1/models/rollback", reason(&long), "reason", 2000),
        (Method::POST, "/v1/models/fall-back", reason(&long), "reason", 2000),
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
        let said = problem["errors"][0]["problem"].as_str().unwrap();
        assert!(said.contains(&limit.to_string()), "{path}: {answer}");
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
            let scopes = [segmentd::domain::access::Scope::Read];
            segmentd::service::access::create(
                &db,
                &segmentd::service::clock::Clock::System,
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

/// Numbers, instants and texts at the ends of what Postgres can take.
#[tokio::test(flavor = "multi_thread")]
async fn extreme_values_are_no_internal_error() {
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
    let document = document();
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
    for list in [
        "/v1/models",
        "/v1/training-runs",
        "/v1/customers/c1/history",
        "/v1/segments/seg_0/lineage",
    ] {
        paths.extend(instants.iter().map(|instant| format!("{list}?before={instant}")));
        paths.extend(numbers.iter().map(|number| format!("{list}?limit={number}")));
    }
    // Cursors that are well formed, of transactions that cannot be.
    for transaction in [0, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX] {
        for change in [0, i64::MAX] {
            paths.push(format!("/v1/changes?after={}", cursor(transaction, change)));
        }
    }
    let mut failures = Vec::new();
    for path in paths {
        let probe = Probe { method: Method::GET, path, body: None };
        let (status, _, answer) = send(&app, &probe).await;
        if status >= 500 && !probe.path.contains("/ready") {
            let shown: String = probe.path.chars().take(120).collect();
            failures.push(format!("{shown}: {status} {answer}"));
        }
    }
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
            json!({ "ids": ["9223372036854775807", "-9223372036854775808"], "after": "9223372036854775807" }),
        ),
        ("/v1/events/failed/replay", json!({ "ids": ["9223372036854775808"] })),
        ("/v1/events/failed/replay", json!({ "limit": i64::MAX })),
        ("/v1/events/failed/replay", json!({ "reason": "€".repeat(100_000) })),
        ("/v1/training-runs", json!({ "seed": u64::MAX, "what_if": true })),
        ("/v1/training-runs", json!({ "segments": u64::MAX })),
        ("/v1/training-runs", json!({ "tolerance": 1e308, "sample": u64::MAX })),
        ("/v1/silences", json!({ "until": "9999-12-31T23:59:59Z", "reason": "r" })),
        (
            "/v1/channels",
            json!({ "name": "n", "after_seconds": u32::MAX, "target": { "kind": "email", "to": ["a@b.c"] } }),
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
    // Halves of surrogate pairs, and bytes that are no UTF-8.
    for body in [
        &br#"{"type":"page","customer_id":"\ud800","name":"x"}"#[..],
        br#"{"type":"page","customer_id":"c","name":"\udfff\ud800"}"#,
        b"{\"type\":\"page\",\"customer_id\":\"c\xff\",\"name\":\"x\"}",
    ] {
        for path in ["/v1/events", "/v1/page", "/v1/silences", "/v1/models/rollback"] {
            let (status, answer) = app.post(path, body.to_vec()).await;
            // Segment's form answers 200 and lists what it rejected.
            let is_refused = (400..500).contains(&status) || answer["rejected"] == 1;
            assert!(is_refused, "{path}: {status} {answer}");
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    app.stop().await;
}

/// A cursor of the change feed as segmentd gives it out.
fn cursor(transaction: u64, change: i64) -> String {
    use sha2::Digest as _;
    let mut bytes = vec![1];
    bytes.extend_from_slice(&transaction.to_be_bytes());
    bytes.extend_from_slice(&change.to_be_bytes());
    let check = sha2::Sha256::digest(&bytes);
    bytes.extend_from_slice(&check[..2]);
    segmentd::domain::id::hex(&bytes)
}
