//! The attacker of `siege`: a separate process at the lowest priority, as if on another
//! machine. Ends by itself.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout_at};

use crate::caller::client;
use crate::runtime;

/// First argument of this program when it is the attacker.
pub(crate) const ARGUMENT: &str = "attack";

/// From another address than the well-behaved caller.
const ADDRESS: &str = "127.0.0.2:0";
/// The pause between two attempts of each of some 2,000 attackers, as `Retry-After` asks:
/// otherwise the flood takes both cores, and scoring is not measured.
const PAUSE: Duration = Duration::from_secs(1);

/// The address, the keys and the duration of an attack.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// Sends events.
    pub(crate) ingest_key: String,
    /// A public key.
    pub(crate) browser_key: String,
    /// Reads.
    pub(crate) read_key: String,
    /// Scores and trains.
    pub(crate) train_key: String,
    pub(crate) duration: Duration,
}

impl Target {
    /// The command-line arguments of this program.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let keys = [&self.ingest_key, &self.browser_key, &self.read_key, &self.train_key];
        let mut arguments = vec![ARGUMENT.to_owned(), self.address.to_string()];
        arguments.extend(keys.into_iter().cloned());
        arguments.push(self.duration.as_secs().to_string());
        arguments
    }

    fn parse(arguments: &[String]) -> Self {
        let [address, ingest_key, browser_key, read_key, train_key, seconds] = arguments else {
            panic!("six arguments, not {arguments:?}");
        };
        Self {
            address: address.parse().unwrap(),
            ingest_key: ingest_key.clone(),
            browser_key: browser_key.clone(),
            read_key: read_key.clone(),
            train_key: train_key.clone(),
            duration: Duration::from_secs(seconds.parse().unwrap()),
        }
    }
}

pub(crate) fn main(arguments: &[String]) {
    let target = Arc::new(Target::parse(arguments));
    let until = Instant::now() + target.duration;
    let attacks = Attacks { target, until, counts: Arc::default() };
    runtime().block_on(attacks.run());
}

#[derive(Debug, Clone)]
struct Attacks {
    target: Arc<Target>,
    until: Instant,
    counts: Arc<Counts>,
}

/// Attackers spread evenly over each pause.
#[derive(Debug, Default)]
struct Staggered {
    set: tokio::task::JoinSet<()>,
}

impl Staggered {
    fn spawn(&mut self, attack: impl Future<Output = ()> + Send + 'static) {
        // The golden ratio spreads any number of them.
        #[expect(clippy::cast_precision_loss, reason = "a few thousand attackers")]
        let share = (self.set.len() as f64 * 0.618_033_988_75).fract();
        self.set.spawn(async move {
            sleep(PAUSE.mul_f64(share)).await;
            attack.await;
        });
    }
}

/// The numbers of sent requests.
#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    requests: AtomicU64,
    taken: AtomicU64,
    refused: AtomicU64,
}

