//! An unreliable network: a proxy that loses responses and refuses requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

/// Of every four requests, the first reaches the server and its response is lost, and
/// the third is refused with 429; the others pass.
#[derive(Clone)]
pub(crate) struct LossyProxy {
    server: String,
    client: reqwest::Client,
    requests: Arc<AtomicUsize>,
}

impl LossyProxy {
    pub(crate) fn before(server: &str) -> Self {
        Self { server: server.to_owned(), client: reqwest::Client::new(), requests: Arc::default() }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Runs `client` against the proxy.
    pub(crate) async fn during<T>(&self, client: impl AsyncFnOnce(SocketAddr) -> T) -> T {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Router::new().fallback(pass).with_state(self.clone());
        tokio::select! {
            ended = axum::serve(listener, proxy).into_future() => panic!("{ended:?}"),
            done = client(address) => done,
        }
    }
}

async fn pass(State(flaky): State<LossyProxy>, request: Request) -> Response {
    let turn = flaky.requests.fetch_add(1, Ordering::Relaxed) % 4;
    if turn == 2 {
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response();
    }
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let url = format!("{}{}", flaky.server, parts.uri);
    let forward = flaky.client.request(parts.method, url).headers(parts.headers).body(body);
    let answer = forward.send().await.unwrap();
    if turn == 0 {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    *response.body_mut() = answer.bytes().await.unwrap().into();
    response
}
