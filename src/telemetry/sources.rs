//! Metrics of event sources, by ingestion endpoint.

use prometheus::{GaugeVec, IntGaugeVec, Opts};

use super::process::seconds_since_1970;
use crate::domain::event::source_volume::SourceStatus;
use crate::domain::time::Timestamp;
use crate::domain::wire::IngestionEndpoint;
use crate::telemetry::registry::MetricRegistry;

/// Source metrics, as of the last check of all replicas' counts.
#[derive(Debug)]
pub struct SourceMetrics {
    since_last: GaugeVec,
    status: IntGaugeVec,
}

impl SourceMetrics {
    pub(super) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        let since_last = Opts::new(
            "segmentd_source_last_event_age_seconds",
            "Time since the last new event at this endpoint. Absent after five weeks without an \
             event.",
        );
        let status = Opts::new(
            "segmentd_sources",
            "Sources of events (a key at an endpoint), by status; `GET /v1/sources` lists them.",
        );
        let status = registry.register(IntGaugeVec::new(status, &["status"])?)?;
        for one in SourceStatus::ALL {
            status.with_label_values(&[one.as_str()]).set(0);
        }
        let since_last = registry.register(GaugeVec::new(since_last, &["endpoint"])?)?;
        Ok(Self { since_last, status })
    }

    pub(crate) fn set_last_event(
        &self,
        endpoint: IngestionEndpoint,
        last_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        let label = [endpoint.as_str()];
        match last_at {
            Some(at) => {
                let age = seconds_since_1970(now) - seconds_since_1970(at);
                self.since_last.with_label_values(&label).set(age.max(0.0));
            }
            // The removal fails only if the series is absent.
            None => drop(self.since_last.remove_label_values(&label)),
        }
    }

    pub(crate) fn set_status_count(&self, status: SourceStatus, sources: usize) {
        let sources = i64::try_from(sources).unwrap_or(i64::MAX);
        self.status.with_label_values(&[status.as_str()]).set(sources);
    }
}
