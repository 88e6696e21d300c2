//! How much a source of events sends beside what it usually sends at this hour of the
//! week, and whether it has gone quiet.
//!
//! What is usual is the median of the same hour in the weeks before, so that one bad
//! week changes nothing; while there are too few weeks, of the same hour in the days
//! before. Counts of an hour vary more than Poisson's law lets them: by how much, the
//! last week's hours tell, each beside what was usual for it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::stats::{quantile, sorted, special};
use crate::domain::time::{HOURS_PER_WEEK, MILLIS_PER_HOUR, Timestamp};

/// Weeks that are looked back on for what is usual.
const WEEKS: i64 = 4;
/// So much of the past is needed: the hours of the last week, each with its own weeks.
pub const HISTORY_DAYS: i64 = 7 * (WEEKS + 1) + 1;
/// Of fewer hours a median says little.
const LEAST_HOURS: usize = 3;
/// Hours needed to tell how much counts vary.
const LEAST_RESIDUALS: usize = 24;
/// Relative variance beyond Poisson's where it cannot be told: half of the count.
const UNKNOWN_SPREAD: f64 = 0.25;
/// And where counts seem to be the same each week: a tenth of the count.
const LEAST_SPREAD: f64 = 0.01;
/// Of a normal deviate: from the median distance to the standard deviation.
const FROM_MEDIAN_DISTANCE: f64 = 1.4826;

/// From when on a source is told of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// A source of which less is known, from its first event to its last, is only got to
    /// know: who sends once is no source that can go quiet.
    pub learn_hours: u32,
    /// So many times as much as usual, or as little…
    pub ratio: f64,
    /// …and not more probable than this by chance.
    pub level: f64,
    /// Hours in which fewer are usual cannot be short of events.
    pub least_events: u32,
    /// Quiet for so many times the longest gap that is usual…
    pub quiet_factor: f64,
    /// …and at least for so long.
    pub least_quiet_millis: i64,
}

/// What a source sent in one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub events: u64,
    /// The longest time without an event that ended in this hour.
    pub longest_gap_millis: i64,
}

/// What is known of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// By hours since 1970; hours without events are left out.
    pub hours: BTreeMap<i64, Sent>,
}

/// How a source stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is too new to tell.
    Learning,
    Usual,
    Quiet,
    More,
    Less,
}

/// One hour beside what is usual.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Volume {
    /// When the hour began.
    pub hour: Timestamp,
    pub events: u64,
    /// `None`: it cannot be told yet.
    pub usual: Option<f64>,
    /// How probable so many, or so few, are by chance.
    pub p_value: Option<f64>,
}

/// What is made of a source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assessment {
    pub status: Status,
    /// The hour that is judged, the last whole one.
    pub last_hour: Volume,
    /// The hour in progress, not judged.
    pub this_hour: Volume,
    /// The longest gap that is usual.
    pub usual_gap_millis: Option<i64>,
    /// Without an event by then it is quiet.
    pub quiet_at: Option<Timestamp>,
}

impl Status {
    pub const ALL: [Self; 5] = [Self::Learning, Self::Usual, Self::Quiet, Self::More, Self::Less];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Learning => "learning",
            Self::Usual => "usual",
            Self::Quiet => "quiet",
            Self::More => "more",
            Self::Less => "less",
        }
    }
}

/// How the source stands at `now`, when everything is known that came until `known`.
pub fn assess(past: &Past, (known, now): (Timestamp, Timestamp), rules: &Rules) -> Assessment {
    let (last, this) = (known.hour() - 1, now.hour());
    let learnt = past.first_at.plus_millis(i64::from(rules.learn_hours) * MILLIS_PER_HOUR);
    let is_learnt = past.last_at >= learnt;
    let usual_gap = past.usual_gap_millis().filter(|_| is_learnt);
    let quiet_at = usual_gap.map(|gap| {
        let patience = (gap as f64 * rules.quiet_factor) as i64;
        past.last_at.plus_millis(patience.max(rules.least_quiet_millis))
    });
    let last_hour = past.volume(last);
    let status = match (quiet_at, last_hour.usual, last_hour.p_value) {
        _ if !is_learnt => Status::Learning,
        (Some(quiet_at), ..) if now >= quiet_at => Status::Quiet,
        (_, Some(usual), Some(p_value)) if p_value <= rules.level => {
            let (events, least) = (last_hour.events as f64, f64::from(rules.least_events));
            if events >= rules.ratio * usual.max(least) {
                Status::More
            } else if usual >= least && events <= usual / rules.ratio {
                Status::Less
            } else {
                Status::Usual
            }
        }
        _ => Status::Usual,
    };
    Assessment {
        status,
        last_hour,
        this_hour: Volume { p_value: None, ..past.volume(this) },
        usual_gap_millis: usual_gap,
        quiet_at,
    }
}

