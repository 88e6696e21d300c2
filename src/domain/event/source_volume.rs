//! Volume monitoring of an event source: the event count of an hour against its usual count,
//! and detection of a silent source.
//!
//! The usual count is the median of the same hour in the previous weeks, so that one bad week
//! changes nothing; with too few weeks, of the same hour on the previous days. Hourly counts
//! vary more than a Poisson distribution allows, so a negative binomial distribution is used.
//! Its overdispersion is estimated from the hours of the last week, each against its own usual
//! count.

use std::collections::BTreeMap;

use crate::domain::stats::{quantile, sorted, special};
use crate::domain::time::{HOURS_PER_WEEK, MILLIS_PER_HOUR, Timestamp};

const HOURS_PER_DAY: i64 = 24;
const DAYS_PER_WEEK: i64 = 7;
/// Previous weeks from which the usual count is computed.
const WEEKS: i64 = 4;
/// Days of history needed: the hours of the last week, each with its own previous weeks.
pub(crate) const HISTORY_DAYS: i64 = 7 * (WEEKS + 1) + 1;
/// Minimum number of hours for a median.
const LEAST_HOURS: usize = 3;
/// Minimum number of hours to estimate the overdispersion.
const LEAST_RESIDUALS: usize = 24;
/// Assumed overdispersion if there are too few hours: a standard deviation of half of the
/// count.
const UNKNOWN_SPREAD: f64 = 0.25;
/// Minimum overdispersion, where counts seem to be the same each week: a standard deviation of
/// a tenth of the count.
const LEAST_SPREAD: f64 = 0.01;
/// Factor from median absolute deviation to standard deviation for a normal distribution (1 /
/// Φ⁻¹(3/4)).
const FROM_MEDIAN_DISTANCE: f64 = 1.4826;

/// Thresholds for the alerts of a source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SourceVolumeRules {
    /// Minimum time from first to last event before a source is monitored. A sender that sends
    /// once is not a source that can go silent.
    pub min_history_hours: u32,
    /// Minimum factor above or below the usual count, …
    pub ratio: f64,
    /// … and maximum p-value.
    pub max_p_value: f64,
    /// An hour with a lower usual count is never reported as low.
    pub min_usual_events: u32,
    /// A source is silent after this multiple of its usual longest gap, …
    pub silence_gap_factor: f64,
    /// … but not sooner than this.
    pub min_silence_millis: i64,
}

/// Events of a source in one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourlyEvents {
    pub events: u64,
    /// The longest gap between two events that ended in this hour.
    pub longest_gap_millis: i64,
}

/// Event history of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceHistory {
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// Key: hours since 1970. Hours without events are left out.
    pub hours: BTreeMap<i64, HourlyEvents>,
}

/// Status of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceStatus {
    /// The history is too short for a judgement.
    Learning,
    Usual,
    Silent,
    High,
    Low,
}

/// The event count of one hour against its usual count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HourlyVolume {
    /// Start of the hour.
    pub hour: Timestamp,
    pub events: u64,
    /// `None` while the history is too short.
    pub usual: Option<f64>,
    /// Two-sided p-value of the count.
    pub p_value: Option<f64>,
}

/// Assessment of a source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SourceAssessment {
    pub status: SourceStatus,
    /// The last complete hour, which is judged.
    pub last_hour: HourlyVolume,
    /// The current hour, which is not judged.
    pub this_hour: HourlyVolume,
    /// The usual longest gap between two events.
    pub usual_gap_millis: Option<i64>,
    /// The source is silent if no event arrives by this instant.
    pub silent_at: Option<Timestamp>,
}

impl SourceStatus {
    pub const ALL: [Self; 5] = [Self::Learning, Self::Usual, Self::Silent, Self::High, Self::Low];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Learning => "learning",
            Self::Usual => "usual",
            Self::Silent => "silent",
            Self::High => "high",
            Self::Low => "low",
        }
    }
}

