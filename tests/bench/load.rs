//! The load generator: keep-alive connections over loopback, each with one request in
//! flight at a time, for a fixed duration.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The requests of a load, and their rate.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) to: SocketAddr,
    pub(crate) path: &'static str,
    pub(crate) key: String,
    pub(crate) body: String,
    pub(crate) connections: usize,
    pub(crate) duration: Duration,
    /// Requests per second over all connections; `None`: as fast as they are answered. With
    /// a rate, latency counts from the due time of a request.
    pub(crate) rate: Option<f64>,
}

/// The measurements of one run.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) requests_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) failures: usize,
}

impl Load {
    /// Runs in a separate thread. A response whose body `check` refuses is a failure.
    pub(crate) fn run(self, check: impl Fn(&str) -> bool + Clone + Send + 'static) -> Run {
        self.run_with(|_| {}, check)
    }

    /// As [`Load::run`]; `patch` may change bytes of the body before each request.
    pub(crate) fn run_with(
        self,
        patch: impl Fn(&mut [u8]) + Clone + Send + 'static,
        check: impl Fn(&str) -> bool + Clone + Send + 'static,
    ) -> Run {
        std::thread::spawn(move || {
            if self.rate.is_some() {
                go_first();
            }
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let started = Instant::now();
                let workers: Vec<_> = (0..self.connections)
                    .map(|number| self.connection(number, started, &patch, &check))
                    .collect();
                let parts = futures_util::future::join_all(workers).await;
                summarise(parts, started.elapsed())
            })
        })
        .join()
        .unwrap()
    }

    async fn connection(
        &self,
        number: usize,
        started: Instant,
        patch: &impl Fn(&mut [u8]),
        check: &impl Fn(&str) -> bool,
    ) -> (Vec<Duration>, usize) {
        let mut stream = TcpStream::connect(self.to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = request(self.to, self.path, &self.key, &self.body).into_bytes();
        let body_at = request.len() - self.body.len();
        let mut buffer = vec![0; 256 * 1024];
        let (mut times, mut failures) = (Vec::new(), 0);
        for turn in 0.. {
            let due = self.due(started, number, turn).await;
            if started.elapsed() >= self.duration {
                break;
            }
            patch(&mut request[body_at..]);
            stream.write_all(&request).await.unwrap();
            let mut filled = 0;
            let body = loop {
                let read = stream.read(&mut buffer[filled..]).await.unwrap();
                assert_ne!(read, 0, "the server hung up");
                filled += read;
                if let Some(body) = body_of(&buffer[..filled]) {
                    break body;
                }
            };
            times.push(due.elapsed());
            failures += usize::from(!buffer.starts_with(b"HTTP/1.1 200") || !check(body));
        }
        (times, failures)
    }

    /// Waits until the request is due; returns the due time.
    async fn due(&self, started: Instant, number: usize, turn: u32) -> Instant {
        let Some(rate) = self.rate else { return Instant::now() };
        let connections = f64::from(u32::try_from(self.connections).unwrap());
        let number = f64::from(u32::try_from(number).unwrap());
        let after = (f64::from(turn) * connections + number) / rate;
        let due = started + Duration::from_secs_f64(after);
        tokio::time::sleep_until(due.into()).await;
        due
    }
}

/// If permitted, a load at a fixed rate runs at a real-time priority, as if from another
/// machine. Otherwise its own delays would count as those of the server.
fn go_first() {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    let done = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
    if let Err(error) = done {
        println!("  the load has no core of its own, its delays count too: {error}");
    }
}

/// Sends one request; returns the body of the response.
pub(crate) fn ask(to: SocketAddr, path: &str, key: &str, body: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(to).unwrap();
    stream.write_all(request(to, path, key, body).as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while body_of(&answer).is_none() {
        let read = stream.read(&mut chunk).unwrap();
        answer.extend_from_slice(&chunk[..read]);
    }
    body_of(&answer).unwrap().to_owned()
}

fn request(to: SocketAddr, path: &str, key: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: {to}\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The body of a response, once it is complete.
fn body_of(answer: &[u8]) -> Option<&str> {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = (std::str::from_utf8(&answer[..head]).unwrap(), &answer[head + 4..]);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
    });
    (body.len() >= length.unwrap()).then(|| std::str::from_utf8(body).unwrap())
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests")]
fn summarise(parts: Vec<(Vec<Duration>, usize)>, duration: Duration) -> Run {
    let failures = parts.iter().map(|(_, failures)| failures).sum();
    let mut times: Vec<Duration> = parts.into_iter().flat_map(|(times, _)| times).collect();
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    Run {
        requests_per_second: times.len() as f64 / duration.as_secs_f64(),
        p50_ms: at(50),
        p99_ms: at(99),
        failures,
    }
}
