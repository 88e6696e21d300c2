//! Metrics of client connections, by listener.

use prometheus::{IntGauge, IntGaugeVec, Opts};

use crate::telemetry::LabelledCounters;
use crate::telemetry::labels::{ConnectionClosure, ConnectionRefusal, LabelSet as _, ListenerName};
use crate::telemetry::registry::MetricRegistry;

/// Client connections to the listeners of this process.
#[derive(Debug)]
pub struct ConnectionMetrics {
    open: IntGaugeVec,
    limit: IntGaugeVec,
    /// New connections that were closed immediately.
    pub refused: LabelledCounters<(ListenerName, ConnectionRefusal)>,
    /// Connections closed by this process instead of by the client.
    pub closed: LabelledCounters<(ListenerName, ConnectionClosure)>,
}

/// An open connection, counted until the value is dropped.
#[derive(Debug)]
pub struct OpenConnection(IntGauge);

impl ConnectionMetrics {
    pub(crate) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        Ok(Self {
            open: gauges(registry, "segmentd_connections", "Open client connections.")?,
            limit: gauges(
                registry,
                "segmentd_connections_limit",
                "Maximum open connections of a listener.",
            )?,
            refused: LabelledCounters::new(
                registry,
                "segmentd_connections_refused_total",
                "New connections that were closed immediately because of a limit.",
            )?,
            closed: LabelledCounters::new(
                registry,
                "segmentd_connections_closed_total",
                "Connections that were closed because of a timeout, or evicted for a new one.",
            )?,
        })
    }

    pub(crate) fn open(&self, listener: ListenerName) -> OpenConnection {
        let gauge = self.open.with_label_values(&listener.values());
        gauge.inc();
        OpenConnection(gauge)
    }

    pub(crate) fn set_limit(&self, listener: ListenerName, connections: usize) {
        let connections = i64::try_from(connections).unwrap_or(i64::MAX);
        self.limit.with_label_values(&listener.values()).set(connections);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A gauge per listener, exported from the start.
fn gauges(registry: &MetricRegistry, name: &str, help: &str) -> prometheus::Result<IntGaugeVec> {
    let family = IntGaugeVec::new(Opts::new(name, help), &ListenerName::names())?;
    let family = registry.register(family)?;
    for listener in ListenerName::all() {
        family.get_metric_with_label_values(&listener.values())?;
    }
    Ok(family)
}
