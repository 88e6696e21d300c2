//! Middleware of every route, as one [`tower::Layer`]. In order: request id and span,
//! metrics, authentication by header, admission control, rate limits, time limit, handler. The
//! response has the request id and the security headers; the request is logged with the id.

mod admission;
mod log;
mod rate_limit;
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
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tower::{Layer, Service};
use tracing::Instrument;

use crate::api::{ApiError, ApiState};
use crate::domain::access::Principal;
use crate::service::{ServiceError, random};
use crate::telemetry::labels::RequestClass;
use crate::telemetry::{RouteMetrics, ServiceMetrics};
use admission::{AdmissionControl, RequestPermit};
use log::{FinishedRequest, RequestLog};
use rate_limit::RateLimitedResources;
use response::{ResponseGuard, guard_until_sent, set_security_headers};

pub use admission::RequestCapacities;
pub(crate) use admission::{RouteKind, UnidentifiedRequest};
pub(crate) use rate_limit::{ExpensiveRequests, RATE_LIMIT, RATE_LIMIT_POLICY};
pub(crate) use response::without_sniffing;

/// Method name in the metrics of a route that handles every method.
pub(crate) const ANY_METHOD: &str = "<any>";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Time limit and concurrency limits of requests, and the share of them that is logged.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    pub request_timeout: Duration,
    pub capacities: RequestCapacities,
    /// From 0 to 1; server errors are always logged.
    pub logged_share: f64,
}

/// Builds one layer for each route; all layers share the concurrency limits.
#[derive(Debug)]
pub struct RequestLayers {
    metrics: Arc<ServiceMetrics>,
    request_timeout: Duration,
    admission: Arc<AdmissionControl>,
    log: Arc<RequestLog>,
    id_prefix: Arc<str>,
}

impl RequestLayers {
    pub fn new(metrics: Arc<ServiceMetrics>, limits: RequestLimits) -> Result<Self, ServiceError> {
        let admission = Arc::new(AdmissionControl::new(limits.capacities, Arc::clone(&metrics)));
        let id_prefix = random::hex_token::<4>()?.into();
        let log = Arc::new(RequestLog::new(limits.logged_share));
        Ok(Self { metrics, request_timeout: limits.request_timeout, admission, log, id_prefix })
    }

    /// Builds the layer of one route and registers its metrics.
    pub(crate) fn layer(
        &self,
        state: &ApiState,
        path: Arc<str>,
        methods: &[&'static str],
        kind: RouteKind,
        expensive: ExpensiveRequests,
    ) -> prometheus::Result<RouteLayer> {
        let routes = methods
            .iter()
            .map(|method| Ok((*method, self.metrics.http.route(&path, method)?)))
            .collect::<prometheus::Result<Vec<_>>>()?;
        Ok(RouteLayer(Arc::new(RouteState {
            path,
            routes,
            kind,
            expensive,
            api_state: state.clone(),
            metrics: Arc::clone(&self.metrics),
            request_timeout: self.request_timeout,
            admission: Arc::clone(&self.admission),
            log: Arc::clone(&self.log),
            id_prefix: Arc::clone(&self.id_prefix),
        })))
    }
}

/// The state of one route's layer.
#[derive(Debug)]
struct RouteState {
    path: Arc<str>,
    routes: Vec<(&'static str, RouteMetrics)>,
    kind: RouteKind,
    expensive: ExpensiveRequests,
    api_state: ApiState,
    metrics: Arc<ServiceMetrics>,
    request_timeout: Duration,
    admission: Arc<AdmissionControl>,
    log: Arc<RequestLog>,
    id_prefix: Arc<str>,
}

impl RouteState {
    /// Index of the route's metrics for a method. HEAD counts as GET.
    fn metrics_index(&self, method: &Method) -> Option<usize> {
        let method = if method == Method::HEAD { "GET" } else { method.as_str() };
        self.routes.iter().position(|(known, _)| *known == method || *known == ANY_METHOD)
    }

    /// A method that the route does not support needs no key: the answer is 405.
    fn kind_of(&self, route: Option<usize>) -> RouteKind {
        if route.is_some() { self.kind } else { RouteKind::Public }
    }
}

/// The layer of one route.
#[derive(Debug, Clone)]
pub(crate) struct RouteLayer(Arc<RouteState>);

/// A handler inside its layer.
#[derive(Debug, Clone)]
pub(crate) struct RouteService<S> {
    inner: S,
    state: Arc<RouteState>,
}

impl<S> Layer<S> for RouteLayer {
    type Service = RouteService<S>;

