//! Instants as UTC milliseconds: arithmetic and text only, never "now".

use std::fmt;

use chrono::{DateTime, Datelike as _, Timelike as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub const MILLIS_PER_DAY: i64 = 86_400_000;
pub const MILLIS_PER_HOUR: i64 = MILLIS_PER_DAY / 24;
pub(crate) const HOURS_PER_WEEK: i64 = 7 * 24;
/// The years 0 to 9999 in UTC.
const RFC_3339_MILLIS: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

/// An instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Parses RFC 3339 / ISO 8601 with a zone: `2017-01-01T11:53:26Z`,
    /// `2017-01-01T11:53:26.5+02:00`. Finer than a millisecond is cut off. An instant outside of
    /// the years 0 to 9999 in UTC has no RFC 3339 form.
    pub fn parse(text: &str) -> Option<Self> {
        let millis = DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis();
        RFC_3339_MILLIS.contains(&millis).then_some(Self(millis))
    }

    /// The UTC day this instant falls in: whole days since 1970-01-01.
    pub const fn day(self) -> i64 {
        self.0.div_euclid(MILLIS_PER_DAY)
    }

    /// The UTC hour this instant falls in: whole hours since 1970-01-01T00.
    pub const fn hour(self) -> i64 {
        self.0.div_euclid(MILLIS_PER_HOUR)
    }

    /// Days from `earlier` to here, with fractions; negative when `earlier` is later.
    pub(crate) fn days_since(self, earlier: Self) -> f64 {
        (self.0 - earlier.0) as f64 / MILLIS_PER_DAY as f64
    }

    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// RFC 3339 in UTC with milliseconds: `2017-01-01T11:53:26.000Z`; outside of the years 0 to 9999 the
/// milliseconds since 1970.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Rfc3339::of(*self) {
            Some(text) => f.write_str(text.as_str()),
            // No RFC 3339 form.
            None => write!(f, "{}ms", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match Rfc3339::of(*self) {
            Some(text) => serializer.serialize_str(text.as_str()),
            None => serializer.collect_str(self),
        }
    }
}

/// An instant of the years 0 to 9999 as text, without an allocation: answers have several of each event.
struct Rfc3339([u8; 24]);

impl Rfc3339 {
    fn of(instant: Timestamp) -> Option<Self> {
        let is_representable = RFC_3339_MILLIS.contains(&instant.0);
        let time = DateTime::from_timestamp_millis(instant.0).filter(|_| is_representable)?;
        let year = u32::try_from(time.year()).ok()?;
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let mut write = |place: std::ops::Range<usize>, mut number: u32| {
            for digit in text[place].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        };
        write(0..4, year);
        write(5..7, time.month());
        write(8..10, time.day());
        write(11..13, time.hour());
        write(14..16, time.minute());
        write(17..19, time.second());
        write(20..23, time.timestamp_subsec_millis());
        Some(Self(text))
    }

    fn as_str(&self) -> &str {
        // Digits and separators only, so this never fails.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{text}` is not an RFC 3339 instant such as 2017-01-01T11:53:26Z"
            ))
        })
    }
}
