//! Memory limits: small requests that would need much memory or time are refused, and
//! reserved memory stays within its budget.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::process::Process;
use crate::support::{RESERVED_BYTES, TestApp, nothing_is_reserved, open_to_all, orders};

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(body).unwrap();
    packed.finish().unwrap()
}

/// A JSON array of `count` equal elements.
fn many(element: &str, count: usize) -> String {
    let mut list = format!("{element},").repeat(count);
    list.pop();
    format!("[{list}]")
}

async fn send(app: &TestApp, path: &str, body: Vec<u8>, is_packed: bool) -> (u16, String) {
    let mut request = reqwest::Client::new()
        .post(format!("{}{path}", app.url))
        .bearer_auth(&app.key)
        .timeout(Duration::from_mins(3))
        .body(body);
    if is_packed {
        request = request.header("content-encoding", "gzip");
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// 4,119 bytes of gzip with 1.4 million messages: parsed, they would take 1 GB and 10 s.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_events_in_a_request_are_refused_before_they_are_parsed() {
    let app = TestApp::start().await;
    let bomb = gzip(format!("{{\"batch\":{}}}", many("{}", 1_390_000)).as_bytes());
    assert!(bomb.len() < 8192, "{}", bomb.len());
    let requests = [
        ("/v1/batch", bomb, true),
        ("/v1/events", many("0", 2_000_000).into_bytes(), false),
        ("/v1/events", many("{}", 1_390_000).into_bytes(), false),
        ("/v1/events?strict=true", many("[]", 1_390_000).into_bytes(), false),
    ];
    for (path, body, is_packed) in requests {
        let (status, text) = send(&app, path, body, is_packed).await;
        assert_eq!(status, 413, "{path}: {}", &text[..text.len().min(500)]);
        assert!(text.len() < 1000 && text.contains("limits.events_per_request"), "{text}");
    }
    let name = r#"segmentd_limit_refusals_total{limit="events_per_request"}"#;
    assert_eq!(app.metric(name).await, 4);
    nothing_is_reserved(&app).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_lists_a_bounded_number_of_errors() {
    let app = TestApp::start_with(&[("failed_events.max_per_minute", "10000")]).await;
    let event =
        format!("{{{}}}", (0..100).map(|n| format!("\"x{n}\":0")).collect::<Vec<_>>().join(","));
    let (status, text) = send(&app, "/v1/events", many(&event, 4000).into_bytes(), false).await;
    assert_eq!(status, 422);
    assert!(text.len() < 1_000_000, "{}", text.len());
    let answer: Value = serde_json::from_str(&text).unwrap();
    let outcomes = answer["outcomes"].as_array().unwrap();
    assert_eq!((outcomes.len(), &answer["rejected"]), (4000, &json!(4000)));
    let first = outcomes[0]["errors"].as_array().unwrap();
    assert!(first.len() < 10 && first.iter().any(|e| e["field"] == "event"), "{first:?}");
    assert_eq!(outcomes[3999]["errors_omitted"], first.len());
    // A `sentAt` of a megabyte is not copied into each stored message.
    let clock = "9".repeat(1_000_000);
    let batch = format!("{{\"sentAt\":\"{clock}\",\"batch\":{}}}", many("{}", 900));
    let (status, text) = send(&app, "/v1/batch", gzip(batch.as_bytes()), true).await;
    assert_eq!(status, 200, "{text}");
    let (_, failed) = app.get("/v1/events/failed?endpoint=segment&raw=true&limit=5").await;
    let raw = failed["failed_events"][0]["raw"].as_str().unwrap_or_else(|| panic!("{failed}"));
    assert!(raw.len() < 200 && raw.contains("sentAt"), "{raw}");
    nothing_is_reserved(&app).await;
    app.stop().await;
}

/// Each tensor can have several errors, and a parsed document takes up to 200 times its
/// size.
#[tokio::test(flavor = "multi_thread")]
async fn other_bodies_are_bounded_too() {
    // Heavy work has a low priority: on a busy machine four megabytes take half a minute.
    let app = TestApp::start_with(&[("http.request_timeout_seconds", "120")]).await;
    app.post("/v1/events/bulk", crate::support::ndjson(&orders(150, 5))).await;
    app.train().await;
    let body = format!("{{\"inputs\":{}}}", many("{}", 1_300_000));
    let (status, text) = send(&app, "/v2/models/segments/infer", body.into_bytes(), false).await;
    assert!((400..500).contains(&status) && text.len() < 2000, "{status} {}", text.len());
    let shape = format!(
        r#"{{"inputs":[{{"name":"recency_days","datatype":"FP64","shape":{},"data":[]}}]}}"#,
        many("1", 1_000_000)
    );
    let (status, text) = send(&app, "/v2/models/segments/infer", shape.into_bytes(), false).await;
    assert!((400..500).contains(&status) && text.len() < 2000, "{status} {}", text.len());
    let document = format!("{{\"x\":{}}}", many("{\"\":0}", 300_000));
    let (status, _) = send(&app, "/v1/training-runs", document.into_bytes(), false).await;
    assert_eq!(status, 413);
    nothing_is_reserved(&app).await;
    app.stop().await;
}

/// Every kind of buffer at once, in a separate process: reserved memory and resident memory
/// stay within the budget.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_budget_bounds_the_memory_of_the_process() {
    const BUDGET: u64 = 64 * 1024 * 1024;
    // For requests, for the customer cache, and the minimum for the rest.
    const DECLARED: u64 = BUDGET + (64 + 128) * 1024 * 1024;
    let state = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let key = Process::key(state.path(), None);
    let settings = [
        format!("limits.buffer_bytes={BUDGET}"),
        format!("limits.memory_bytes={DECLARED}"),
        "limits.events_per_request=2000".into(),
        "limits.stream_idle_seconds=2".into(),
        "http.max_body_bytes=1000000".into(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let process = Process::start_with(state.path(), None, &settings);
    let client =
        reqwest::Client::builder().timeout(Duration::from_mins(1)).pool_max_idle_per_host(0);
    let client = client.build().unwrap();
    let event = json!({ "type": "track", "name": "x", "customer_id": "c", "properties": {
        "note": "y".repeat(300) } });
    let wide =
        format!("{{{}}}", (0..60).map(|n| format!("\"w{n}\":0")).collect::<Vec<_>>().join(","));
    let bodies: Vec<(&str, Vec<u8>, bool)> = vec![
        ("/v1/events", many(&event.to_string(), 1900).into_bytes(), false),
        ("/v1/events", many(&wide, 1500).into_bytes(), false),
        ("/v1/events", many("{}", 2000).into_bytes(), false),
        ("/v1/events", many("{}", 300_000).into_bytes(), false),
        ("/v1/batch", gzip(format!("{{\"batch\":{}}}", many(&wide, 1500)).as_bytes()), true),
        ("/v1/batch", gzip(format!("{{\"batch\":{}}}", many("{}", 330_000)).as_bytes()), true),
        ("/v1/events/bulk", (event.to_string() + "\n").repeat(3000).into_bytes(), false),
        ("/v1/events/bulk", (wide.clone() + "\n").repeat(3000).into_bytes(), false),
        (
            "/v1/score",
            format!("{{\"rows\":{}}}", many(r#"{"recency_days":1}"#, 1000)).into_bytes(),
            false,
        ),
        (
            "/v1/training-runs",
            format!("{{\"x\":{}}}", many("{\"\":0}", 30_000)).into_bytes(),
            false,
        ),
    ];
    let senders = (0..40).map(|sender| {
        let (client, key, url, bodies) = (&client, &key, &process.url, &bodies);
        async move {
            for turn in 0..8 {
                let (path, body, is_packed) = &bodies[(sender + turn) % bodies.len()];
                let mut request = client.post(format!("{url}{path}")).bearer_auth(key);
                if *is_packed {
                    request = request.header("content-encoding", "gzip");
                }
                let answer = match request.body(body.clone()).send().await {
                    // A refusal ends an upload early and closes the connection. A client that
                    // is still sending may see that before the response.
                    Err(error) if error.is_request() => continue,
                    answer => answer.unwrap(),
                };
                let status = answer.status().as_u16();
                let known = [200, 207, 413, 422, 429, 503];
                assert!(known.contains(&status), "{path}: {status}");
                answer.bytes().await.unwrap();
            }
        }
    });
    let admin = process.admin.clone();
    let mut watched = JoinSet::new();
    watched.spawn(async move {
        let mut most = 0;
        // Until it is dropped.
        loop {
            let text =
                reqwest::get(format!("{admin}/metrics")).await.unwrap().text().await.unwrap();
            let used = text.lines().find_map(|line| line.strip_prefix(RESERVED_BYTES)).unwrap();
            most = used.trim().parse::<u64>().unwrap().max(most);
            assert!(most <= BUDGET, "{most}");
            // A sleep, because it is the interval between samples.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    futures_util::future::join_all(senders).await;
    let exceeded = watched.try_join_next();
    assert!(exceeded.is_none(), "{exceeded:?}");
    let peak = process.peak_bytes();
    assert!(peak < DECLARED, "{peak} of {DECLARED} bytes");
}