    fn layer(&self, inner: S) -> RouteService<S> {
        RouteService { inner, state: Arc::clone(&self.0) }
    }
}

impl<S> Service<Request> for RouteService<S>
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
        let state = Arc::clone(&self.state);
        let id = request_id(&request, &state.id_prefix);
        // At debug level only: a span costs as much as scoring a row. The line at the end has
        // the same fields.
        let span = tracing::debug_span!(
            "request",
            method = request.method().as_str(),
            route = &*state.path,
            request_id = id.to_str().unwrap_or_default(),
        );
        let method = request.method().clone();
        let route = state.metrics_index(request.method());
        let kind = state.kind_of(route);
        let class = kind.class(request.method());
        let limit = TimeLimit { timeout: kind.is_timed().then_some(state.request_timeout), class };
        let admitted = state.admission.admit(&state.api_state, kind, &mut request);
        if admitted.as_ref().is_err_and(ApiError::is_unauthenticated) && may_have_new_key(&request)
        {
            request.extensions_mut().insert(KeysReloaded);
            let mut again = self.clone();
            return Box::pin(async move {
                state.api_state.api_keys.reload_for_unknown_key().await;
                again.call(request).await
            });
        }
        let in_flight = state.metrics.http.begin_request();
        let resources = RateLimitedResources {
            is_expensive: state.expensive.includes(request.method(), request.uri()),
            has_events: class == RequestClass::Ingestion,
        };
        // A refused request has a principal too if its key is valid.
        let principal = request.extensions().get::<Arc<Principal>>().cloned();
        let admitted = admitted.and_then(|permit| {
            resources.take(&state.api_state.rate_limits, principal.as_deref())?;
            Ok(permit)
        });
        let admitted = admitted.map(|permit| (permit, self.inner.call(request)));
        Box::pin(
            async move {
                let (mut response, permit) = match admitted {
                    Err(refusal) => (refusal.into_response(), None),
                    Ok((permit, handler)) => (limit.answer(handler).await, Some(permit)),
                };
                let (status, duration) = (response.status().as_u16(), started.elapsed());
                // An unsupported method counts in the metrics of the route's first method.
                if let Some((_, route)) = state.routes.get(route.unwrap_or(0)) {
                    route.record_response(status, duration);
                }
                // A key in the body is known only now.
                let principal =
                    principal.or_else(|| permit.as_ref().and_then(RequestPermit::principal));
                let finished = FinishedRequest {
                    method: method.as_str(),
                    route: &state.path,
                    status,
                    duration,
                    key_id: principal.as_ref().map(|principal| principal.key_id.as_str()),
                    request_id: id.to_str().unwrap_or_default(),
                    is_health_check: kind == RouteKind::Health,
                };
                state.log.record(&finished, response.extensions().get());
                response.headers_mut().insert(REQUEST_ID, id);
                resources.write_fields(
                    &state.api_state.rate_limits,
                    principal.as_deref(),
                    response.headers_mut(),
                );
                set_security_headers(response.headers_mut());
                let guard = ResponseGuard { _in_flight: in_flight, _permit: permit };
                Ok(guard_until_sent(response, guard))
            }
            .instrument(span),
        )
    }
}

/// Marks a request for which the keys have been reloaded.
#[derive(Debug, Clone, Copy)]
struct KeysReloaded;

/// Whether the key of an unauthenticated request may be newer than the loaded keys.
fn may_have_new_key(request: &Request) -> bool {
    request.headers().contains_key(AUTHORIZATION)
        && request.extensions().get::<KeysReloaded>().is_none()
}

/// The time limit of a request, and its class, which decides the advice after a timeout.
#[derive(Debug, Clone, Copy)]
struct TimeLimit {
    timeout: Option<Duration>,
    class: RequestClass,
}

impl TimeLimit {
    /// Runs the handler. Returns its response, 503 after the timeout, or 500 after a panic.
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
            // The panic hook has logged the message and the location.
            Err(_) => ApiError::from(ServiceError::internal("a handler panicked")).into_response(),
        }
    }

    /// The 503 of a request that took too long. Its worker or its transaction continues, so
    /// the outcome is unknown: the detail says how to find out or to retry safely.
    fn expired(self, timeout: Duration) -> ApiError {
        let advice = match self.class {
            RequestClass::Ingestion | RequestClass::Unidentified => {
                "its outcome is unknown: the events may or may not be stored. Send them again with \
                 the same message ids: an event with a known message id counts once"
            }
            RequestClass::Control | RequestClass::Stream => {
                "its outcome is unknown: the change may or may not be made. Read the resource before \
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

/// The client's `X-Request-Id` where it is usable. Otherwise a new id: a random prefix of
/// this process and a counter. A random id for each request would cost a system call.
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