/// Assesses the source at `now`. Counts are complete up to `counted_until`.
pub fn assess_source(
    past: &SourceHistory,
    counted_until: Timestamp,
    now: Timestamp,
    rules: &SourceVolumeRules,
) -> SourceAssessment {
    let (last, this) = (counted_until.hour() - 1, now.hour());
    let learnt = past.first_at.plus_millis(i64::from(rules.min_history_hours) * MILLIS_PER_HOUR);
    let is_learnt = past.last_at >= learnt;
    let usual_gap = past.usual_gap_millis().filter(|_| is_learnt);
    let silent_at = usual_gap.map(|gap| {
        let patience = (gap as f64 * rules.silence_gap_factor) as i64;
        past.last_at.plus_millis(patience.max(rules.min_silence_millis))
    });
    let last_hour = past.volume(last);
    let status = match (silent_at, last_hour.usual, last_hour.p_value) {
        _ if !is_learnt => SourceStatus::Learning,
        (Some(silent_at), ..) if now >= silent_at => SourceStatus::Silent,
        (_, Some(usual), Some(p_value)) if p_value <= rules.max_p_value => {
            let (events, least) = (last_hour.events as f64, f64::from(rules.min_usual_events));
            if events >= rules.ratio * usual.max(least) {
                SourceStatus::High
            } else if usual >= least && events <= usual / rules.ratio {
                SourceStatus::Low
            } else {
                SourceStatus::Usual
            }
        }
        _ => SourceStatus::Usual,
    };
    SourceAssessment {
        status,
        last_hour,
        this_hour: HourlyVolume { p_value: None, ..past.volume(this) },
        usual_gap_millis: usual_gap,
        silent_at,
    }
}

fn start_of_hour(hour: i64) -> Timestamp {
    Timestamp::from_millis(hour * MILLIS_PER_HOUR)
}

fn median(values: &[f64]) -> f64 {
    quantile(&sorted(values), 0.5)
}

impl SourceHistory {
    /// Drops the history after `now`: it was written by a wrong clock.
    #[must_use]
    pub fn truncated_at(mut self, now: Timestamp) -> Self {
        if self.last_at > now {
            self.hours.retain(|hour, _| *hour <= now.hour());
            let last_hour = self.hours.last_key_value().map(|(hour, _)| *hour);
            self.last_at = last_hour.map_or(now, |hour| start_of_hour(hour + 1).min(now));
            self.first_at = self.first_at.min(self.last_at);
        }
        self
    }

    fn events(&self, hour: i64) -> f64 {
        self.hours.get(&hour).map_or(0.0, |sent| sent.events as f64)
    }

    fn volume(&self, hour: i64) -> HourlyVolume {
        let events = self.events(hour);
        let usual = self.usual(hour);
        let p_value = usual.map(|usual| {
            // Where the usual count is 0, a few events are not significant.
            let (mean, size) = (usual.max(1.0), 1.0 / self.overdispersion(hour));
            let tail = if events > usual {
                special::negative_binomial_upper_tail(events, mean, size)
            } else {
                special::negative_binomial_cdf(events, mean, size)
            };
            (2.0 * tail).min(1.0)
        });
        HourlyVolume { hour: start_of_hour(hour), events: events as u64, usual, p_value }
    }

    /// The median of the same hour in the previous weeks, or on the previous days.
    fn usual(&self, hour: i64) -> Option<f64> {
        self.median_of_previous(hour, HOURS_PER_WEEK, WEEKS)
            .or_else(|| self.median_of_previous(hour, HOURS_PER_DAY, DAYS_PER_WEEK))
    }

    /// The median of the hours before `hour` at intervals of `step` hours, of at most `steps`.
    fn median_of_previous(&self, hour: i64, step: i64, steps: i64) -> Option<f64> {
        // The first hour is incomplete.
        let first = self.first_at.hour() + 1;
        let mut events = Vec::new();
        for back in 1..=steps {
            let previous = hour - back * step;
            if previous >= first {
                events.push(self.events(previous));
            }
        }
        (events.len() >= LEAST_HOURS).then(|| median(&events))
    }

    /// Overdispersion: the variance of an hour's count beyond Poisson's, relative to the square
    /// of the count.
    fn overdispersion(&self, hour: i64) -> f64 {
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
        let deviation = FROM_MEDIAN_DISTANCE * median(&distances);
        (deviation * deviation - median(&chances)).max(LEAST_SPREAD)
    }

    /// The longest gap of a week, up to the last event. Of several weeks the median is taken
    /// (the upper one), so that one outage does not make the next one usual.
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
