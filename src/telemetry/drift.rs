//! How far what is scored has moved from what the live model was trained on.

use prometheus::{Gauge, GaugeVec, IntCounter, IntGaugeVec, Opts, Registry};

use super::process::seconds_since_1970;
use crate::domain::drift::{Method, Source, Stream};
use crate::domain::time::Timestamp;

/// As of the last look at what has been written down.
#[derive(Debug)]
pub struct Drift {
    psi: GaugeVec,
    findings: IntGaugeVec,
    /// Rows in the window that was looked at.
    scored: IntGaugeVec,
    martingale: GaugeVec,
    alarms: IntGaugeVec,
    pub customers: IntCounter,
    churn: GaugeVec,
    flushed: Gauge,
}

impl Drift {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let options = Opts::new(
            "segmentd_drift_psi",
            "Population stability index of a declared feature, from training to the last \
             drift.window_hours. Not shown where too little was scored to tell.",
        );
        let martingale = Opts::new(
            "segmentd_drift_martingale_log10",
            "What a bet against \"nothing has changed\" in each hour has made of 1, as a power of \
             ten: it falls while nothing changes, and rises while hours are far from earlier ones.",
        );
        let alarms = Opts::new(
            "segmentd_drift_detector_alarm",
            "1 while the last alarm of a detector is in the last drift.window_hours.",
        );
        let churn = Opts::new(
            "segmentd_segment_churn_ratio",
            "Share of customers who stand in another segment of the live model than \
             drift.window_hours ago, as of this hour. Not shown where nobody stood in one, and \
             where fewer have moved than are told of.",
        );
        let this = Self {
            psi: super::register(registry, GaugeVec::new(options, &["feature"])?)?,
            findings: by_source(
                registry,
                "segmentd_drift_findings",
                "What has drifted, after correction; `GET /v1/drift` says what.",
            )?,
            scored: by_source(
                registry,
                "segmentd_drift_scored_rows",
                "Rows scored by the live model in the last drift.window_hours.",
            )?,
            martingale: super::register(registry, GaugeVec::new(martingale, &["source"])?)?,
            alarms: super::register(registry, IntGaugeVec::new(alarms, &["source", "detector"])?)?,
            customers: super::counter(
                registry,
                "segmentd_drift_customers_total",
                "Stored customers that this process has drawn by the hour and compared with \
                 the training.",
            )?,
            churn: super::register(registry, GaugeVec::new(churn, &[])?)?,
            flushed: super::float_gauge(
                registry,
                "segmentd_drift_last_flush_timestamp_seconds",
                "When this process last wrote down what it had counted, in seconds since 1970.",
            )?,
        };
        for source in Source::ALL {
            this.show_stream(source, None, Timestamp::default());
        }
        Ok(this)
    }

    /// How a source stands.
    pub fn show_source(&self, source: Source, findings: usize, scored: u64) {
        let source = [source.name()];
        let findings = i64::try_from(findings).unwrap_or(i64::MAX);
        self.findings.with_label_values(&source).set(findings);
        self.scored.with_label_values(&source).set(i64::try_from(scored).unwrap_or(i64::MAX));
    }

    /// How the detectors of a source stand, and which of them have told of a change since.
    pub fn show_stream(&self, source: Source, stream: Option<&Stream>, since: Timestamp) {
        let martingale = stream.map_or(0.0, |stream| stream.martingale_log10);
        self.martingale.with_label_values(&[source.name()]).set(martingale);
        for (place, method) in Method::ALL.into_iter().enumerate() {
            let has_told = stream.is_some_and(|stream| stream.detectors[place].has_told(since));
            let labels = [source.name(), method.name()];
            self.alarms.with_label_values(&labels).set(has_told.into());
        }
    }

    /// This process has written down what it had counted.
    pub fn flushed_at(&self, now: Timestamp) {
        self.flushed.set(seconds_since_1970(now));
    }

    /// `None`: it cannot be told.
    pub fn show_churn(&self, churn: Option<f64>) {
        match churn {
            Some(churn) => self.churn.with_label_values::<&str>(&[]).set(churn),
            // Only fails where there was none.
            None => drop(self.churn.remove_label_values::<&str>(&[])),
        }
    }

    /// `None`: it cannot be told. The features of a process are declared in one file
    /// and stay the same, so their series are as few.
    pub fn show_psi(&self, feature: &str, psi: Option<f64>) {
        match psi {
            Some(psi) => self.psi.with_label_values(&[feature]).set(psi),
            // Only fails where there was none.
            None => drop(self.psi.remove_label_values(&[feature])),
        }
    }
}

/// 0 for every source, until somebody looks.
fn by_source(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGaugeVec> {
    let gauges = super::register(registry, IntGaugeVec::new(Opts::new(name, help), &["source"])?)?;
    for source in Source::ALL {
        gauges.with_label_values(&[source.name()]).set(0);
    }
    Ok(gauges)
}
