//! Process metrics with the conventional names of Prometheus client libraries, so that existing
//! dashboards work.

use std::fs;

use prometheus::{IntGauge, IntGaugeVec, Opts};

use crate::domain::time::Timestamp;
use crate::telemetry::registry::MetricRegistry;

const STATUS: &str = "/proc/self/status";

/// Metrics read from `/proc` at each scrape; zero on systems without it.
#[derive(Debug)]
pub(crate) struct ProcessMetrics {
    resident_bytes: IntGauge,
    threads: IntGauge,
    open_files: IntGauge,
}

impl ProcessMetrics {
    pub(crate) fn new(registry: &MetricRegistry, started: Timestamp) -> prometheus::Result<Self> {
        let options = Opts::new("segmentd_build_info", "Always 1; the label is the version.");
        let build = registry.register(IntGaugeVec::new(options, &["version"])?)?;
        build.get_metric_with_label_values(&[env!("CARGO_PKG_VERSION")])?.set(1);
        crate::telemetry::float_gauge(
            registry,
            "process_start_time_seconds",
            "Start time of the process, in seconds since 1970.",
        )?
        .set(seconds_since_1970(started));
        Ok(Self {
            resident_bytes: crate::telemetry::gauge(
                registry,
                "process_resident_memory_bytes",
                "Resident memory of the process.",
            )?,
            threads: crate::telemetry::gauge(
                registry,
                "process_threads",
                "Threads of the process.",
            )?,
            open_files: crate::telemetry::gauge(
                registry,
                "process_open_fds",
                "Open files and sockets.",
            )?,
        })
    }

    pub(crate) fn update(&self) {
        let status = fs::read_to_string(STATUS).unwrap_or_default();
        self.resident_bytes.set(field(&status, "VmRSS:") * 1024);
        self.threads.set(field(&status, "Threads:"));
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.open_files.set(i64::try_from(open).unwrap_or(i64::MAX));
    }
}

/// The number after `name` in `/proc/self/status`; if it has a unit, it is kB.
fn field(status: &str, name: &str) -> i64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "exact for the next 285,000 years")]
pub(crate) fn seconds_since_1970(instant: Timestamp) -> f64 {
    instant.millis() as f64 / 1000.0
}

pub(crate) mod clock;
pub(crate) mod database;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_status_file() {
        let status = "Name:\tsegmentd\nVmRSS:\t   12345 kB\nThreads:\t7\n";
        assert_eq!(field(status, "VmRSS:"), 12_345);
        assert_eq!(field(status, "Threads:"), 7);
        assert_eq!(field(status, "VmHWM:"), 0);
    }
}
