//! Metrics of the newest back-test.

use prometheus::{GaugeVec, Opts};

use crate::domain::train::backtest::BacktestReport;
use crate::telemetry::registry::MetricRegistry;

/// Figures of the back-test in the newest training run.
#[derive(Debug)]
pub struct BacktestMetrics {
    lift: GaugeVec,
    explained_share: GaugeVec,
}

impl BacktestMetrics {
    pub(crate) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        let lift = Opts::new(
            "segmentd_backtest_lift",
            "Outcome of the customers of a segment of earlier models over the days since, as a multiple of \
             that of all customers.",
        );
        let explained = Opts::new(
            "segmentd_backtest_explained_share",
            "Share of the variance of an outcome that the segments of earlier models explain.",
        );
        let of_segment = ["segment_id", "segment_name", "outcome", "horizon_days"];
        Ok(Self {
            lift: registry.register(GaugeVec::new(lift, &of_segment)?)?,
            explained_share: registry
                .register(GaugeVec::new(explained, &["outcome", "horizon_days"])?)?,
        })
    }

    /// Exports the figures of this back-test and of no other.
    pub(crate) fn set(&self, report: Option<&BacktestReport>) {
        self.lift.reset();
        self.explained_share.reset();
        for horizon in report.into_iter().flat_map(|report| &report.horizons) {
            let days = horizon.horizon_days.to_string();
            for outcome in &horizon.outcomes {
                let name = outcome.outcome.to_string();
                if let Some(share) = outcome.explained_share {
                    self.explained_share.with_label_values(&[&*name, &*days]).set(share);
                }
                for one in &outcome.segments {
                    if let Some(lift) = one.lift {
                        let labels = [&*one.segment.id, &*one.segment.name, &*name, &*days];
                        self.lift.with_label_values(&labels).set(lift);
                    }
                }
            }
        }
    }
}
