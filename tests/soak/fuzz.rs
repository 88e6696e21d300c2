//! Mutated bodies, from a fixed seed, for every endpoint that reads one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::service::Service;
use crate::{bound, runtime};

/// Connections, each with its own random number stream.
const CONNECTIONS: u64 = 32;
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// Method, path and body of a valid request.
const SEEDS: [(&str, &str, &str); 20] = [
    (
        "POST",
        "/v1/events",
        r#"{"type":"track","name":"Order Completed","message_id":"m1","customer_id":"c1","timestamp":"2026-01-01T00:00:00Z","properties":{"sales_value":30.5,"lines":3}}"#,
    ),
    (
        "POST",
        "/v1/events",
        r#"[{"type":"identify","customer_id":"c1","anonymous_id":"a1","traits":{"age":34}},{"type":"page","name":"Home","customer_id":"c2"}]"#,
    ),
    (
        "POST",
        "/v1/events?all_or_nothing=true",
        r#"[{"type":"track","name":"Order Completed","customer_id":"c3","properties":{"sales_value":1}}]"#,
    ),
    (
        "POST",
        "/v1/events/bulk",
        "{\"type\":\"track\",\"name\":\"x\",\"customer_id\":\"c4\"}\n{\"type\":\"alias\",\"previous_id\":\"a\",\"customer_id\":\"b\"}\n",
    ),
    (
        "POST",
        "/v1/track",
        r#"{"event":"Order Completed","userId":"c5","messageId":"m2","timestamp":"2026-01-01T00:00:00Z","properties":{"revenue":9.5}}"#,
    ),
    (
        "POST",
        "/v1/identify",
        r#"{"userId":"c6","anonymousId":"a6","traits":{"plan":"gold"},"context":{"ip":"1.2.3.4"}}"#,
    ),
    ("POST", "/v1/alias", r#"{"previousId":"a7","userId":"c7"}"#),
    (
        "POST",
        "/v1/batch",
        r#"{"batch":[{"type":"track","event":"x","userId":"c8"},{"type":"page","name":"y","anonymousId":"a8"}],"sentAt":"2026-01-01T00:00:00Z"}"#,
    ),
    ("POST", "/v1/m", r#"{"series":[{"type":"counter","metric":"m","value":1}]}"#),
    ("POST", "/v1/score", r#"{"features":{"recency_days":1,"orders_365d":94,"spend_365d":3000}}"#),
    (
        "POST",
        "/v1/score",
        r#"{"rows":[{"customer_id":"c1","features":{"recency_days":null}},{"features":{}}],"explain":true}"#,
    ),
    (
        "POST",
        "/v2/models/segments/infer",
        r#"{"inputs":[{"name":"recency_days","shape":[2],"datatype":"FP32","data":[1.0,2.0]}]}"#,
    ),
    (
        "POST",
        "/v1/channels",
        r#"{"name":"n","target":{"kind":"webhook","url":"https://example.com/hook"},"topics":["drift"],"min_severity":"warning"}"#,
    ),
    (
        "POST",
        "/v1/silences",
        r#"{"topic":"drift","until":"2099-01-01T00:00:00Z","reason":"maintenance"}"#,
    ),
    ("POST", "/v1/deployment/rollback", r#"{"reason":"bad"}"#),
    ("POST", "/v1/deployment/fallback", r#"{"reason":"bad"}"#),
    ("PATCH", "/v1/policy", r#"{"reason":"r","frozen":false,"probation":{"watch_seconds":60}}"#),
    (
        "POST",
        "/v1/events/failed/replay",
        r#"{"reason":"type","key_id":"k","endpoint":"events","limit":10}"#,
    ),
    ("GET", "/v1/events/failed?limit=10&reason=x&endpoint=events", ""),
    ("GET", "/v1/customers/c1/features?as_of=2026-01-01T00:00:00Z", ""),
];

/// Fragments that are hard for parsers.
const PIECES: [&str; 24] = [
    "null",
    "NaN",
    "-Infinity",
    "1e999",
    "-0",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "{}",
    "[]",
    "[[[[[[[[[[[[[[[[",
    "9223372036854775808",
    "0.1e-400",
    "true",
    "{\"a\":",
    "\u{feff}",
    "'x'",
    ",,",
    "\r\n\r\n",
    "%00",
    "294277-01-01T00:00:00Z",
    "\"2026-02-30T25:61:61Z\"",
    "\\",
    "\0",
];

pub(crate) fn run() {
    let bodies = bound("SOAK_BODIES", 1_000_000);
    let seed = bound("SOAK_SEED", 1);
    let service = Service::new(&[]);
    let key = service.key("soak", "ingest,score,read,train,admin");
    let running = service.start();
    let address: SocketAddr = running.url.trim_start_matches("http://").parse().unwrap();
    let runtime = runtime();
    let mut statuses = BTreeMap::<u16, u64>::new();
    let mut highest = Vec::new();
    // In tenths, to see whether memory grows.
    for tenth in 0..10_u64 {
        let tasks: Vec<_> = (0..CONNECTIONS)
            .map(|connection| {
                let random = ChaCha8Rng::seed_from_u64(seed << 32 | tenth << 8 | connection);
                runtime.spawn(send(address, key.clone(), random, bodies / 10 / CONNECTIONS))
            })
            .collect();
        for task in tasks {
            for (status, count) in runtime.block_on(task).unwrap() {
                *statuses.entry(status).or_default() += count;
            }
        }
        highest.push(running.memory_mib().0);
        println!("  {} %: resident {} MiB, {statuses:?}", (tenth + 1) * 10, running.memory_mib().0);
    }
    let panics =
        running.log.lock().unwrap().iter().filter(|line| line.contains("panicked")).count();
    println!("  {panics} panics; resident memory in MiB by tenth: {highest:?}");
    let errors = running
        .log
        .lock()
        .unwrap()
        .iter()
        .filter(|line| line.contains(r#""ERROR""#))
        .cloned()
        .collect::<Vec<_>>();
    assert_eq!(statuses.get(&500), None, "{errors:#?}");
    assert_eq!(panics, 0);
    running.stop();
}

/// Sends mutated requests over one connection at a time; returns the number of each status.
async fn send(
    address: SocketAddr,
    key: String,
    mut random: ChaCha8Rng,
    requests: u64,
) -> BTreeMap<u16, u64> {
    let mut statuses = BTreeMap::new();
    let mut connection = None;
    for _ in 0..requests {
        let request = request(&key, &mut random);
        let answer = exchange(address, &mut connection, &request);
        let Ok(status) = tokio::time::timeout(ANSWER_TIMEOUT, answer).await else {
            panic!("no answer to {}", String::from_utf8_lossy(&request));
        };
        // 0: the connection was closed without an answer.
        *statuses.entry(status.unwrap_or(0)).or_default() += 1;
    }
    statuses
}

async fn exchange(
    address: SocketAddr,
    connection: &mut Option<TcpStream>,
    request: &[u8],
) -> Option<u16> {
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => TcpStream::connect(address).await.ok()?,
    };
    stream.write_all(request).await.ok()?;
    let mut answer = Vec::new();
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let read = stream.read(&mut chunk).await.ok()?;
        answer.extend_from_slice(&chunk[..read]);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let head = end
            .and_then(|end| std::str::from_utf8(&answer[..end]).ok())
            .map(str::to_ascii_lowercase);
        if let Some(head) = &head {
            let status = head.split(' ').nth(1)?.parse().ok()?;
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let is_whole = match length {
                Some(length) => answer.len() >= end? + 4 + length.parse::<usize>().ok()?,
                None => answer.ends_with(b"0\r\n\r\n") || read == 0 || status == 204,
            };
            if is_whole {
                if read > 0 && !head.contains("connection: close") {
                    *connection = Some(stream);
                }
                return Some(status);
            }
        }
        if read == 0 {
            return None;
        }
    }
}

fn request(key: &str, random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut below =
        |limit: usize| usize::try_from(random.next_u64() % limit.max(1) as u64).unwrap();
    let (method, path, body) = SEEDS[below(SEEDS.len())];
    let mut body = body.as_bytes().to_vec();
    for _ in 0..below(6) {
        let at = below(body.len() + 1);
        match below(5) {
            0 if at < body.len() => body[at] = u8::try_from(below(256)).unwrap(),
            1 => {
                let to = (at + below(12)).min(body.len());
                body.drain(at..to);
            }
            2 => {
                let piece = PIECES[below(PIECES.len())].bytes();
                body.splice(at..at, piece);
            }
            3 => {
                let (from, length) = (below(body.len() + 1), below(40));
                let copy = body[from..(from + length).min(body.len())].to_vec();
                body.splice(at..at, copy);
            }
            _ => {
                let (_, _, other) = SEEDS[below(SEEDS.len())];
                let from = other.len() * below(100) / 100;
                body.splice(at..at, other.as_bytes()[from..].iter().copied());
            }
        }
    }
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}
