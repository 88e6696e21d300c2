//! Small requests that would take much memory or time are refused, and what is reserved
//! for requests stays within its budget.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::process::Process;
use crate::support::{TestApp, eventually, open_to_all, orders};

const USED: &str = r#"segmentd_memory_budget_used_bytes{part="requests"}"#;

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(body).unwrap();
    packed.finish().unwrap()
}

/// An array, or a batch, of so many of these elements.
fn many(element: &str, count: usize) -> String {
    let mut list = format!("{element},").repeat(count);
    list.pop();
    format!("[{list}]")
}

async fn nothing_is_reserved(app: &TestApp) {
    eventually("nothing is reserved", async || app.metric(USED).await == 0).await;
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

/// 4,119 bytes of gzip, 1.4 million messages: before, 1 GB, 10 s and an answer of 242 MB.
#[tokio::test(flavor = "multi_thread")]
async fn more_events_than_a_request_may_hold_are_refused_before_they_are_read() {
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
async fn an_answer_names_a_bounded_number_of_faults() {
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
    // A clock of a megabyte is not copied into what is kept of each message.
    let clock = "9".repeat(1_000_000);
    let batch = format!("{{\"sentAt\":\"{clock}\",\"batch\":{}}}", many("{}", 900));
    let (status, text) = send(&app, "/v1/batch", gzip(batch.as_bytes()), true).await;
    assert_eq!(status, 200, "{text}");
    let (_, failed) = app.get("/v1/events/failed?door=segment&raw=true&limit=5").await;
    let raw = failed["failed_events"][0]["raw"].as_str().unwrap_or_else(|| panic!("{failed}"));
    assert!(raw.len() < 200 && raw.contains("sentAt"), "{raw}");
    nothing_is_reserved(&app).await;
    app.stop().await;
}

/// Tensors make several faults each, and documents take almost 200 times their size.
#[tokio::test(flavor = "multi_thread")]
async fn other_bodies_are_bounded_too() {
    // Heavy work has a low priority: on a busy machine four megabytes take half a minute.
    let app = TestApp::start_with(&[("http.request_timeout_seconds", "120")]).await;
    app.post("/v1/events/bulk", crate::support::ndjson(&orders(150, 5))).await;
    app.train().await;
    let body = format!("{{\"inputs\":{}}}", many("{}", 1_300_000));
    let (status, text) = send(&app, "/v2/models/segmentd/infer", body.into_bytes(), false).await;
    assert!((400..500).contains(&status) && text.len() < 2000, "{status} {}", text.len());
    let shape = format!(
        r#"{{"inputs":[{{"name":"recency_days","datatype":"FP64","shape":{},"data":[]}}]}}"#,
        many("1", 1_000_000)
    );
    let (status, text) = send(&app, "/v2/models/segmentd/infer", shape.into_bytes(), false).await;
    assert!((400..500).contains(&status) && text.len() < 2000, "{status} {}", text.len());
    let document = format!("{{\"x\":{}}}", many("{\"\":0}", 300_000));
    let (status, _) = send(&app, "/v1/training-runs", document.into_bytes(), false).await;
    assert_eq!(status, 413);
    nothing_is_reserved(&app).await;
    app.stop().await;
}

/// A bulk upload whose lines the test sends; its verdicts are collected.
struct Upload {
    lines: mpsc::UnboundedSender<Result<String, std::io::Error>>,
    verdicts: JoinSet<(u16, String)>,
}

fn upload(app: &TestApp) -> Upload {
    let (lines, sent) = mpsc::unbounded_channel();
    let body =
        futures_util::stream::unfold(
            sent,
            |mut sent| async move { Some((sent.recv().await?, sent)) },
        );
    let request = reqwest::Client::new()
        .post(format!("{}/v1/events/bulk", app.url))
        .bearer_auth(&app.key)
        .body(reqwest::Body::wrap_stream(body));
    let mut verdicts = JoinSet::new();
    verdicts.spawn(async move {
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.text().await.unwrap_or_default())
    });
    Upload { lines, verdicts }
}

/// Before, lines were gathered until there were 1000 of them, however long that took.
#[tokio::test(flavor = "multi_thread")]
async fn the_lines_of_a_slow_sender_are_committed_before_the_next_ones() {
    let app = TestApp::start_with(&[("limits.stream_flush_milliseconds", "50")]).await;
    let mut slow = upload(&app);
    for (count, event) in orders(3, 0).into_iter().enumerate() {
        slow.lines.send(Ok(event.to_string() + "\n")).unwrap();
        let name = r#"segmentd_events_total{outcome="accepted"}"#;
        eventually("it is committed", async || app.metric(name).await == count as u64 + 1).await;
    }
    drop(slow.lines);
    let (status, verdicts) = slow.verdicts.join_next().await.unwrap().unwrap();
    assert_eq!((status, verdicts.matches("accepted").count()), (200, 3), "{verdicts}");
    nothing_is_reserved(&app).await;
    app.stop().await;
}

/// Before, 60 stalled uploads of rejected lines held 2 GB for as long as they wanted.
#[tokio::test(flavor = "multi_thread")]
async fn stalled_uploads_are_committed_and_ended() {
    let settings = [
        ("limits.stream_idle_seconds", "1"),
        ("limits.stream_flush_milliseconds", "100"),
        ("limits.buffer_bytes", "150000000"),
    ];
    let app = TestApp::start_with(&settings).await;
    let uploads: Vec<Upload> = (0..60).map(|_| upload(&app)).collect();
    let rubbish = format!("\"{}\"\n", "x".repeat(32_000));
    for upload in &uploads {
        for _ in 0..20 {
            upload.lines.send(Ok(rubbish.clone())).unwrap();
        }
        // And the start of a line that never ends.
        upload.lines.send(Ok("[".repeat(40_000))).unwrap();
    }
    let mut ended = 0;
    for mut upload in uploads {
        let verdicts = tokio::time::timeout(Duration::from_mins(1), upload.verdicts.join_next());
        let answer = verdicts.await.expect("a stalled upload is ended");
        let (status, text) = answer.unwrap().unwrap();
        // What does not fit beside the others is refused at once.
        if status == 200 {
            assert!(text.contains("limits.stream_idle_seconds"), "{text}");
            assert_eq!(text.matches("\"rejected\"").count(), 20);
            ended += 1;
        } else {
            assert!(status == 429 || status == 503, "{status} {text}");
        }
    }
    assert!(ended >= 20, "{ended}");
    nothing_is_reserved(&app).await;
    app.stop().await;
}

/// Every kind of buffer at once, in a process of its own: what is reserved stays within
/// the budget, and so does what the process takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_budget_bounds_the_memory_of_the_process() {
    const BUDGET: u64 = 64 * 1024 * 1024;
    // For requests, the customer cache, and the least that there may be for the rest.
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
        ("/v1/score", format!("{{\"rows\":{}}}", many("{}", 1000)).into_bytes(), false),
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
                let answer = request.body(body.clone()).send().await.unwrap();
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
            let used = text.lines().find_map(|line| line.strip_prefix(USED)).unwrap();
            most = used.trim().parse::<u64>().unwrap().max(most);
            assert!(most <= BUDGET, "{most}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    futures_util::future::join_all(senders).await;
    let exceeded = watched.try_join_next();
    assert!(exceeded.is_none(), "{exceeded:?}");
    let peak = process.peak_bytes();
    assert!(peak < DECLARED, "{peak} of {DECLARED} bytes");
}