impl Attacks {
    async fn run(self) {
        let mut tasks = Staggered::default();
        let half_body = format!(
            "POST /v1/t HTTP/1.1\r\nhost: {}\r\ncontent-length: 1000\r\n\r\n{{",
            self.target.address
        );
        for _ in 0..512 {
            tasks.spawn(self.clone().half_sent(half_body.clone()));
        }
        for _ in 0..1100 {
            tasks.spawn(self.clone().half_sent(String::new()));
        }
        for _ in 0..200 {
            tasks.spawn(self.clone().half_sent("GET /v1/segments HTTP/1.1\r\nhost: x\r\n".into()));
        }
        let empty = format!(r#"{{"batch":[{}]}}"#, vec!["{}"; 1_400_000].join(","));
        let bomb = gzip(empty.as_bytes());
        let browser = self.target.browser_key.clone();
        for _ in 0..5 {
            tasks.spawn(self.clone().post("/v1/batch", browser.clone(), bomb.clone(), true));
        }
        let ingest = self.target.ingest_key.clone();
        let zeros = format!("[{}]", vec!["0"; 2_000_000].join(",")).into_bytes();
        let objects = format!("[{}]", vec!["{}"; 1_390_000].join(",")).into_bytes();
        for body in [zeros, objects] {
            tasks.spawn(self.clone().post("/v1/events", ingest.clone(), body, false));
        }
        for _ in 0..3 {
            tasks.spawn(self.clone().floods());
        }
        for _ in 0..60 {
            tasks.spawn(self.clone().stalled_bulk());
        }
        for path in ["/v1/changes?wait_seconds=30", "/v1/assignments?format=ndjson"] {
            for _ in 0..100 {
                tasks.spawn(self.clone().get(path));
            }
        }
        for _ in 0..8 {
            tasks.spawn(
                self.clone().get("/v1/customers/c00001/features?as_of=2026-01-01T00:00:00Z"),
            );
        }
        let spec = json!({
            "algorithms": ["kmeans", "gmm", "hierarchical"],
            "segments": { "from": 2, "to": 64 },
            "what_if": true,
        });
        let train = self.target.train_key.clone();
        tasks.spawn(self.clone().post("/v1/training-runs", train, spec.to_string().into(), false));
        while tasks.set.join_next().await.is_some() {}
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        println!(
            "  sent: {} connections, {} requests, of which {} answered with 2xx and {} refused",
            count(&self.counts.connections),
            count(&self.counts.requests),
            count(&self.counts.taken),
            count(&self.counts.refused),
        );
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    async fn connect(&self) -> Option<TcpStream> {
        let socket = TcpSocket::new_v4().ok()?;
        socket.bind(ADDRESS.parse().ok()?).ok()?;
        let stream = timeout_at(self.until.into(), socket.connect(self.target.address)).await;
        self.counts.connections.fetch_add(1, Ordering::Relaxed);
        stream.ok()?.ok()
    }

    /// Sends `head`, then nothing, until the server closes; again and again.
    async fn half_sent(self, head: String) {
        while !self.is_over() {
            if let Some(mut stream) = self.connect().await {
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = timeout_at(self.until.into(), stream.read_to_end(&mut Vec::new())).await;
            }
            sleep(PAUSE).await;
        }
    }

    fn count(&self, answer: reqwest::Result<reqwest::Response>) {
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        let is_taken = answer.is_ok_and(|answer| answer.status().is_success());
        let counter = if is_taken { &self.counts.taken } else { &self.counts.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.target.address)
    }

    async fn post(self, path: &'static str, key: String, body: Vec<u8>, is_gzip: bool) {
        let client = client();
        while !self.is_over() {
            let mut request = client.post(self.url(path)).body(body.clone());
            request = match path {
                "/v1/batch" => request.basic_auth(&key, None::<&str>),
                _ => request.bearer_auth(&key),
            };
            if is_gzip {
                request = request.header("content-encoding", "gzip");
            }
            if let Ok(answer) = timeout_at(self.until.into(), request.send()).await {
                self.count(answer);
            }
            sleep(PAUSE).await;
        }
    }

    /// Many events in few bytes, with new ids each time.
    async fn floods(self) {
        let client = client();
        let mut round = 0_u64;
        let number = self.counts.connections.load(Ordering::Relaxed);
        while !self.is_over() {
            round += 1;
            let events: Vec<String> = (0..5000)
                .map(|event| {
                    let id = format!("flood-{number}-{round}-{event}");
                    format!(r#"{{"type":"track","name":"x","customer_id":"f{event}","message_id":"{id}"}}"#)
                })
                .collect();
            let body = gzip(format!("[{}]", events.join(",")).as_bytes());
            let request = client
                .post(self.url("/v1/events"))
                .bearer_auth(&self.target.ingest_key)
                .header("content-encoding", "gzip")
                .body(body);
            if let Ok(answer) = timeout_at(self.until.into(), request.send()).await {
                self.count(answer);
            }
            sleep(PAUSE).await;
        }
    }

    /// A bulk upload of 999 rejected lines that then stalls.
    async fn stalled_bulk(self) {
        let line = format!("{}\n", "x".repeat(32_000));
        let head = format!(
            "POST /v1/events/bulk HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
             content-length: 100000000\r\n\r\n",
            self.target.ingest_key
        );
        while !self.is_over() {
            if let Some(mut stream) = self.connect().await {
                let _ = stream.write_all(head.as_bytes()).await;
                for _ in 0..999 {
                    let sent = timeout_at(self.until.into(), stream.write_all(line.as_bytes()));
                    if !matches!(sent.await, Ok(Ok(()))) {
                        break;
                    }
                }
                let _ = timeout_at(self.until.into(), stream.read_to_end(&mut Vec::new())).await;
            }
            sleep(PAUSE).await;
        }
    }

    async fn get(self, path: &'static str) {
        let client = client();
        while !self.is_over() {
            let request = client.get(self.url(path)).bearer_auth(&self.target.read_key);
            if let Ok(answer) = timeout_at(self.until.into(), request.send()).await {
                self.count(answer);
            }
            sleep(PAUSE).await;
        }
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
