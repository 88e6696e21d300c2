//! A third-party HTTP server: its response depends on the path; it records every request.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A request as received.
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Runs until it is dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    received: mpsc::UnboundedReceiver<Received>,
    /// Bytes sent of endless responses.
    answered: Arc<AtomicUsize>,
    _running: JoinSet<()>,
}

#[derive(Clone)]
struct Recorder {
    received: mpsc::UnboundedSender<Received>,
    answered: Arc<AtomicUsize>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = mpsc::unbounded_channel();
        let answered = Arc::<AtomicUsize>::default();
        let recorder = Recorder { received: sender, answered: answered.clone() };
        let router = Router::new().fallback(answer).with_state(recorder);
        let mut running = JoinSet::new();
        running.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, received, answered, _running: running }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The oldest recorded request that no call has returned yet.
    pub(crate) fn take(&mut self) -> Option<Received> {
        self.received.try_recv().ok()
    }

    pub(crate) fn answered_bytes(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }
}

async fn answer(State(recorder): State<Recorder>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let path = head.uri.to_string();
    recorder.received.send(Received { path: path.clone(), headers: head.headers, body }).unwrap();
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    match path {
        "/hangs" => std::future::pending().await,
        "/endless" => {
            let chunk = Bytes::from(vec![b'x'; 65_536]);
            let chunks = (0..1600).map(move |_| {
                recorder.answered.fetch_add(chunk.len(), Ordering::Relaxed);
                Ok::<_, std::io::Error>(chunk.clone())
            });
            Body::from_stream(stream::iter(chunks)).into_response()
        }
        "/redirects" => (StatusCode::MOVED_PERMANENTLY, [("location", "/taken")]).into_response(),
        "/asks_to_wait" => {
            let later = query.replace('+', " ");
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", later)], "slow\ndown").into_response()
        }
        path => {
            let status = path.trim_start_matches('/').parse().unwrap_or(StatusCode::OK);
            (status, "said the receiver").into_response()
        }
    }
}

/// A TLS certificate for localhost, issued by a certificate authority of its own.
pub(crate) struct Certified {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    server: Arc<ServerConfig>,
    _files: tempfile::TempDir,
}

impl Certified {
    pub(crate) fn new() -> Self {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(params, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate =
            rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();

        let files = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = files.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        Self {
            authority: write("authority.pem", authority.pem()),
            certificate: write("certificate.pem", certificate.pem()),
            key: write("key.pem", key.serialize_pem()),
            server: Arc::new(server),
            _files: files,
        }
    }

    /// Answers requests over TLS with 200, one at a time, until it is dropped.
    pub(crate) async fn serve(&self) -> (u16, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(self.server.clone());
        let mut running = JoinSet::new();
        running.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that does not trust the certificate disconnects here.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await.unwrap();
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
                let _ = stream.shutdown().await;
            }
        });
        (port, running)
    }
}
