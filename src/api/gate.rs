//! What every request passes, in one layer and in this order: request id and
//! span, count, concurrency limit, time limit, handler; the answer carries the
//! id, and a failure is logged with it.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tower::{Layer, Service};
use tracing::Instrument;

use crate::api::ApiError;
use crate::service::{ServiceError, random};
use crate::telemetry::{Metrics, Route};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID_BYTES: usize = 128;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub request_timeout: Duration,
    pub max_concurrent_requests: usize,
}

/// Makes the layers; all share one concurrency limit.
#[derive(Debug)]
pub struct Gate {
    metrics: Arc<Metrics>,
    limits: Limits,
    permits: Arc<Semaphore>,
    id_prefix: Arc<str>,
}

impl Gate {
    pub fn new(metrics: Arc<Metrics>, limits: Limits) -> Result<Self, ServiceError> {
        let permits = Arc::new(Semaphore::new(limits.max_concurrent_requests));
        let id_prefix = random::token::<4>()?.into();
        Ok(Self { metrics, limits, permits, id_prefix })
    }

    /// The layer of one route. A route that is not `timed` lasts as long as the
    /// other side takes.
    pub(super) fn layer(
        &self,
        path: &'static str,
        methods: &[&'static str],
        timed: bool,
    ) -> prometheus::Result<GateLayer> {
        let routes = methods
            .iter()
            .map(|method| Ok((*method, self.metrics.http.route(path, method)?)))
            .collect::<prometheus::Result<Vec<_>>>()?;
        Ok(GateLayer(Arc::new(Passage {
            path,
            routes,
            metrics: Arc::clone(&self.metrics),
            timeout: timed.then_some(self.limits.request_timeout),
            permits: Arc::clone(&self.permits),
            id_prefix: Arc::clone(&self.id_prefix),
        })))
    }
}

#[derive(Debug)]
struct Passage {
    path: &'static str,
    routes: Vec<(&'static str, Route)>,
    metrics: Arc<Metrics>,
    timeout: Option<Duration>,
    permits: Arc<Semaphore>,
    id_prefix: Arc<str>,
}

#[derive(Debug, Clone)]
pub(super) struct GateLayer(Arc<Passage>);

#[derive(Debug, Clone)]
pub(super) struct Gated<S> {
    inner: S,
    passage: Arc<Passage>,
}

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, passage: Arc::clone(&self.0) }
    }
}

impl<S> Service<Request> for Gated<S>
where
    S: Service<Request, Error = Infallible> + Clone + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let started = Instant::now();
        let passage = Arc::clone(&self.passage);
        let id = request_id(&request, &passage.id_prefix);
        // On request only: a span costs as much as scoring a row. What fails is
        // logged below with the same fields.
        let span = tracing::debug_span!(
            "request",
            method = request.method().as_str(),
            route = passage.path,
            id = id.to_str().unwrap_or_default(),
        );
        let route = passage.routes.iter().position(|(m, _)| *m == request.method().as_str());
        let permit = Arc::clone(&passage.permits).try_acquire_owned();
        let work = permit.is_ok().then(|| self.inner.call(request));
        Box::pin(
            async move {
                let in_flight = passage.metrics.http.begin();
                let mut response = match work {
                    None => {
                        passage.metrics.http.shed.inc();
                        ApiError::unavailable("too many requests in progress", 1).into_response()
                    }
                    Some(work) => answer(work, passage.timeout).await,
                };
                drop((in_flight, permit));
                if let Some(cause) = response.extensions().get().and_then(ApiError::cause) {
                    cause.log(passage.path, id.to_str().unwrap_or_default());
                }
                response.headers_mut().insert(REQUEST_ID, id);
                // A fallback route stands for every method.
                if let Some((_, route)) = passage.routes.get(route.unwrap_or(0)) {
                    route.observe(response.status().as_u16(), started.elapsed());
                }
                tracing::debug!(status = response.status().as_u16(), "answered");
                Ok(response)
            }
            .instrument(span),
        )
    }
}

/// The handler's answer; that it took too long, or that it panicked.
async fn answer<R: IntoResponse>(
    work: impl Future<Output = Result<R, Infallible>>,
    timeout: Option<Duration>,
) -> Response {
    let work = AssertUnwindSafe(work).catch_unwind();
    let done = match timeout {
        None => work.await,
        Some(timeout) => {
            let Ok(done) = tokio::time::timeout(timeout, work).await else {
                let detail = "the request took too long; what it began was undone";
                return ApiError::unavailable(detail, 1).into_response();
            };
            done
        }
    };
    match done {
        Ok(Ok(response)) => response.into_response(),
        // The panic itself has been logged, with its place.
        Err(_) => ApiError::from(ServiceError::internal("a handler panicked")).into_response(),
    }
}

/// The caller's id where it is usable, else a new one: what this start drew at
/// random, and a count. Asking the system for every id would cost a call each.
fn request_id(request: &Request, prefix: &str) -> HeaderValue {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let sent = request
        .headers()
        .get(&REQUEST_ID)
        .filter(|id| (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && id.to_str().is_ok());
    sent.cloned().unwrap_or_else(|| {
        let id = format!("{prefix}{:08x}", NEXT.fetch_add(1, Ordering::Relaxed));
        HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("unknown"))
    })
}
