//! Events as real clients send them: elements that are not JSON, other encodings, large ids,
//! ids that name no customer, and values of other types than declared.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::support::TestApp;

const FEATURES: &str = "tests/data/client_features.toml";

async fn start() -> TestApp {
    let settings = [("features.file", FEATURES), ("failed_events.max_per_minute", "100000")];
    TestApp::start_with(&settings).await
}

async fn features(app: &TestApp, customer: &str) -> Value {
    let (status, answer) = app.get(&format!("/v1/customers/{customer}")).await;
    assert_eq!(status, 200, "{customer}: {answer}");
    answer["features"].clone()
}

/// Elements that are not JSON, as clients in the field send them.
const BROKEN: [&[u8]; 12] = [
    br#"{"type":"track","userId":"bad","properties":{"v":NaN}}"#,
    br#"{"type":"track","userId":"bad","properties":{"v":-Infinity}}"#,
    br#"{"type":"track","userId":undefined}"#,
    b"{'type':'track','userId':'bad'}",
    br#"{"type":"track","userId":"bad",}"#,
    br#"{"type":"track","userId":"bad","v":007}"#,
    br#"{"type":"track","userId":"bad","v":+1}"#,
    b"{\"type\":\"track\",\"userId\":\"bad\",\"v\":\"a\tb\"}",
    b"{\"type\":\"track\",\"userId\":\"bad\",\"v\":\"caf\xe9\"}",
    br#"{"type":"track","userId":"bad","v":"no end}"#,
    br#"{"type":"track","userId":"bad","v":[1,2}"#,
    br#"{"type":"track","userId":"bad","v":{"a":1}"#,
];

/// Generated batches, each with one broken element in any place: every good event is counted,
/// and the broken one is kept with its bytes, at every endpoint that takes several events.
#[tokio::test(flavor = "multi_thread")]
async fn one_broken_element_costs_no_good_event_at_any_endpoint() {
    let app = start().await;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut below = |bound: u32| rng.next_u32() % bound;
    let mut sent = 0;
    let mut broken_texts = Vec::new();
    for batch in 0..90_u32 {
        let endpoint = ["/v1/batch", "/v1/events", "/v1/events/bulk"][(batch % 3) as usize];
        let count = 1 + below(6);
        let mut elements: Vec<Vec<u8>> = Vec::new();
        for number in 0..count {
            let id = format!("m{batch}-{number}");
            let event = if endpoint == "/v1/batch" {
                json!({ "type": "track", "event": "Order Completed", "userId": "good",
                        "messageId": id, "properties": { "total": 1, "items": [{ "a": 1 }] } })
            } else {
                json!({ "type": "track", "name": "Order Completed", "customer_id": "good",
                        "message_id": id, "properties": { "total": 1, "note": "a, \"b\"}" } })
            };
            elements.push(event.to_string().into_bytes());
        }
        sent += count;
        let broken = BROKEN[below(12) as usize];
        elements.insert(below(count + 1) as usize, broken.to_vec());
        // Bytes that are not UTF-8 are kept as Latin-1.
        let text = std::str::from_utf8(broken).map(ToOwned::to_owned);
        broken_texts
            .push(text.unwrap_or_else(|_| broken.iter().copied().map(char::from).collect()));
        let body = match endpoint {
            "/v1/batch" => {
                let joined = elements.join(&b","[..]);
                [b"{\"batch\":[", &joined[..], b"],\"sentAt\":\"2024-05-01T12:00:00Z\"}"].concat()
            }
            "/v1/events" => [b"[", &elements.join(&b" ,\n"[..])[..], b"]"].concat(),
            _ => elements.join(&b"\n"[..]),
        };
        let (status, answer) = app.post(endpoint, body).await;
        let text = answer.to_string();
        if endpoint == "/v1/events/bulk" {
            assert_eq!(status, 200, "{text}");
            assert_eq!(text.matches("accepted").count(), count as usize, "{text}");
            assert_eq!(text.matches("rejected").count(), 1, "{text}");
        } else {
            assert!(status == 200 || status == 207, "{status} {text}");
            assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(count), &json!(1)));
            assert!(text.contains("is not valid JSON; "), "{text}");
        }
    }
    let good = features(&app, "good").await;
    assert_eq!(
        (&good["orders"], &good["spend"]),
        (&json!(f64::from(sent)), &json!(f64::from(sent)))
    );
    let (_, failed) = app.get("/v1/events/failed?raw=true&limit=500").await;
    let failed = failed["failed_events"].as_array().unwrap();
    let mut kept: Vec<&str> = failed.iter().map(|one| one["raw"].as_str().unwrap()).collect();
    kept.sort_unstable();
    broken_texts.sort_unstable();
    assert_eq!(kept, broken_texts);
    app.stop().await;
}

