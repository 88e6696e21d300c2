//! A storm of messages to 60 channels during writes of the API.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use segmentd::domain::time::MILLIS_PER_HOUR;
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::caller::{Over, client};
use crate::service::Service;
use crate::{percentile, runtime, soak_seconds};

const OF_EACH_KIND: usize = 20;

/// How a receiver behaves.
#[derive(Debug, Clone, Copy)]
enum Receiver {
    Good,
    Failing,
    Hanging,
}

pub(crate) fn run() {
    let service =
        Service::new(&["alerts.allow_private_addresses=true", "alerts.timeout_seconds=5"]);
    let key = service.key("soak", "ingest,score,read,train,admin");
    let running = service.start();
    runtime().block_on(async {
        let client = client();
        let post = async |path: String, body: Value| {
            let request = client.post(format!("{}{path}", running.url)).bearer_auth(&key);
            let answer = request.body(body.to_string()).send().await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap_or_default())
        };
        let calm = writes(&running.url, &key, Duration::from_secs(10)).await;
        println!("  without: {calm}");
        let mut channels = Vec::new();
        for kind in [Receiver::Good, Receiver::Failing, Receiver::Hanging] {
            let url = kind.listen().await;
            for number in 0..OF_EACH_KIND {
                let name = format!("{kind:?} {number}");
                let wish = json!({ "name": name, "target": { "kind": "webhook", "url": url } });
                let (status, made) = post("/v1/channels".into(), wish).await;
                assert_eq!(status, 201, "{made}");
                channels.push(made["channel_id"].as_str().unwrap().to_owned());
            }
        }
        let over = Over::default();
        let storm = async {
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                for channel in &channels {
                    let (status, _) = post(format!("/v1/channels/{channel}/test"), json!({})).await;
                    sent += usize::from(status == 202);
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            sent
        };
        let measured = async {
            let measured = writes(&running.url, &key, soak_seconds()).await;
            over.store(true, Ordering::Relaxed);
            measured
        };
        let (sent, stormy) = tokio::join!(storm, measured);
        println!("  with {} channels and {sent} messages: {}", channels.len(), stormy);
        assert!(calm.failures.is_empty() && stormy.failures.is_empty(), "a write failed");
    });
    running.stop();
}

impl Receiver {
    /// Answers on a free port, until the runtime ends.
    #[expect(clippy::disallowed_methods, reason = "a receiver of this test")]
    async fn listen(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut hanging = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer: &'static str = match self {
                    Self::Good => {
                        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    }
                    Self::Failing => {
                        "HTTP/1.1 500 Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    }
                    Self::Hanging => {
                        hanging.push(stream);
                        continue;
                    }
                };
                tokio::spawn(async move {
                    let _ = stream.read(&mut vec![0; 65_536]).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        url
    }
}

/// Repeatedly creates and deletes silences, and rolls back; returns times and failures.
async fn writes(url: &str, key: &str, duration: Duration) -> Writes {
    let client = client();
    let started = Instant::now();
    let mut writes = Writes::default();
    while started.elapsed() < duration {
        let until = TimeSource::System.now().plus_millis(MILLIS_PER_HOUR);
        let silence =
            json!({ "topic": "drift", "until": until.to_string(), "reason": "soak" }).to_string();
        for (path, body) in [
            ("/v1/silences", silence),
            ("/v1/deployment/fallback", json!({ "reason": "soak" }).to_string()),
        ] {
            let due = Instant::now();
            let request = client.post(format!("{url}{path}")).bearer_auth(key).body(body);
            let answer = request.send().await;
            writes.times.push(due.elapsed());
            let status = answer.map_or(0, |answer| answer.status().as_u16());
            // 409: no model is live.
            if !matches!(status, 200 | 201 | 409) {
                *writes.failures.entry(format!("{status} {path}")).or_default() += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    writes.times.sort();
    writes
}

/// Times, sorted, and failures by status and path.
#[derive(Debug, Default)]
struct Writes {
    times: Vec<Duration>,
    failures: BTreeMap<String, usize>,
}

impl Display for Writes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} writes, p50 {:.1?}, p99 {:.1?}, worst {:.1?}, failed {:?}",
            self.times.len(),
            percentile(&self.times, 50),
            percentile(&self.times, 99),
            percentile(&self.times, 100),
            self.failures,
        )
    }
}