impl Past {
    /// What was sent until `now`: what came later came by a clock that was wrong.
    #[must_use]
    pub fn until(mut self, now: Timestamp) -> Self {
        if self.last_at > now {
            self.hours.retain(|hour, _| *hour <= now.hour());
            let end = |hour: i64| Timestamp::from_millis((hour + 1) * MILLIS_PER_HOUR);
            let last = self.hours.last_key_value().map(|(hour, _)| end(*hour).min(now));
            self.last_at = last.unwrap_or(now);
            self.first_at = self.first_at.min(self.last_at);
        }
        self
    }

    fn events(&self, hour: i64) -> f64 {
        self.hours.get(&hour).map_or(0.0, |sent| sent.events as f64)
    }

    fn volume(&self, hour: i64) -> Volume {
        let events = self.events(hour);
        let usual = self.usual(hour);
        let p_value = usual.map(|usual| {
            // Where nothing is usual, a few are no wonder.
            let (mean, size) = (usual.max(1.0), 1.0 / self.spread(hour));
            let tail = if events > usual {
                special::negative_binomial_above(events, mean, size)
            } else {
                special::negative_binomial_below(events, mean, size)
            };
            (2.0 * tail).min(1.0)
        });
        let begins = Timestamp::from_millis(hour * MILLIS_PER_HOUR);
        Volume { hour: begins, events: events as u64, usual, p_value }
    }

    /// The median of the same hour in the weeks before, or in the days before.
    fn usual(&self, hour: i64) -> Option<f64> {
        // The first hour is not whole.
        let first = self.first_at.hour() + 1;
        let before = |step: i64, steps: i64| -> Option<f64> {
            let hours = (1..=steps).map(|back| hour - back * step).filter(|hour| *hour >= first);
            let events = sorted(&hours.map(|hour| self.events(hour)).collect::<Vec<_>>());
            (events.len() >= LEAST_HOURS).then(|| quantile(&events, 0.5))
        };
        before(HOURS_PER_WEEK, WEEKS).or_else(|| before(24, 7))
    }

    /// The variance of an hour relative to its square, beyond Poisson's.
    fn spread(&self, hour: i64) -> f64 {
        let judged = (hour - HOURS_PER_WEEK..hour)
            .filter_map(|hour| Some((self.events(hour), self.usual(hour)?)))
            .filter(|(_, usual)| *usual >= 1.0);
        let (mut distances, mut chances) = (Vec::new(), Vec::new());
        for (events, usual) in judged {
            distances.push((events - usual).abs() / usual);
            chances.push(1.0 / usual);
        }
        if distances.len() < LEAST_RESIDUALS {
            return UNKNOWN_SPREAD;
        }
        let median = |values: &[f64]| quantile(&sorted(values), 0.5);
        let deviation = FROM_MEDIAN_DISTANCE * median(&distances);
        (deviation * deviation - median(&chances)).max(LEAST_SPREAD)
    }

    /// The longest gap of a week, up to the last event; of several weeks the one in the
    /// middle or the next longer, so that one that was an outage does not make the next
    /// one usual.
    fn usual_gap_millis(&self) -> Option<i64> {
        let last = self.last_at.hour();
        let mut weeks: BTreeMap<i64, i64> = BTreeMap::new();
        for (hour, sent) in &self.hours {
            let week = (last - hour).div_euclid(HOURS_PER_WEEK);
            if (0..WEEKS).contains(&week) {
                let longest = weeks.entry(week).or_default();
                *longest = (*longest).max(sent.longest_gap_millis);
            }
        }
        let mut longest: Vec<i64> = weeks.into_values().collect();
        longest.sort_unstable();
        longest.get(longest.len() / 2).copied()
    }
}
