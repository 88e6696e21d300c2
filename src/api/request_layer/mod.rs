//! What every request passes, in one layer and in this order: request id and span,
//! count, authentication by the head, admission, time limit, handler. The answer carries
//! the id and the security headers, and a failure is logged with the id.

mod admission;
mod response;

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tower::{Layer, Service};
use tracing::Instrument;

use crate::api::{ApiError, ApiState};
use crate::service::{ServiceError, random};
use crate::telemetry::labels::RequestClass;
use crate::telemetry::{Metrics, Route};
use admission::Admission;
use response::{Holding, hold_until_sent, set_security_headers};

pub use admission::Capacities;
pub(crate) use admission::{Unidentified, Work};
pub(crate) use response::without_sniffing;

/// Declared by routes that answer every method.
pub(crate) const ANY_METHOD: &str = "<any>";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID_BYTES: usize = 128;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub request_timeout: Duration,
    pub capacities: Capacities,
}

/// Makes the layers; all share the capacities.
#[derive(Debug)]
pub struct Gate {
    metrics: Arc<Metrics>,
    request_timeout: Duration,
    admission: Arc<Admission>,
    id_prefix: Arc<str>,
}

impl Gate {
    pub fn new(metrics: Arc<Metrics>, limits: Limits) -> Result<Self, ServiceError> {
        let admission = Arc::new(Admission::new(limits.capacities, Arc::clone(&metrics)));
        let id_prefix = random::token::<4>()?.into();
        Ok(Self { metrics, request_timeout: limits.request_timeout, admission, id_prefix })
    }

    /// The layer of one route.
    pub(crate) fn layer(
        &self,
        state: &ApiState,
        path: &'static str,
        methods: &[&'static str],
        work: Work,
    ) -> prometheus::Result<GateLayer> {
        let routes = methods
            .iter()
            .map(|method| Ok((*method, self.metrics.http.route(path, method)?)))
            .collect::<prometheus::Result<Vec<_>>>()?;
        Ok(GateLayer(Arc::new(Passage {
            path,
            routes,
            work,
            state: state.clone(),
            metrics: Arc::clone(&self.metrics),
            request_timeout: self.request_timeout,
            admission: Arc::clone(&self.admission),
            id_prefix: Arc::clone(&self.id_prefix),
        })))
    }
}

#[derive(Debug)]
struct Passage {
    path: &'static str,
    routes: Vec<(&'static str, Route)>,
    work: Work,
    state: ApiState,
    metrics: Arc<Metrics>,
    request_timeout: Duration,
    admission: Arc<Admission>,
    id_prefix: Arc<str>,
}

impl Passage {
    /// Which of the route's metrics this method counts in. HEAD is answered as GET.
    fn route(&self, method: &Method) -> Option<usize> {
        let method = if method == Method::HEAD { "GET" } else { method.as_str() };
        self.routes.iter().position(|(known, _)| *known == method || *known == ANY_METHOD)
    }

    /// A method that the route does not take is answered 405, with or without a key.
    fn work(&self, route: Option<usize>) -> Work {
        if route.is_some() { self.work } else { Work::Public }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct GateLayer(Arc<Passage>);

#[derive(Debug, Clone)]
pub(crate) struct Gated<S> {
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

    fn call(&mut self, mut request: Request) -> Self::Future {
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
        let route = passage.route(request.method());
        let work = passage.work(route);
        let limit = TimeLimit {
            timeout: work.is_timed().then_some(passage.request_timeout),
            class: work.class(request.method()),
        };
        let in_flight = passage.metrics.http.begin();
        let admitted = passage.admission.admit(&passage.state, work, &mut request);
        let admitted = admitted.map(|permit| (permit, self.inner.call(request)));
        Box::pin(
            async move {
                let (mut response, permit) = match admitted {
                    Err(refusal) => (refusal.into_response(), None),
                    Ok((permit, handler)) => (limit.answer(handler).await, Some(permit)),
                };
                if let Some(cause) = response.extensions().get().and_then(ApiError::cause) {
                    cause.log(passage.path, id.to_str().unwrap_or_default());
                }
                response.headers_mut().insert(REQUEST_ID, id);
                set_security_headers(response.headers_mut());
                // Of a method that the route does not take, the first method's metrics count.
                if let Some((_, route)) = passage.routes.get(route.unwrap_or(0)) {
                    route.observe(response.status().as_u16(), started.elapsed());
                }
                tracing::debug!(status = response.status().as_u16(), "answered");
                let holding = Holding { _in_flight: in_flight, _permit: permit };
                Ok(hold_until_sent(response, holding))
            }
            .instrument(span),
        )
    }
}

/// The time limit of a request, and what a request of its class may have done by then.
#[derive(Debug, Clone, Copy)]
struct TimeLimit {
    timeout: Option<Duration>,
    class: RequestClass,
}

impl TimeLimit {
    /// The handler's answer; that it took too long, or that it panicked.
    async fn answer<R: IntoResponse>(
        self,
        handler: impl Future<Output = Result<R, Infallible>>,
    ) -> Response {
        let handler = AssertUnwindSafe(handler).catch_unwind();
        let done = match self.timeout {
            None => handler.await,
            Some(timeout) => match tokio::time::timeout(timeout, handler).await {
                Ok(done) => done,
                Err(_) => return self.expired(timeout).into_response(),
            },
        };
        match done {
            Ok(Ok(response)) => response.into_response(),
            // The panic itself has been logged, with its place.
            Err(_) => ApiError::from(ServiceError::internal("a handler panicked")).into_response(),
        }
    }

    /// The work goes on in its worker or its transaction after the caller stops waiting,
    /// so the answer claims nothing about it and says how to find out.
    fn expired(self, timeout: Duration) -> ApiError {
        let advice = match self.class {
            RequestClass::Ingestion | RequestClass::Unidentified => {
                "its outcome is unknown: the events may be stored or not. Send them again with \
                 the same message ids: an event with a known message id counts once"
            }
            RequestClass::Control | RequestClass::Stream => {
                "its outcome is unknown: the change may be made or not. Read the resource before \
                 sending the request again"
            }
            RequestClass::Scoring
            | RequestClass::Read
            | RequestClass::Health
            | RequestClass::Public => "it changes nothing and can be sent again",
        };
        let seconds = timeout.as_secs();
        ApiError::unavailable(&format!("the request took longer than {seconds} s; {advice}"), 1)
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
