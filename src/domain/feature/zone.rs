//! Calendar days in a time zone of the IANA database, exact over changes of daylight saving
//! time.

use chrono::{DateTime, Offset as _, TimeZone as _};
use chrono_tz::Tz;

use crate::domain::time::{MILLIS_PER_DAY, Timestamp};

const MILLIS_PER_SECOND: i64 = 1000;
/// Upper bound of the distance between local time and UTC.
const MAX_OFFSET_MILLIS: i64 = MILLIS_PER_DAY;

/// The time zone of the days of a feature set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum DayZone {
    #[default]
    Utc,
    Named(Tz),
}

/// An instant with its calendar day.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalInstant {
    pub(super) millis: i64,
    /// Days since 1970-01-01 in local time.
    pub(super) day: i64,
    pub(super) zone: DayZone,
}

impl DayZone {
    /// Finds a zone by its IANA name, such as `Europe/London`.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name.parse().ok()? {
            Tz::UTC => Some(Self::Utc),
            zone => Some(Self::Named(zone)),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Utc => "UTC",
            Self::Named(zone) => zone.name(),
        }
    }

    pub(super) fn at(self, millis: i64) -> LocalInstant {
        LocalInstant { millis, day: self.day(millis), zone: self }
    }

    /// The calendar day of an instant: whole days since 1970-01-01.
    pub(super) fn day(self, millis: i64) -> i64 {
        millis.saturating_add(self.offset_millis(millis)).div_euclid(MILLIS_PER_DAY)
    }

    /// The first instant of a calendar day, or of the next one if the zone skipped the day.
    pub(super) fn day_start(self, day: i64) -> i64 {
        let midnight = day.saturating_mul(MILLIS_PER_DAY);
        if self == Self::Utc {
            return midnight;
        }
        let guess = midnight.saturating_sub(self.offset_millis(midnight));
        let guess = midnight.saturating_sub(self.offset_millis(guess));
        if self.day(guess) >= day && self.day(guess.saturating_sub(1)) < day {
            return guess;
        }
        // Midnight is skipped or occurs twice: bisect for the instant at which the day begins.
        let mut before = midnight.saturating_sub(MAX_OFFSET_MILLIS);
        let mut reached = midnight.saturating_add(MAX_OFFSET_MILLIS);
        while reached - before > 1 {
            let middle = before + (reached - before) / 2;
            if self.day(middle) >= day { reached = middle } else { before = middle }
        }
        reached
    }

    /// Local time minus UTC. Instants beyond the range of the calendar are read as UTC.
    fn offset_millis(self, millis: i64) -> i64 {
        let Self::Named(zone) = self else { return 0 };
        let Some(utc) = DateTime::from_timestamp_millis(millis) else { return 0 };
        let offset = zone.offset_from_utc_datetime(&utc.naive_utc());
        i64::from(offset.fix().local_minus_utc()) * MILLIS_PER_SECOND
    }
}

/// A place in the local week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain) struct LocalHour {
    /// 0 to 23.
    pub(in crate::domain) hour: usize,
    /// 0 for Monday, to 6.
    pub(in crate::domain) weekday: usize,
}

impl LocalInstant {
    pub(super) fn hour(self) -> LocalHour {
        const MILLIS_PER_HOUR: i64 = MILLIS_PER_DAY / 24;
        /// 1970-01-01 was a Thursday.
        const FIRST_WEEKDAY: i64 = 3;
        let local = self.millis.saturating_add(self.zone.offset_millis(self.millis));
        let hour = local.rem_euclid(MILLIS_PER_DAY) / MILLIS_PER_HOUR;
        let weekday = (self.day + FIRST_WEEKDAY).rem_euclid(7);
        LocalHour {
            hour: usize::try_from(hour).unwrap_or_default(),
            weekday: usize::try_from(weekday).unwrap_or_default(),
        }
    }

    pub(super) const fn timestamp(self) -> Timestamp {
        Timestamp::from_millis(self.millis)
    }

    /// The first instant of the oldest of the `days` days up to this one.
    pub(super) fn window_start_millis(self, days: i64) -> i64 {
        self.zone.day_start(self.day - days + 1)
    }
}
