//! Metrics of alerts, their notifications, and drift checks.

use prometheus::{Gauge, GaugeVec, Opts};

use super::LabelledCounters;
use super::labels::{ChannelKind, DeliveryOutcomeLabel};
use super::process::seconds_since_1970;
use crate::domain::alert::AlertTopic;
use crate::domain::drift::Severity;
use crate::domain::time::Timestamp;
use crate::telemetry::registry::MetricRegistry;

/// Alert metrics, from database state that all replicas share, as of the last poll.
#[derive(Debug)]
pub struct AlertMetrics {
    firing: GaugeVec,
    pub deliveries: LabelledCounters<(ChannelKind, DeliveryOutcomeLabel)>,
    oldest_waiting: Gauge,
    checked: Gauge,
}

impl AlertMetrics {
    pub(super) fn new(registry: &MetricRegistry) -> prometheus::Result<Self> {
        let options = Opts::new("segmentd_alerts_firing", "Alerts that are firing.");
        let this = Self {
            firing: registry.register(GaugeVec::new(options, &["topic", "severity"])?)?,
            deliveries: LabelledCounters::new(
                registry,
                "segmentd_alert_deliveries_total",
                "Attempts to deliver an alert notification, by channel type and outcome. A failed \
                 attempt is repeated; a dead one was the last.",
            )?,
            oldest_waiting: super::float_gauge(
                registry,
                "segmentd_alert_oldest_undelivered_seconds",
                "Age of the oldest undelivered notification; 0 if all are delivered.",
            )?,
            checked: super::float_gauge(
                registry,
                "segmentd_drift_last_check_timestamp_seconds",
                "Time of the last drift check of any replica, in seconds since 1970.",
            )?,
        };
        // Every series exists before the first alert.
        this.set_firing_alerts(std::iter::empty());
        Ok(this)
    }

    /// Sets the number of firing alerts by topic and severity; `firing` has one item per alert.
    pub(crate) fn set_firing_alerts(&self, firing: impl Iterator<Item = (AlertTopic, Severity)>) {
        let firing: Vec<_> = firing.collect();
        for topic in AlertTopic::ALL {
            for severity in Severity::ALL {
                let count = firing.iter().filter(|one| **one == (topic, severity)).count();
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                let labels = [topic.as_str(), severity.as_str()];
                self.firing.with_label_values(&labels).set(f64::from(count));
            }
        }
    }

    pub(crate) fn set_oldest_undelivered(&self, since: Option<Timestamp>, now: Timestamp) {
        let waiting =
            since.map_or(0.0, |since| seconds_since_1970(now) - seconds_since_1970(since));
        self.oldest_waiting.set(waiting.max(0.0));
    }

    pub(crate) fn set_last_drift_check(&self, at: Timestamp) {
        self.checked.set(seconds_since_1970(at));
    }
}
