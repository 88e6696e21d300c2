//! Whether promises were kept: counted, so that rates over any time tell how fast an
//! error budget is spent.

use std::sync::atomic::{AtomicI64, Ordering};

use prometheus::{GaugeVec, Opts, Registry};

use super::Counters;
use super::labels::{Labels as _, Objective};
use crate::domain::objective::Objectives as Targets;
use crate::domain::time::Timestamp;

const MILLIS_PER_MINUTE: i64 = 60_000;
const OBJECTIVES: usize = 5;

/// Requests, or minutes, in which each objective held, among all.
#[derive(Debug)]
pub struct Objectives {
    pub targets: Targets,
    good: Counters<Objective>,
    all: Counters<Objective>,
    /// The last minute that counted, by objective.
    minutes: [AtomicI64; OBJECTIVES],
}

impl Objectives {
    pub(super) fn new(registry: &Registry, targets: Targets) -> prometheus::Result<Self> {
        let options = Opts::new(
            "segmentd_objective_target",
            "Share of the requests or minutes in which an objective is to hold.",
        );
        let shown = super::register(registry, GaugeVec::new(options, &Objective::names())?)?;
        for objective in Objective::all() {
            let target = match objective {
                Objective::Availability => targets.availability,
                Objective::Latency => targets.latency,
                Objective::Freshness => targets.freshness,
                Objective::Calibration => targets.calibration,
                Objective::Stability => targets.stability,
            };
            shown.with_label_values(&objective.values()).set(target);
        }
        Ok(Self {
            targets,
            good: Counters::new(
                registry,
                "segmentd_objective_good_total",
                "Requests or minutes in which an objective held.",
            )?,
            all: Counters::new(
                registry,
                "segmentd_objective_total",
                "Requests (availability, latency) or minutes (freshness, calibration, \
                 stability) that an objective is about.",
            )?,
            minutes: [const { AtomicI64::new(i64::MIN) }; OBJECTIVES],
        })
    }

    /// One request.
    pub fn request(&self, objective: Objective, held: bool) {
        self.all.add(objective, 1);
        self.good.add(objective, u64::from(held));
    }

    /// However often a minute is looked at, it counts once, as it was at first.
    pub fn minute(&self, objective: Objective, now: Timestamp, held: bool) {
        let minute = now.millis().div_euclid(MILLIS_PER_MINUTE);
        let last = &self.minutes[objective.index()];
        if last.swap(minute, Ordering::Relaxed) != minute {
            self.request(objective, held);
        }
    }
}
