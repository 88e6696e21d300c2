//! The generator: keep-alive connections over loopback, each with one request
//! on its way at a time. Bounded by its duration.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What one run measured.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) requests_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) failures: usize,
}

/// Sends `body` over `connections` connections for `duration`, from a thread of
/// its own.
pub(crate) fn post(
    to: SocketAddr,
    path: &str,
    key: &str,
    body: &str,
    connections: usize,
    duration: Duration,
) -> Run {
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {to}\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let until = Instant::now() + duration;
            let workers: Vec<_> =
                (0..connections).map(|_| connection(to, request.clone(), until)).collect();
            summarise(futures_util::future::join_all(workers).await, duration)
        })
    })
    .join()
    .unwrap()
}

async fn connection(to: SocketAddr, request: String, until: Instant) -> (Vec<Duration>, usize) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 256 * 1024];
    let (mut times, mut failures) = (Vec::new(), 0);
    while Instant::now() < until {
        let started = Instant::now();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut filled = 0;
        loop {
            let read = stream.read(&mut buffer[filled..]).await.unwrap();
            assert_ne!(read, 0, "the server hung up");
            filled += read;
            if is_whole(&buffer[..filled]) {
                break;
            }
        }
        failures += usize::from(!buffer.starts_with(b"HTTP/1.1 200"));
        times.push(started.elapsed());
    }
    (times, failures)
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let text = std::str::from_utf8(&answer[..head]).unwrap().to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    answer.len() >= head + 4 + length.unwrap().parse::<usize>().unwrap()
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
