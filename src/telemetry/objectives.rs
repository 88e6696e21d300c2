//! Metrics of service-level objectives: counters from which the error budget's burn rate over
//! any period can be computed.

use std::sync::atomic::{AtomicI64, Ordering};

use prometheus::{GaugeVec, Opts};

use super::LabelledCounters;
use super::labels::{LabelSet as _, ObjectiveName};
use crate::domain::objective::ObjectiveTargets as Targets;
use crate::domain::time::Timestamp;
use crate::telemetry::registry::MetricRegistry;

const MILLIS_PER_MINUTE: i64 = 60_000;
const OBJECTIVES: usize = 5;

/// Requests or minutes in which each objective was met, and their totals.
#[derive(Debug)]
pub struct ObjectiveMetrics {
    pub targets: Targets,
    good: LabelledCounters<ObjectiveName>,
    all: LabelledCounters<ObjectiveName>,
    /// The last counted minute, by objective.
    minutes: [AtomicI64; OBJECTIVES],
}

impl ObjectiveMetrics {
    pub(super) fn new(registry: &MetricRegistry, targets: Targets) -> prometheus::Result<Self> {
        let options = Opts::new(
            "segmentd_objective_target",
            "Target share of the requests or minutes in which an objective is met.",
        );
        let shown = registry.register(GaugeVec::new(options, &ObjectiveName::names())?)?;
        for objective in ObjectiveName::all() {
            let target = match objective {
                ObjectiveName::Availability => targets.availability,
                ObjectiveName::Latency => targets.latency,
                ObjectiveName::Freshness => targets.freshness,
                ObjectiveName::Calibration => targets.calibration,
                ObjectiveName::Stability => targets.stability,
            };
            shown.with_label_values(&objective.values()).set(target);
        }
        Ok(Self {
            targets,
            good: LabelledCounters::new(
                registry,
                "segmentd_objective_good_total",
                "Requests or minutes in which an objective was met.",
            )?,
            all: LabelledCounters::new(
                registry,
                "segmentd_objective_total",
                "Requests (availability, latency) or minutes (freshness, calibration, stability) \
                 that count for an objective.",
            )?,
            minutes: [const { AtomicI64::new(i64::MIN) }; OBJECTIVES],
        })
    }

    /// Counts one request.
    pub(crate) fn record_request(&self, objective: ObjectiveName, held: bool) {
        self.all.add(objective, 1);
        self.good.add(objective, u64::from(held));
    }

    /// Counts one minute. Only the first result of each minute counts.
    pub(crate) fn record_minute(&self, objective: ObjectiveName, now: Timestamp, held: bool) {
        let minute = now.millis().div_euclid(MILLIS_PER_MINUTE);
        let last = &self.minutes[objective.index()];
        if last.swap(minute, Ordering::Relaxed) != minute {
            self.record_request(objective, held);
        }
    }
}
