//! Metrics of the database: availability, restarts of the private server, and free disk space.

use crate::telemetry::registry::MetricRegistry;
use prometheus::{GaugeVec, IntCounter, IntGauge, Opts};

/// Label value of the only monitored volume.
const VOLUME: &str = "private_postgres";

/// Database metrics.
#[derive(Debug)]
pub struct DatabaseMetrics {
    /// 1 while Postgres answers.
    pub up: IntGauge,
    /// Restarts of the private server after an unexpected exit.
    pub restarts: IntCounter,
    free_bytes: GaugeVec,
    free_ratio: GaugeVec,
}

impl DatabaseMetrics {
    pub(crate) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        let up = crate::telemetry::gauge(
            registry,
            "segmentd_database_up",
            "1 if Postgres answered the last check, else 0; checked every second.",
        )?;
        // The process connects and migrates before it serves requests.
        up.set(1);
        Ok(Self {
            up,
            restarts: crate::telemetry::counter(
                registry,
                "segmentd_private_postgres_restarts_total",
                "Attempts to restart the private Postgres after an unexpected exit.",
            )?,
            free_bytes: volume_gauge(
                registry,
                "segmentd_disk_free_bytes",
                "Free bytes for unprivileged accounts on the disk of the private Postgres; absent \
                 with an external database.",
            )?,
            free_ratio: volume_gauge(
                registry,
                "segmentd_disk_free_ratio",
                "Free share of the disk of the private Postgres, from 0 to 1; absent with an external \
                 database.",
            )?,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "a disk has far fewer than 2^53 bytes")]
    pub(crate) fn set_disk_space(&self, free_bytes: u64, total_bytes: u64) {
        let free_ratio = free_bytes as f64 / total_bytes.max(1) as f64;
        self.free_bytes.with_label_values(&[VOLUME]).set(free_bytes as f64);
        self.free_ratio.with_label_values(&[VOLUME]).set(free_ratio);
    }
}

fn volume_gauge(registry: &MetricRegistry, name: &str, help: &str) -> prometheus::Result<GaugeVec> {
    registry.register(GaugeVec::new(Opts::new(name, help), &["volume"])?)
}
