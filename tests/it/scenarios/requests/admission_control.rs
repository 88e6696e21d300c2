//! Admission control: clients that send incomplete, idle or too many requests do not block
//! other clients.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::process::Process;
use crate::support::{TestApp, eventually, ndjson, open_to_all, orders};

/// Long enough for a slow machine, and shorter than the timeout of a waiting request.
const PATIENCE: Duration = Duration::from_secs(25);

fn host(url: &str) -> String {
    url.trim_start_matches("http://").to_owned()
}

/// Connects, and sends `bytes`.
async fn send(url: &str, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(host(url)).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

/// Reads until the server closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is also an end.
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    assert!(read.is_ok(), "the server closes the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A request with one byte of a body of a thousand.
fn half_sent(path: &str, key: Option<&str>) -> String {
    let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    format!("POST {path} HTTP/1.1\r\nHost: x\r\n{key}Content-Length: 1000\r\n\r\n{{")
}

pub(crate) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap()
}

/// Raises the limit of open files of this process, which its own sockets need.
fn allow_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_bodies_without_a_key_do_not_block_other_clients() {
    allow_descriptors();
    let settings = [("http.body_grace_seconds", "3"), ("http.body_timeout_seconds", "6")];
    let app = TestApp::start_with(&settings).await;
    let attack: Vec<_> = (0..512)
        .map(|number| {
            let path = ["/v1/t", "/v1/m", "/v1/batch", "/v1/events"][number % 4];
            let url = app.url.clone();
            async move { send(&url, &half_sent(path, None)).await }
        })
        .collect();
    let mut attack = join_all(attack).await;
    let event = ndjson(&orders(1, 1));
    for _ in 0..5 {
        let (status, answer) =
            in_time(app.post("/v1/score", r#"{"rows": [{"recency_days": 3}]}"#)).await;
        assert_eq!(status, 200, "{answer}");
        let (status, answer) = in_time(app.post("/v1/events", event.clone())).await;
        assert_eq!(status, 200, "{answer}");
        let (status, answer) = in_time(app.get("/v2/health/ready")).await;
        assert_eq!(status, 200, "{answer}");
        let (status, answer) = in_time(app.get("/v1/segments")).await;
        assert_eq!(status, 200, "{answer}");
    }
    let (status, _) = in_time(app.post("/v1/t", r#"{"type": "track"}"#)).await;
    assert_eq!(status, 200, "a key in the head needs nothing of the others' budget");
    let answers = join_all(attack.iter_mut().map(rest)).await;
    let count = |status: &str| answers.iter().filter(|text| text.contains(status)).count();
    let (timed_out, shed, stranger) = (count(" 408 "), count(" 503 "), count(" 401 "));
    assert_eq!(stranger, 128, "/v1/events knows without the body");
    // One address may use half of the 64 slots.
    assert_eq!((timed_out, shed), (32, 384 - 32));
    let metric = r#"segmentd_http_body_timeouts_total{reason="rate"}"#;
    assert_eq!(app.metric(metric).await, 32);
    let metric = r#"segmentd_http_requests_shed_total{class="unidentified",reason="share"}"#;
    assert_eq!(app.metric(metric).await, 384 - 32);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_sends_half_requests_leaves_other_keys_their_share() {
    let settings = [("http.max_ingestion_requests", "8"), ("http.body_timeout_seconds", "2")];
    let app = TestApp::start_with(&settings).await;
    let other = app.another_key().await;
    let half = half_sent("/v1/events", Some(&app.key));
    let mut attack = join_all((0..20).map(|_| send(&app.url, &half))).await;
    eventually("the share of the key is used", async || {
        let shed = r#"segmentd_http_requests_shed_total{class="ingestion",reason="share"}"#;
        app.metric(shed).await == 16
    })
    .await;
    let event = ndjson(&orders(1, 1));
    let (status, answer) = app.post_as(Some(&other), "/v1/events", &event).await;
    assert_eq!(status, 200, "{answer}");
    let answers = join_all(attack.iter_mut().map(rest)).await;
    let count = |status: &str| answers.iter().filter(|text| text.contains(status)).count();
    assert_eq!((count(" 408 "), count(" 503 ")), (4, 16), "{answers:?}");
    assert!(answers.iter().any(|text| text.contains("within 2 s")), "{answers:?}");
    let (status, answer) = app.post("/v1/events", event).await;
    assert_eq!(status, 200, "{answer}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_refused_by_its_declared_length_and_a_keyless_one_is_smaller() {
    let settings = [("http.max_unidentified_body_bytes", "2048")];
    let app = TestApp::start_with(&settings).await;
    // Refused before any byte of the body is sent.
    let key = &app.key;
    let large = format!(
        "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
         Content-Length: 99999999\r\n\r\n"
    );
    let mut stream = send(&app.url, &large).await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    let message = |key: Option<&str>, size: usize| {
        let mut message = json!({
            "type": "track", "event": "Order Completed", "userId": "c", "messageId": size.to_string(),
            "properties": { "note": "x".repeat(size) },
        });
        if let Some(key) = key {
            message["writeKey"] = key.into();
        }
        message.to_string()
    };
    let key_inside = |size| message(Some(key), size);
    let (status, answer) = app.post_as(None, "/v1/t", &key_inside(100)).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
    let (status, answer) = app.post_as(None, "/v1/t", &key_inside(3000)).await;
    assert_eq!((status, &answer["code"]), (413, &json!("too-large")), "{answer}");
    let (status, answer) = app.post_as(Some(key), "/v1/t", &message(None, 3000)).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_sockets_take_neither_listener_down_nor_the_database() {
    const SOCKETS: usize = 1100;
    allow_descriptors();
    let state = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let settings = ["http.header_timeout_seconds=4"];
    let server = Process::start_within(state.path(), &settings, 1024);
    let mut silent = Vec::new();
    for number in 0..2 * SOCKETS {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let to = if number % 2 == 0 { &server.url } else { &server.admin };
        silent.push(in_time(socket.connect(host(to).parse().unwrap())).await.unwrap());
    }
    let client = reqwest::Client::new();
    let get = async |url: String| {
        let answer = in_time(client.get(url).send()).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for _ in 0..3 {
        let (status, _) = get(format!("{}/v2/health/ready", server.url)).await;
        assert_eq!(status, 200);
        let (status, _) = get(format!("{}/livez", server.admin)).await;
        assert_eq!(status, 200);
        let (_, text) = get(format!("{}/readyz?verbose", server.admin)).await;
        assert!(text.contains("[+] database"), "{text}");
        let (_, text) = get(format!("{}/metrics", server.admin)).await;
        let open = text.lines().find_map(|line| line.strip_prefix("process_open_fds ")).unwrap();
        assert!(open.parse::<usize>().unwrap() < 900, "{open}");
        let evicted = r#"segmentd_connections_closed_total{listener="api",reason="evicted"}"#;
        let evicted = text.lines().find_map(|line| line.strip_prefix(evicted)).unwrap();
        assert!(evicted.trim().parse::<usize>().unwrap() > 0);
    }
    for mut socket in silent {
        assert_eq!(rest(&mut socket).await, "", "closed without an answer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_heads_and_idle_connections_are_closed_in_time() {
    let settings = [("http.header_timeout_seconds", "1"), ("http.idle_timeout_seconds", "2")];
    let app = TestApp::start_with(&settings).await;
    let mut half = send(&app.url, "GET /docs HTTP/1.1\r\nHost: ").await;
    assert_eq!(rest(&mut half).await, "");
    let mut idle = send(&app.url, "GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = rest(&mut idle).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut admin = send(&app.admin, "GET /livez").await;
    assert_eq!(rest(&mut admin).await, "");
    for (listener, reason) in
        [("api", "header_timeout"), ("api", "idle_timeout"), ("admin", "header_timeout")]
    {
        let labels = format!("listener=\"{listener}\",reason=\"{reason}\"");
        assert_eq!(app.metric(&format!("segmentd_connections_closed_total{{{labels}}}")).await, 1);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_answers_requests_in_progress_and_closes_idle_connections() {
    let app = TestApp::start().await;
    let mut idle = send(&app.url, "GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n").await;
    idle.read_u8().await.unwrap();
    let event = ndjson(&orders(1, 1));
    let (start, end) = event.split_at(10);
    let (key, length) = (&app.key, event.len());
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
         Content-Length: {length}\r\n\r\n{start}"
    );
    let mut late = send(&app.url, &head).await;
    eventually("the event is in progress", async || {
        app.metric("segmentd_http_requests_in_flight").await == 1
    })
    .await;
    let ((), answer) = tokio::join!(app.stop(), async {
        rest(&mut idle).await;
        // The listener is closed, and the request is still answered.
        late.write_all(end.as_bytes()).await.unwrap();
        rest(&mut late).await
    });
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_key_leave_streams_to_another() {
    let settings = [
        ("change_feed.max_readers", "6"),
        ("http.max_streams", "40"),
        ("export.max_concurrent", "2"),
    ];
    let app = TestApp::start_with(&settings).await;
    let (status, _) = app.post("/v1/events/bulk", ndjson(&orders(500, 1))).await;
    assert_eq!(status, 200);
    let other = app.another_key().await;
    let client = reqwest::Client::new();
    let open = async |key: &str, path: &str| {
        let request = client.get(format!("{}{path}", app.url)).bearer_auth(key);
        in_time(request.header("accept", "text/event-stream").send()).await.unwrap()
    };
    let mut streams = Vec::new();
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let answer = open(&app.key, "/v1/changes").await;
        statuses.push(answer.status().as_u16());
        streams.push(answer);
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429, 429]);
    let answer = open(&other, "/v1/changes").await;
    assert_eq!(answer.status(), 200);
    // The slot is released when the client disconnects.
    streams.clear();
    eventually("a reader is admitted", async || {
        open(&app.key, "/v1/changes").await.status() == 200
    })
    .await;

    // A bulk upload that does not end.
    let bulk = |key: &str| {
        format!(
            "POST /v1/events/bulk HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        )
    };
    let mine = bulk(&app.key);
    let held = join_all((0..40).map(|_| send(&app.url, &mine))).await;
    eventually("the share of streams of the key is used", async || {
        let shed = r#"segmentd_http_requests_shed_total{class="stream",reason="share"}"#;
        app.metric(shed).await > 0
    })
    .await;
    let answer = open(&other, "/v1/assignments").await;
    assert_eq!(answer.status(), 200);
    let (status, answer) = app.get("/v1/segments").await;
    assert_eq!(status, 200, "reads are a class of their own: {answer}");
    drop(held);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_reads_of_one_key_leave_connections_to_short_ones() {
    let app = TestApp::start().await;
    let (status, _) = app.post("/v1/events/bulk", ndjson(&orders(3, 20))).await;
    assert_eq!(status, 200);
    let other = app.another_key().await;
    let past = "/v1/customers/c0002/features?as_of=2020-01-01T00:00:00Z";
    // More long reads than connections: they take turns, and each is answered.
    let long = join_all((0..24).map(|_| app.get(past)));
    let (long, (status, answer)) = tokio::join!(long, app.get_as(&other, past));
    assert_eq!(status, 200, "{answer}");
    assert!(long.iter().all(|(status, _)| *status == 200), "{long:?}");
    // While another key has all turns of long reads, a short read is still answered.
    let principal = app.app.api_keys.authenticate(&app.key).unwrap();
    let turn = app.app.slow_reads.acquire(&principal).await.unwrap();
    let (status, answer) = in_time(app.get("/v1/customers/c0002")).await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = in_time(app.get_as(&other, past)).await;
    assert_eq!(status, 200, "a turn is left to another key: {answer}");
    drop(turn);
    app.stop().await;
}
