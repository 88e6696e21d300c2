//! The evidence of many hours, added up: what is small or slow, and lasts.
//!
//! A check compares a day with the training, finds nothing smaller than its limits,
//! and forgets. Here each hour is compared with earlier ones, and detectors add up what
//! they see. That cannot be done with the p-values themselves: all are read from one
//! set of held-out rows, which is never quite like what is scored, so that a bet on
//! them wins in the end though nothing changes. The ranks of an hour's rows among those
//! of earlier hours and its own are independent of the ranks before, however the rows
//! are distributed, as long as they are exchangeable (Vovk, Gammerman and Shafer 2022,
//! *Algorithmic learning in a random world*, chapter 8). So each hour gives one number,
//! z, nearly standard normal whatever the size of the hour, and it is known beforehand
//! how long each detector runs while nothing changes. Rows are ranked among those of
//! the same hour of the week, in UTC: habits of the day and the week are no change. (Where
//! clocks are set forward or back, all habits move by an hour: that is one.)
//!
//! Rows of one customer, scored again and again, are not exchangeable: many within an
//! hour make alarms more frequent, the same ones week by week make them rarer.

pub mod adwin;
pub(crate) mod finding;
pub mod martingale;
pub mod page_hinkley;
pub mod ranks;

use serde::Serialize;

use crate::domain::drift::detectors::adwin::Adwin;
use crate::domain::drift::detectors::martingale::ShiryaevRoberts;
use crate::domain::drift::detectors::page_hinkley::PageHinkley;
use crate::domain::drift::detectors::ranks::mann_whitney;
use crate::domain::drift::window::P_VALUE_BINS;
use crate::domain::stats::special::{ln_normal_beyond, normal_below};
use crate::domain::time::{HOURS_PER_WEEK, MILLIS_PER_HOUR, Timestamp};

/// Hours between false alarms of one detector, at least and on average, so that all
/// three together run for more than a year. The martingale keeps to it by its law; the
/// constants of the others were found by simulation (tests/bench/README.md).
pub const RUN_LENGTH_HOURS: f64 = 30_000.0;
/// In standard deviations of z.
pub const PAGE_HINKLEY_SLACK: f64 = 0.125;
pub const PAGE_HINKLEY_LIMIT: f64 = 30.0;
pub const ADWIN_DELTA: f64 = 0.1;

/// What was scored in one hour, by bin of p-values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hour {
    pub at: Timestamp,
    pub counts: [u64; P_VALUE_BINS],
}

/// How the detectors stand after the last whole hour.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stream {
    /// Hours that were compared with earlier ones.
    pub steps: usize,
    /// The first of them.
    pub since: Option<Timestamp>,
    /// What a bet against "nothing has changed" at each step has made of 1, as a power
    /// of ten: it falls while nothing changes, and rises while hours are far from earlier
    /// ones; a small change, hour by hour, it does not see.
    pub martingale_log10: f64,
    /// In the order of [`Method::ALL`].
    pub detectors: [Detector; 3],
}

/// One detector; after an alarm it begins anew.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Detector {
    pub name: Method,
    /// An alarm is raised where it reaches `limit`.
    pub statistic: f64,
    pub limit: f64,
    /// The hour of the last alarm.
    pub changed_at: Option<Timestamp>,
    /// From about which hour on there has been what that alarm tells of.
    pub about_since: Option<Timestamp>,
}

/// How a detector adds evidence up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    ShiryaevRoberts,
    PageHinkley,
    Adwin,
}

/// The detectors at work.
#[derive(Debug, Clone)]
pub struct Detectors {
    bets: ShiryaevRoberts,
    page_hinkley: PageHinkley,
    adwin: Adwin,
}

/// Compares each hour with earlier ones of the same hour of the week; oldest first.
/// Hours of fewer rows than `least_rows`, or with fewer before them, are only compared
/// with.
pub fn stream(hours: &[Hour], least_rows: u64) -> Stream {
    let mut earlier = vec![[0_u64; P_VALUE_BINS]; HOURS_PER_WEEK as usize];
    let mut detectors = Detectors::default();
    let mut steps = Vec::new();
    let mut last: [Option<(Timestamp, Timestamp)>; 3] = [None; 3];
    for Hour { at, counts } in hours {
        let pool = &mut earlier[hour_of_week(*at)];
        let enough = |counts: &[u64]| {
            counts.iter().fold(0, |sum: u64, one| sum.saturating_add(*one)) >= least_rows
        };
        let z = (enough(counts) && enough(pool)).then(|| mann_whitney(pool, counts)).flatten();
        for (all, count) in pool.iter_mut().zip(counts) {
            *all = all.saturating_add(*count);
        }
        let Some(z) = z else { continue };
        steps.push(*at);
        for (last, changed) in last.iter_mut().zip(detectors.step(z)) {
            if let Some(after) = changed {
                let first = steps.len().saturating_sub(after.max(1));
                *last = Some((*at, steps[first]));
            }
        }
    }
    let stand = detectors.stand();
    Stream {
        steps: steps.len(),
        since: steps.first().copied(),
        martingale_log10: detectors.bets.martingale_log10(),
        detectors: std::array::from_fn(|place| Detector {
            name: Method::ALL[place],
            statistic: stand[place].0,
            limit: stand[place].1,
            changed_at: last[place].map(|(changed, _)| changed),
            about_since: last[place].map(|(_, since)| since),
        }),
    }
}

impl Method {
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

impl Detector {
    /// Whether its last alarm is of `since` or later. An hour is told of when it is
    /// over, so that the one before counts.
    pub fn has_told(&self, since: Timestamp) -> bool {
        self.changed_at.is_some_and(|at| at.plus_millis(MILLIS_PER_HOUR) >= since)
    }
}

impl Default for Detectors {
    fn default() -> Self {
        Self {
            bets: ShiryaevRoberts::new(RUN_LENGTH_HOURS),
            page_hinkley: PageHinkley::new(PAGE_HINKLEY_SLACK, PAGE_HINKLEY_LIMIT, 1.0),
            adwin: Adwin::new(ADWIN_DELTA),
        }
    }
}

impl Detectors {
    /// Shows the next hour to each of [`Method::ALL`]; for those that raise an alarm, how
    /// many of the last steps are after the change.
    pub fn step(&mut self, z: f64) -> [Option<usize>; 3] {
        [
            self.bets.step(ln_normal_beyond(z)).then(|| self.bets.since_change()),
            self.page_hinkley.step(z).then(|| self.page_hinkley.since_change()),
            self.adwin.step(normal_below(z)).then(|| self.adwin.since_change()),
        ]
    }

    /// The statistic of each, and its limit.
    fn stand(&self) -> [(f64, f64); 3] {
        [
            (self.bets.statistic(), RUN_LENGTH_HOURS),
            (self.page_hinkley.statistic(), PAGE_HINKLEY_LIMIT),
            (self.adwin.statistic(), 1.0),
        ]
    }
}

fn hour_of_week(at: Timestamp) -> usize {
    at.hour().rem_euclid(HOURS_PER_WEEK) as usize
}