fn encode(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    match encoding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "raw deflate" => {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::encode_all(bytes, 3).unwrap(),
        _ => bytes.to_vec(),
    }
}

/// The body in chunks of some bytes each, with pauses that the server sees as separate reads.
fn chunked(bytes: &[u8]) -> reqwest::Body {
    let chunks: Vec<Vec<u8>> = bytes.chunks(7).map(<[u8]>::to_vec).collect();
    let chunks = chunks.into_iter().map(Ok::<_, std::io::Error>);
    reqwest::Body::wrap_stream(futures_util::stream::iter(chunks))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_takes_every_encoding_and_a_byte_order_mark() {
    let app = start().await;
    let client = reqwest::Client::new();
    let mut orders = 0_u32;
    for encoding in ["identity", "gzip", "x-gzip", "deflate", "raw deflate", "zstd"] {
        let native = |id: &str| {
            json!({ "type": "track", "name": "Order Completed", "customer_id": "packed",
                    "message_id": format!("{encoding} {id}"), "properties": { "total": 2 } })
        };
        let segment = json!({ "type": "track", "event": "Order Completed", "userId": "packed",
                              "messageId": format!("{encoding} s"), "properties": { "total": 2 } });
        for (path, body, accepted) in [
            ("/v1/events", native("one").to_string(), 1),
            ("/v1/events", json!([native("a"), native("b")]).to_string(), 2),
            ("/v1/events/bulk", format!("{}\n{}\n", native("c"), native("d")), 2),
            ("/v1/batch", json!({ "batch": [segment] }).to_string(), 1),
            ("/v1/score", json!({ "features": { "orders": 3 } }).to_string(), 0),
            ("/v1/silences", json!({ "topic": "drift", "reason": "x" }).to_string(), 0),
        ] {
            let marked = format!("\u{feff}{body}");
            let sent =
                encode(if encoding == "x-gzip" { "gzip" } else { encoding }, marked.as_bytes());
            let name = if encoding == "raw deflate" { "deflate" } else { encoding };
            let request = client.post(format!("{}{path}", app.url)).bearer_auth(&app.key);
            let answer =
                request.header("content-encoding", name).body(chunked(&sent)).send().await.unwrap();
            let status = answer.status().as_u16();
            let text = answer.text().await.unwrap();
            // A silence lacks its end: the body was read all the same.
            let expected = if path == "/v1/silences" { 422 } else { 200 };
            assert_eq!(status, expected, "{encoding} {path}: {text}");
            if path == "/v1/events/bulk" {
                assert_eq!(
                    text.matches(r#""status":"accepted""#).count(),
                    accepted as usize,
                    "{text}"
                );
            }
            orders += accepted;
        }
    }
    assert_eq!(features(&app, "packed").await["orders"], json!(f64::from(orders)));
    for path in ["/v1/events", "/v1/events/bulk", "/v1/batch", "/v1/score", "/v1/silences"] {
        for encoding in ["br", "compress", "gzip, gzip"] {
            let request = client.post(format!("{}{path}", app.url)).bearer_auth(&app.key);
            let answer =
                request.header("content-encoding", encoding).body("x").send().await.unwrap();
            assert_eq!(answer.status(), 415, "{path} {encoding}");
            assert_eq!(answer.headers()["accept-encoding"], "gzip, deflate, zstd");
        }
    }
    // Decompressed, each body is larger than every limit.
    let spaces = vec![b' '; 30_000_000];
    for encoding in ["gzip", "deflate", "zstd"] {
        for (path, expected) in [("/v1/events", 413), ("/v1/batch", 413), ("/v1/score", 413)] {
            let request = client.post(format!("{}{path}", app.url)).bearer_auth(&app.key);
            let body = encode(encoding, &spaces);
            let answer = request.header("content-encoding", encoding).body(body).send().await;
            assert_eq!(answer.unwrap().status(), expected, "{path} {encoding}");
        }
        let half = encode(encoding, &[b"{}\n".repeat(1000), spaces[..9].to_vec()].concat());
        let request = client.post(format!("{}/v1/events/bulk", app.url)).bearer_auth(&app.key);
        let body = half[..half.len() - 3].to_vec();
        let answer = request.header("content-encoding", encoding).body(body).send().await.unwrap();
        let text = answer.text().await.unwrap();
        assert!(text.contains("cannot be decompressed"), "{encoding}: {text}");
    }
    assert_eq!(app.settled(crate::support::RESERVED_BYTES).await, 0);
    app.stop().await;
}

/// The only outcome of a request with one event.
async fn send(app: &TestApp, event: Value) -> Value {
    let (status, answer) = app.post("/v1/events", event.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    answer["outcomes"][0].clone()
}

fn order(id: &str, customer: &str, properties: &Value) -> Value {
    json!({ "type": "track", "name": "Order Completed", "message_id": id, "customer_id": customer,
            "properties": properties })
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_converted_or_left_out_with_a_warning() {
    let app = start().await;
    let properties = json!({ "total": "199.00", "store": 34, "is_gift": "True", "unread": [[]] });
    let outcome = send(&app, order("m1", "c1", &properties)).await;
    assert_eq!((&outcome["status"], &outcome["warnings"]), (&json!("accepted"), &Value::Null));
    let properties = json!({ "total": "many", "store": ["a"], "is_gift": "yes" });
    let outcome = send(&app, order("m2", "c1", &properties)).await;
    assert_eq!(
        outcome["warnings"],
        json!([
            { "field": "properties.store",
              "problem": "must be a text, as the feature set declares it; it is an array" },
            { "field": "properties.is_gift",
              "problem": "must be true or false, as the feature set declares it; it is a text" },
            { "field": "properties.total",
              "problem": "must be a number, as the feature set declares it; it is a text that is \
                          no decimal number" },
        ])
    );
    let found = features(&app, "c1").await;
    assert_eq!(
        (&found["orders"], &found["spend"], &found["store"], &found["gifts"]),
        (&json!(2.0), &json!(199.0), &json!("34"), &json!(1.0))
    );
    assert_eq!(app.metric(r#"segmentd_event_warnings_total{field="property"}"#).await, 3);
    // The link of a login is taken although a trait is not.
    let batch = json!({ "batch": [
        { "type": "track", "event": "Order Completed", "anonymousId": "device", "messageId": "d1",
          "properties": { "total": 5 } },
        { "type": "identify", "userId": "c2", "anonymousId": "device", "messageId": "d2",
          "traits": { "age": "34", "plan": { "name": "pro" } } },
    ]});
    let (_, answer) = app.post("/v1/batch", batch.to_string()).await;
    assert_eq!((&answer["accepted"], &answer["warnings"][0]["index"]), (&json!(2), &json!(1)));
    assert_eq!(answer["warnings"][0]["warnings"][0]["field"], "traits.plan");
    let found = features(&app, "c2").await;
    assert_eq!((&found["orders"], &found["age"]), (&json!(1.0), &json!(34.0)));
    // A sum cannot leave out a number.
    let (status, answer) =
        app.post("/v1/events", order("m3", "c1", &json!({ "total": 1e300 })).to_string()).await;
    assert_eq!(status, 422);
    assert_eq!(answer["outcomes"][0]["errors"][0]["field"], "properties.total");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn null_removes_a_trait_in_any_order_of_arrival() {
    let app = start().await;
    let identify = |id: &str, customer: &str, minute: u32, plan: Value| {
        json!({ "type": "identify", "message_id": id, "customer_id": customer,
                "timestamp": format!("2024-05-01T12:{minute:02}:00Z"), "traits": { "plan": plan } })
    };
    for (customer, order) in [("c1", [0, 1, 2]), ("c2", [2, 1, 0]), ("c3", [1, 2, 0])] {
        for minute in order {
            let plan = [json!("pro"), Value::Null, json!("basic")][minute].clone();
            let id = format!("{customer}-{minute}");
            send(&app, identify(&id, customer, u32::try_from(minute).unwrap(), plan)).await;
            let expected = if minute == 2 { json!("basic") } else { Value::Null };
            if order == [0, 1, 2] && minute > 0 {
                assert_eq!(features(&app, customer).await["plan"], expected);
            }
        }
        assert_eq!(features(&app, customer).await["plan"], "basic");
        let plan = if customer == "c1" { json!(" ") } else { Value::Null };
        send(&app, identify(&format!("{customer}-3"), customer, 3, plan)).await;
        assert_eq!(features(&app, customer).await["plan"], Value::Null);
    }
    let (_, states) = app.get("/v1/customers/c1").await;
    assert_eq!(states["features"]["plan"], Value::Null);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_no_feature_adds_are_taken_whole() {
    let app = start().await;
    for (id, product) in ["9007199254740992", "9007199254740993", "7982905098390123456789", "1e0"]
        .into_iter()
        .enumerate()
    {
        let text = order(
            &format!("p{id}"),
            "c1",
            &json!({ "total": 10, "product_id": "?", "product_number": "?",
            "shipped_ms": 1_714_550_400_000_i64, "order_number": 7_982_905_098_390_i64 }),
        )
        .to_string()
        .replace("\"?\"", product);
        let (status, answer) = app.post("/v1/events", text).await;
        assert_eq!((status, &answer["outcomes"][0]["warnings"]), (200, &Value::Null), "{answer}");
    }
    let found = features(&app, "c1").await;
    assert_eq!(
        (&found["products"], &found["chosen_share"], &found["late_orders"], &found["order_number"]),
        (&json!(4.0), &json!(0.25), &json!(4.0), &json!(7_982_905_098_390.0))
    );
    // The state is the same when it is rebuilt from the stored events.
    let before = app.states_digest().await;
    let file = format!("features.file={FEATURES}");
    let (is_ok, text) = app.command(&["--set", &file, "backfill", "--customer", "c1"]).await;
    assert!(is_ok, "{text}");
    assert_eq!(app.states_digest().await, before);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_keep_every_digit_and_sentinels_name_no_customer() {
    let app = start().await;
    let batch = r#"{"batch":[
        {"type":"track","event":"Order Completed","userId":100000000000000000001,"messageId":100000000000000000001},
        {"type":"track","event":"Order Completed","userId":100000000000000000002,"messageId":100000000000000000002},
        {"type":"track","event":"Order Completed","userId":17850.0,"messageId":"a"},
        {"type":"track","event":"Order Completed","userId":" 17850 ","messageId":"b"}]}"#;
    let (_, answer) = app.post("/v1/batch", batch).await;
    assert_eq!(answer["accepted"], 4, "{answer}");
    let native = r#"{"type":"track","name":"Order Completed","customer_id":17850,"message_id":3}"#;
    assert_eq!(app.post("/v1/events", native).await.0, 200);
    for (id, orders) in
        [("100000000000000000001", 1.0), ("100000000000000000002", 1.0), ("17850", 3.0)]
    {
        assert_eq!(features(&app, id).await["orders"], json!(orders), "{id}");
        assert_eq!(features(&app, &format!("%20{id}%20")).await["orders"], json!(orders), "{id}");
    }
    for id in ["100000000000000000001", "\" x \"", "null"] {
        let body = format!(r#"{{"features":{{"orders":3}},"customer_id":{id}}}"#);
        assert_eq!(app.post("/v1/score", body).await.0, 200, "{id}");
    }
    let (status, answer) =
        app.post("/v1/score", r#"{"features":{"orders":3},"customer_id":1.5}"#).await;
    assert_eq!(status, 422, "{answer}");
    assert!(answer.to_string().contains("must be a text or an integer; it is 1.5"), "{answer}");

    // Three people, all with the same broken device id, and visitors of the same bug.
    for sentinel in ["undefined", "NULL", "00000000-0000-0000-0000-000000000000", "[object Object]"]
    {
        for person in ["alice", "bob", "carol"] {
            let batch = json!({ "batch": [
                { "type": "identify", "userId": person, "anonymousId": sentinel },
                { "type": "track", "event": "Order Completed", "userId": person,
                  "anonymousId": sentinel },
                { "type": "track", "event": "Order Completed", "userId": sentinel,
                  "anonymousId": format!("device of {person}") },
                { "type": "track", "event": "Order Completed", "anonymousId": sentinel },
            ]});
            let (_, answer) = app.post("/v1/batch", batch.to_string()).await;
            assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(3), &json!(1)));
            assert_eq!(answer["rejections"][0]["index"], 3);
            assert_eq!(answer["warnings"].as_array().unwrap().len(), 3, "{answer}");
        }
        let path = format!("/v1/customers/{sentinel}").replace(' ', "%20");
        assert_eq!(app.get(&path).await.0, 404, "{sentinel}");
    }
    for person in ["alice", "bob", "carol"] {
        assert_eq!(features(&app, person).await["orders"], json!(4.0), "{person}");
        assert_eq!(features(&app, &format!("device%20of%20{person}")).await["orders"], json!(4.0));
    }
    let (_, summary) = app.get("/v1/events/failed/summary").await;
    assert!(summary.to_string().contains("anonymousId: names no customer"), "{summary}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anonymous_id_of_many_people_is_reported_and_merges_no_people() {
    let app = TestApp::start_with(&[
        ("features.file", FEATURES),
        ("ingestion.max_people_per_device", "3"),
    ])
    .await;
    for (person, reported) in [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1)] {
        let login = json!({ "userId": format!("p{person}"), "anonymousId": "terminal",
                            "messageId": format!("login {person}") });
        assert_eq!(app.post("/v1/identify", login.to_string()).await.1["accepted"], 1);
        send(&app, order(&format!("o{person}"), &format!("p{person}"), &json!({}))).await;
        assert_eq!(app.metric("segmentd_identity_shared_ids_total").await, reported, "{person}");
        assert_eq!(features(&app, &format!("p{person}")).await["orders"], 1.0);
    }
    app.stop().await;
}
