//! Metrics of drift: scored data against the training data of the active model.

use prometheus::{Gauge, GaugeVec, IntCounter, IntGaugeVec, Opts};

use super::process::seconds_since_1970;
use crate::domain::drift::{DetectionMethod, DetectorReport, ScoreSource};
use crate::domain::time::Timestamp;
use crate::telemetry::registry::MetricRegistry;

/// Drift metrics, as of the last drift check.
#[derive(Debug)]
pub struct DriftMetrics {
    psi: GaugeVec,
    findings: IntGaugeVec,
    /// Rows in the compared window.
    scored: IntGaugeVec,
    effective: GaugeVec,
    martingale: GaugeVec,
    alarms: IntGaugeVec,
    pub customers: IntCounter,
    churn: GaugeVec,
    flushed: Gauge,
}

impl DriftMetrics {
    pub(super) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        let options = Opts::new(
            "segmentd_drift_psi",
            "Population stability index of a feature, from training to the last \
             drift.window_hours. Absent while the window has too few rows.",
        );
        let effective = Opts::new(
            "segmentd_drift_effective_sample_size",
            "Number of independent rows that would estimate the segment sizes as precisely as the \
             rows of segmentd_drift_scored_rows, which are correlated within a customer, hour or \
             day.",
        );
        let martingale = Opts::new(
            "segmentd_drift_martingale_log10",
            "Logarithm to base 10 of the change detector's martingale: it falls while the data \
             does not change, and rises while hours differ from earlier ones.",
        );
        let alarms = Opts::new(
            "segmentd_drift_detector_alarm",
            "1 if the last alarm of a detector is within the last drift.window_hours, else 0.",
        );
        let churn = Opts::new(
            "segmentd_segment_churn_ratio",
            "Share of customers assigned to another segment of the active model than \
             drift.window_hours ago. Absent if no customer was assigned then, or if the number of \
             moved customers is too small to report.",
        );
        let this = Self {
            psi: registry.register(GaugeVec::new(options, &["feature"])?)?,
            findings: by_source(
                registry,
                "segmentd_drift_findings",
                "Significant drift findings after correction; `GET /v1/drift` lists them.",
            )?,
            scored: by_source(
                registry,
                "segmentd_drift_scored_rows",
                "Rows scored by the active model in the last drift.window_hours.",
            )?,
            effective: registry.register(GaugeVec::new(effective, &["source"])?)?,
            martingale: registry.register(GaugeVec::new(martingale, &["source"])?)?,
            alarms: registry.register(IntGaugeVec::new(alarms, &["source", "detector"])?)?,
            customers: super::counter(
                registry,
                "segmentd_drift_customers_total",
                "Stored customers sampled by this process and compared with the training data.",
            )?,
            churn: registry.register(GaugeVec::new(churn, &[])?)?,
            flushed: super::float_gauge(
                registry,
                "segmentd_drift_last_flush_timestamp_seconds",
                "Time at which this process last wrote its counts to the database, in seconds since \
                 1970.",
            )?,
        };
        for source in ScoreSource::ALL {
            this.set_detector_state(source, None, Timestamp::default());
            this.effective.with_label_values(&[source.name()]).set(0.0);
        }
        Ok(this)
    }

    /// Shows the number of findings of a source.
    pub(crate) fn set_source_findings(&self, source: ScoreSource, findings: usize) {
        let findings = i64::try_from(findings).unwrap_or(i64::MAX);
        self.findings.with_label_values(&[source.name()]).set(findings);
    }

    /// Shows the number of scored rows of a source, and their effective sample size.
    pub(crate) fn set_source_rows(&self, source: ScoreSource, scored: u64, effective: f64) {
        let source = [source.name()];
        self.scored.with_label_values(&source).set(i64::try_from(scored).unwrap_or(i64::MAX));
        self.effective.with_label_values(&source).set(effective);
    }

    /// Shows the state of a source's detectors; an alarm counts if it is not older than
    /// `since`.
    pub(crate) fn set_detector_state(
        &self,
        source: ScoreSource,
        stream: Option<&DetectorReport>,
        since: Timestamp,
    ) {
        let martingale = stream.map_or(0.0, |stream| stream.martingale_log10);
        self.martingale.with_label_values(&[source.name()]).set(martingale);
        for (place, method) in DetectionMethod::ALL.into_iter().enumerate() {
            let has_alarm =
                stream.is_some_and(|stream| stream.detectors[place].has_alarm_since(since));
            let labels = [source.name(), method.name()];
            self.alarms.with_label_values(&labels).set(has_alarm.into());
        }
    }

    /// Records that this process has written its counts to the database.
    pub(crate) fn set_last_flush(&self, now: Timestamp) {
        self.flushed.set(seconds_since_1970(now));
    }

    /// Shows the churn; `None` removes the series.
    pub(crate) fn set_churn_ratio(&self, churn: Option<f64>) {
        match churn {
            Some(churn) => self.churn.with_label_values::<&str>(&[]).set(churn),
            // The removal fails only if the series is absent.
            None => drop(self.churn.remove_label_values::<&str>(&[])),
        }
    }

    /// Shows the stability index of a feature; `None` removes the series. The number of series
    /// is bounded, because the features of a process are declared in one file and do not
    /// change.
    pub(crate) fn set_feature_psi(&self, feature: &str, psi: Option<f64>) {
        match psi {
            Some(psi) => self.psi.with_label_values(&[feature]).set(psi),
            // The removal fails only if the series is absent.
            None => drop(self.psi.remove_label_values(&[feature])),
        }
    }
}

/// A gauge per source, exported from the start as 0.
fn by_source(registry: &MetricRegistry, name: &str, help: &str) -> prometheus::Result<IntGaugeVec> {
    let gauges = registry.register(IntGaugeVec::new(Opts::new(name, help), &["source"])?)?;
    for source in ScoreSource::ALL {
        gauges.with_label_values(&[source.name()]).set(0);
    }
    Ok(gauges)
}
