//! Sequential change detectors: accumulate the evidence of many hours, for small or slow
//! drift that lasts.
//!
//! A check compares one day with the training rows, finds nothing below its limits, and
//! has no memory. Here each hour is compared with earlier hours, and detectors accumulate
//! the differences. The outlier p-values themselves cannot be accumulated: all come from
//! one set of held-out rows, which never matches the scored rows exactly, so a bet on them
//! wins in the end although nothing changes.
//!
//! Instead, the rows of an hour are ranked among those of earlier hours and its own. These
//! ranks are independent of earlier ranks, whatever the distribution, as long as the rows
//! are exchangeable (Vovk, Gammerman and Shafer 2022, *Algorithmic learning in a random
//! world*, chapter 8). So each hour yields one number, z, nearly standard normal for any
//! number of rows, and the run length of each detector while nothing changes is known
//! beforehand. Rows are ranked among those of the same hour of the week, in UTC: daily and
//! weekly seasonality is no change. (A switch to or from summer time moves all habits by
//! an hour, and is a change.)
//!
//! Repeated scores of one customer are not exchangeable: many within an hour make false
//! alarms more frequent, the same ones week by week make them rarer.

pub mod adwin;
pub(crate) mod finding;
pub mod martingale;
pub mod page_hinkley;
pub mod ranks;

use serde::Serialize;

use crate::domain::drift::detectors::adwin::AdwinDetector;
use crate::domain::drift::detectors::martingale::ShiryaevRoberts;
use crate::domain::drift::detectors::page_hinkley::PageHinkley;
use crate::domain::drift::detectors::ranks::mann_whitney;
use crate::domain::model::P_VALUE_BINS;
use crate::domain::stats::special::{ln_normal_two_sided_tail, normal_cdf};
use crate::domain::time::{HOURS_PER_WEEK, MILLIS_PER_HOUR, Timestamp};

/// Average run length (ARL₀): least mean number of hours between false alarms of one
/// detector, so that all three together run for more than a year. It holds for the
/// martingale by theory; the constants of the others were found by simulation
/// (tests/bench/README.md).
pub const RUN_LENGTH_HOURS: f64 = 30_000.0;
/// Tolerated drift per step, in standard deviations of z.
pub const PAGE_HINKLEY_SLACK: f64 = 0.125;
pub const PAGE_HINKLEY_LIMIT: f64 = 30.0;
pub const ADWIN_DELTA: f64 = 0.1;

/// Scored rows of one hour, by bin of outlier p-values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HourlyPValues {
    pub at: Timestamp,
    pub counts: [u64; P_VALUE_BINS],
}

/// State of the detectors after the last complete hour.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DetectorReport {
    /// Number of hours that were compared with earlier ones.
    pub steps: usize,
    /// The first of these hours.
    pub since: Option<Timestamp>,
    /// log₁₀ of the test martingale against "nothing has changed". It falls while nothing
    /// changes, and rises while hours are far from earlier ones. It does not react to a
    /// change that is small in every hour.
    pub martingale_log10: f64,
    /// In the order of [`DetectionMethod::ALL`].
    pub detectors: [DetectorState; 3],
}

/// State of one detector, which restarts after an alarm.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DetectorState {
    pub name: DetectionMethod,
    /// An alarm is raised when the statistic reaches `limit`.
    pub statistic: f64,
    pub limit: f64,
    /// The hour of the last alarm.
    pub changed_at: Option<Timestamp>,
    /// Estimated hour of the change that raised this alarm.
    pub about_since: Option<Timestamp>,
}

/// Detection method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DetectionMethod {
    ShiryaevRoberts,
    PageHinkley,
    Adwin,
}

/// Limits of the statistics, in the order of [`DetectionMethod::ALL`].
const LIMITS: [f64; 3] = [RUN_LENGTH_HOURS, PAGE_HINKLEY_LIMIT, 1.0];

/// The last alarm of one detector.
#[derive(Clone, Copy)]
struct ChangeAlarm {
    raised_at: Timestamp,
    about_since: Timestamp,
}

/// The three running detectors.
#[derive(Debug, Clone)]
pub struct DetectorSet {
    bets: ShiryaevRoberts,
    page_hinkley: PageHinkley,
    adwin: AdwinDetector,
}

