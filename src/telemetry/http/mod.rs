//! Metrics of API requests.

pub(crate) mod connections;
pub(crate) mod limits;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
};

use super::labels::{BodyTimeout, ObjectiveName, RequestClass, ShedReason};
use super::{LabelledCounters, ObjectiveMetrics};
use crate::telemetry::registry::MetricRegistry;

/// Buckets from 0.1 ms, the time of a stateless score, to the time limit of a request. Three or
/// four buckets per decade limit the error of a quantile to a factor of 2.5. The unit is
/// fractional seconds, because whole milliseconds would show every score as zero.
const SECONDS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0, 30.0,
];

/// Status codes of server errors start here.
const FAILURE: u16 = 500;
/// Status codes have three digits and start at 100.
const FIRST_STATUS: u16 = 100;
const STATUSES: usize = 500;

/// Request metrics of all routes.
#[derive(Debug)]
pub struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGauge,
    objectives: Arc<ObjectiveMetrics>,
    /// Requests answered 503 before their work started.
    pub shed: LabelledCounters<(RequestClass, ShedReason)>,
    /// Requests answered 408 because their body did not arrive.
    pub body_timeouts: LabelledCounters<BodyTimeout>,
}

impl HttpMetrics {
    pub(crate) fn new(
        registry: &MetricRegistry,
        objectives: &Arc<ObjectiveMetrics>,
    ) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new("segmentd_http_requests_total", "Answered requests."),
            &["route", "method", "status"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "segmentd_http_request_duration_seconds",
                "Time from the head of the request to the head of the response.",
            )
            .buckets(SECONDS.to_vec()),
            &["route"],
        )?;
        Ok(Self {
            requests: registry.register(requests)?,
            seconds: registry.register(seconds)?,
            in_flight: crate::telemetry::gauge(
                registry,
                "segmentd_http_requests_in_flight",
                "Requests in progress, including responses that are still being sent.",
            )?,
            objectives: Arc::clone(objectives),
            shed: LabelledCounters::new(
                registry,
                "segmentd_http_requests_shed_total",
                "Requests refused because the capacity of their class was in use.",
            )?,
            body_timeouts: LabelledCounters::new(
                registry,
                "segmentd_http_body_timeouts_total",
                "Requests answered 408 because their body arrived too slowly.",
            )?,
        })
    }

    /// The metrics of one route, identified by its declared path (`/v1/customers/{customer_id}`) and
    /// method. They are resolved when the router is built, not per request.
    pub fn route(&self, path: &str, method: &str) -> prometheus::Result<RouteMetrics> {
        Ok(RouteMetrics {
            labels: [path.to_owned(), method.to_owned()],
            requests: self.requests.clone(),
            by_status: (0..STATUSES).map(|_| OnceLock::new()).collect(),
            seconds: self.seconds.get_metric_with_label_values(&[path])?,
            objectives: Arc::clone(&self.objectives),
            // The fallback route of undeclared paths answers 404 to every request, and counts
            // for no objective.
            counts_for_availability: path.starts_with('/'),
            counts_for_latency: path == "/v1/score" || path.ends_with("/infer"),
        })
    }

    /// Counts a request as in progress until the value is dropped.
    pub fn begin_request(&self) -> InFlightRequest {
        self.in_flight.inc();
        InFlightRequest(self.in_flight.clone())
    }
}

/// A request in progress.
#[derive(Debug)]
pub struct InFlightRequest(IntGauge);

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The metrics of one route.
#[derive(Debug)]
pub struct RouteMetrics {
    labels: [String; 2],
    requests: IntCounterVec,
    /// Counters by status code minus [`FIRST_STATUS`]. A counter is created when its status
    /// first occurs, because the statuses of a route are not known in advance.
    by_status: Box<[OnceLock<IntCounter>]>,
    seconds: Histogram,
    objectives: Arc<ObjectiveMetrics>,
    counts_for_availability: bool,
    counts_for_latency: bool,
}

impl RouteMetrics {
    /// Records a response.
    pub fn record_response(&self, status: u16, elapsed: Duration) {
        self.seconds.observe(elapsed.as_secs_f64());
        let answered = status < FAILURE;
        if self.counts_for_availability {
            self.objectives.record_request(ObjectiveName::Availability, answered);
        }
        if self.counts_for_latency {
            let is_quick = elapsed.as_secs_f64() <= self.objectives.targets.latency_seconds;
            self.objectives.record_request(ObjectiveName::Latency, answered && is_quick);
        }
        let index = usize::from(status.saturating_sub(FIRST_STATUS));
        if let Some(counter) = self.by_status.get(index) {
            counter.get_or_init(|| self.counter(status)).inc();
        }
    }

    fn counter(&self, status: u16) -> IntCounter {
        let [path, method] = &self.labels;
        self.requests.with_label_values(&[path.as_str(), method, &status.to_string()])
    }
}
