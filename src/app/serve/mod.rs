//! HTTP server of a listener, with connection limits and timeouts.
//!
//! `axum::serve` has neither; this module replaces its accept loop. Each connection is a
//! task of its own, driven by hyper. Dropping the server's future ends them all.

mod activity;
mod connections;
mod descriptors;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::api::PeerAddress;
use crate::api::guarded_body::GuardedBody;
use crate::api::state::Readiness;
use crate::config::{AppConfig, ConnectionLimits};
use crate::domain::text::plain_os_error;
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::ListenerName;
use crate::telemetry::repeated_failures::count_failure;
use activity::{ClientStream, ConnectionActivity};
use connections::{ConnectionSlot, OpenConnections};

/// Largest request head, and the read-ahead limit of a body; bounds the memory of a
/// connection.
const MAX_BUFFER_BYTES: usize = 64 * 1024;
/// Pause after an `accept` error of the server itself, such as no free descriptor.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(100);

/// A listener with its router.
#[derive(Debug)]
pub(super) struct HttpServer {
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    readiness: Readiness,
    connections: Arc<OpenConnections>,
}

/// The limits of both listeners, within those of the operating system. Raises the process
/// limit on open files.
pub(super) fn limits(config: &AppConfig) -> (ConnectionLimits, ConnectionLimits) {
    let within = descriptors::connections_within(descriptors::raise_limit(), config);
    let configured = config.http.connections;
    let api = ConnectionLimits { max_connections: within, ..configured };
    let admin = ConnectionLimits { max_connections: config.admin.max_connections, ..configured };
    (api, admin)
}

impl HttpServer {
    pub(super) fn new(
        name: ListenerName,
        listener: TcpListener,
        router: Router,
        limits: ConnectionLimits,
        readiness: Readiness,
        metrics: &Arc<ServiceMetrics>,
    ) -> Self {
        let connections = OpenConnections::new(name, limits.max_connections, Arc::clone(metrics));
        Self { listener, router, limits, readiness, connections: Arc::new(connections) }
    }

    /// Serves until `stopped` is cancelled; then stops accepting, and ends after the requests
    /// in progress.
    pub(super) async fn run(self, stopped: CancellationToken) {
        let Self { listener, router, limits, readiness, connections } = self;
        // Not a `TaskTracker`: dropping this future aborts the connections.
        let mut running = JoinSet::new();
        let mut is_stopped = pin!(stopped.cancelled());
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = running.join_next() => continue,
                () = &mut is_stopped => break,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    after_failed_accept(&error).await;
                    continue;
                }
            };
            let peer = PeerAddress::new(address.ip());
            match connections.admit(peer.network()) {
                Ok(slot) => {
                    let readiness = readiness.clone();
                    let connection = ClientConnection { slot, peer, limits, readiness };
                    running.spawn(connection.run(stream, router.clone(), stopped.clone()));
                }
                Err(reason) => {
                    let refused = &connections.metrics.connections.refused;
                    refused.add((connections.listener, reason), 1);
                }
            }
        }
        // From now on the operating system refuses new clients.
        drop(listener);
        while running.join_next().await.is_some() {}
    }
}

/// Logs and pauses, unless the client disconnected during the handshake, which is no
/// failure.
async fn after_failed_accept(error: &std::io::Error) {
    use std::io::ErrorKind as Kind;
    let kinds = [Kind::ConnectionRefused, Kind::ConnectionAborted, Kind::ConnectionReset];
    if !kinds.contains(&error.kind()) {
        let reason = plain_os_error(error);
        if let Some(repeated) = count_failure("accept", &reason) {
            tracing::error!(error = reason, "a connection could not be accepted{repeated}");
        }
        tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
    }
}

/// One connection.
struct ClientConnection {
    slot: ConnectionSlot,
    peer: PeerAddress,
    limits: ConnectionLimits,
    readiness: Readiness,
}

impl ClientConnection {
    async fn run(self, stream: TcpStream, router: Router, stopped: CancellationToken) {
        let Self { slot, peer, limits, readiness } = self;
        let connections = Arc::clone(slot.connections());
        let _open = connections.metrics.connections.open(connections.listener);
        send_at_once(&stream);
        let activity = Arc::clone(&slot.activity);
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let in_progress = RequestGuard::begin(&activity);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let answer = router.clone().call(request);
            let readiness = &readiness;
            async move {
                let mut response = answer.await?;
                if !readiness.is_serving() {
                    // The client opens its next connection to another replica, instead of
                    // sending a request into a connection that is about to be closed.
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(response.map(|body| GuardedBody::new(body, in_progress)))
            }
        });
        let io = TokioIo::new(ClientStream::new(stream, Arc::clone(&activity)));
        // `ConnectionActivity` implements the timeouts: hyper's own do not distinguish an idle
        // connection from a slow request head.
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_buf_size(MAX_BUFFER_BYTES)
            .serve_connection(io, service);
        let mut connection = pin!(connection);
        let mut next_check = pin!(tokio::time::sleep(Duration::ZERO));
        let mut is_stopped = pin!(stopped.cancelled());
        let mut is_stopping = false;
        loop {
            tokio::select! {
                biased;
                ended = &mut connection => {
                    if let Err(error) = ended {
                        tracing::trace!(%error, "connection failed");
                    }
                    return;
                }
                () = &mut next_check => match activity.check(&limits) {
                    Ok(at) => next_check.as_mut().reset(at.into()),
                    Err(reason) => {
                        connections.metrics.connections.closed.add((connections.listener, reason), 1);
                        return;
                    }
                },
                () = activity.evicted.notified() => {
                    if activity.waiting_since().is_some() {
                        return;
                    }
                    // A request has arrived since the eviction: it is still answered.
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut is_stopped, if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Sets `TCP_NODELAY`. With Nagle's algorithm (RFC 896) each piece of a streamed response
/// would wait until the client acknowledges the previous one.
fn send_at_once(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set: responses to this client may be delayed");
    }
}

/// A request in progress, until this guard is dropped.
struct RequestGuard(Arc<ConnectionActivity>);

impl RequestGuard {
    fn begin(activity: &Arc<ConnectionActivity>) -> Self {
        activity.begin_request();
        Self(Arc::clone(activity))
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.end_request();
    }
}