/// Compares each hour with the earlier ones of the same hour of the week; `hours` are in
/// ascending order.
///
/// An hour is tested only if it and its predecessors have at least `least_rows` rows each;
/// if not, it only adds to the pool for later hours.
pub fn run_detectors(hours: &[HourlyPValues], least_rows: u64) -> DetectorReport {
    let mut earlier = vec![[0_u64; P_VALUE_BINS]; HOURS_PER_WEEK as usize];
    let mut detectors = DetectorSet::default();
    let mut steps = Vec::new();
    let mut last: [Option<ChangeAlarm>; 3] = [None; 3];
    for HourlyPValues { at, counts } in hours {
        let pool = &mut earlier[hour_of_week(*at)];
        let is_enough = sum(counts) >= least_rows && sum(pool) >= least_rows;
        let z = is_enough.then(|| mann_whitney(pool, counts)).flatten();
        for (all, count) in pool.iter_mut().zip(counts) {
            *all = all.saturating_add(*count);
        }
        let Some(z) = z else { continue };
        steps.push(*at);
        for (last, steps_since_change) in last.iter_mut().zip(detectors.step(z)) {
            if let Some(count) = steps_since_change {
                let first = steps.len().saturating_sub(count.max(1));
                *last = Some(ChangeAlarm { raised_at: *at, about_since: steps[first] });
            }
        }
    }
    let statistics = detectors.statistics();
    DetectorReport {
        steps: steps.len(),
        since: steps.first().copied(),
        martingale_log10: detectors.bets.martingale_log10(),
        detectors: std::array::from_fn(|index| DetectorState {
            name: DetectionMethod::ALL[index],
            statistic: statistics[index],
            limit: LIMITS[index],
            changed_at: last[index].map(|alarm| alarm.raised_at),
            about_since: last[index].map(|alarm| alarm.about_since),
        }),
    }
}

impl DetectionMethod {
    pub const ALL: [Self; 3] = [Self::ShiryaevRoberts, Self::PageHinkley, Self::Adwin];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ShiryaevRoberts => "shiryaev_roberts",
            Self::PageHinkley => "page_hinkley",
            Self::Adwin => "adwin",
        }
    }

    pub const fn title(self) -> &'static str {
        match self {
            Self::ShiryaevRoberts => "Shiryaev-Roberts",
            Self::PageHinkley => "Page-Hinkley",
            Self::Adwin => "ADWIN",
        }
    }
}

impl DetectorState {
    /// Whether the last alarm was raised at `since` or later. An hour is tested after its
    /// end, so `changed_at` plus one hour counts.
    pub(crate) fn has_alarm_since(&self, since: Timestamp) -> bool {
        self.changed_at.is_some_and(|at| at.plus_millis(MILLIS_PER_HOUR) >= since)
    }
}

impl Default for DetectorSet {
    fn default() -> Self {
        Self {
            bets: ShiryaevRoberts::new(RUN_LENGTH_HOURS),
            page_hinkley: PageHinkley::new(PAGE_HINKLEY_SLACK, PAGE_HINKLEY_LIMIT, 1.0),
            adwin: AdwinDetector::new(ADWIN_DELTA),
        }
    }
}

impl DetectorSet {
    /// Feeds the next hour to each of [`DetectionMethod::ALL`]; returns for each alarm the number
    /// of steps since the change.
    pub fn step(&mut self, z: f64) -> [Option<usize>; 3] {
        [
            self.bets.step(ln_normal_two_sided_tail(z)).then(|| self.bets.since_change()),
            self.page_hinkley.step(z).then(|| self.page_hinkley.since_change()),
            self.adwin.step(normal_cdf(z)).then(|| self.adwin.since_change()),
        ]
    }

    /// The statistics in the order of [`DetectionMethod::ALL`].
    fn statistics(&self) -> [f64; 3] {
        [self.bets.statistic(), self.page_hinkley.statistic(), self.adwin.statistic()]
    }
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))
}

fn hour_of_week(at: Timestamp) -> usize {
    at.hour().rem_euclid(HOURS_PER_WEEK) as usize
}
