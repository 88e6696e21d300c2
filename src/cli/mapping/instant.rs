//! Times as text: ISO 8601 and RFC 3339, epochs, Excel serial numbers, strftime formats; and
//! local times in a time zone of the IANA database.

use chrono::format::{Item, Parsed, StrftimeItems, parse};
use chrono::{
    Duration, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, Offset as _, TimeZone as _,
};
use chrono_tz::Tz;
use serde::Deserialize;

use super::iso::{ParsedTime, parse_iso};

/// Milliseconds of a day.
const MILLIS_PER_DAY: f64 = 86_400_000.0;

/// Days from 1899-12-30, day 0 of Excel, to 1970-01-01.
const EXCEL_EPOCH_DAYS: f64 = 25_569.0;
/// Excel counts a 1900-02-29 that never was; serial numbers before it are ambiguous.
const FIRST_EXCEL_DAY: f64 = 61.0;
/// The year 9999 in Excel.
const LAST_EXCEL_DAY: f64 = 2_958_466.0;

/// Choice for local times that a time zone has twice or not at all, as `disambiguation` of
/// ECMAScript's Temporal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Disambiguation {
    /// The earlier one of two; after a gap as if the clock had not changed.
    #[default]
    Compatible,
    Earlier,
    Later,
    Reject,
}

/// How a time is written.
#[derive(Debug, Clone)]
enum InstantFormat {
    Iso,
    /// Units per second.
    Epoch {
        per_second: i64,
    },
    Excel,
    Strftime {
        items: Vec<Item<'static>>,
        text: String,
    },
}

/// Formats of a timestamp column, tried in order, and the zone of local times.
#[derive(Debug, Clone)]
pub(super) struct TimestampFormat {
    formats: Vec<InstantFormat>,
    zone: Option<Tz>,
    disambiguation: Disambiguation,
}

impl TimestampFormat {
    pub(super) fn new(
        formats: &[String],
        zone: Option<&str>,
        disambiguation: Disambiguation,
    ) -> Result<Self, String> {
        let zone = match zone {
            None => None,
            Some(name) => Some(name.parse::<Tz>().map_err(|_| {
                format!("timezone: {name:?} is not a time zone of the IANA database, such as \"Europe/London\" or \"UTC\"")
            })?),
        };
        let mut parsed = Vec::new();
        for format in formats {
            parsed.push(InstantFormat::new(format, zone.is_some())?);
        }
        if parsed.is_empty() {
            parsed.push(InstantFormat::Iso);
        }
        Ok(Self { formats: parsed, zone, disambiguation })
    }

    /// Milliseconds since 1970. The error is the broken rule.
    pub(super) fn parse(&self, text: &str) -> Result<i64, String> {
        let mut parsed = None;
        for format in &self.formats {
            parsed = parsed.or_else(|| format.parse(text));
        }
        match parsed {
            Some(ParsedTime::Instant(millis)) => Ok(millis),
            Some(ParsedTime::Local(time)) => self.resolve(time),
            Some(ParsedTime::Date(date)) => {
                let midnight = date.and_time(NaiveTime::MIN);
                match self.zone {
                    Some(_) => self.resolve(midnight),
                    None => Ok(midnight.and_utc().timestamp_millis()),
                }
            }
            None => {
                let formats: Vec<String> =
                    self.formats.iter().map(InstantFormat::description).collect();
                Err(format!("is not {}; set `timestamp_format`", formats.join(", nor ")))
            }
        }
    }

    fn resolve(&self, time: NaiveDateTime) -> Result<i64, String> {
        let Some(zone) = self.zone else { return Err(NO_ZONE.to_owned()) };
        let millis = time.and_utc().timestamp_millis();
        let offsets = match zone.offset_from_local_datetime(&time) {
            LocalResult::Single(offset) => {
                return Ok(millis - i64::from(offset.fix().local_minus_utc()) * 1000);
            }
            LocalResult::Ambiguous(one, other) => [one, other],
            // The offsets before and after the gap.
            LocalResult::None => {
                let day = Duration::days(1);
                [
                    zone.offset_from_utc_datetime(&time.checked_add_signed(day).unwrap_or(time)),
                    zone.offset_from_utc_datetime(&time.checked_sub_signed(day).unwrap_or(time)),
                ]
            }
        };
        let is_gap = matches!(zone.offset_from_local_datetime(&time), LocalResult::None);
        let mut instants =
            offsets.map(|offset| millis - i64::from(offset.fix().local_minus_utc()) * 1000);
        instants.sort_unstable();
        match self.disambiguation {
            Disambiguation::Earlier => Ok(instants[0]),
            Disambiguation::Later => Ok(instants[1]),
            Disambiguation::Compatible => Ok(if is_gap { instants[1] } else { instants[0] }),
            Disambiguation::Reject if is_gap => {
                Err(format!("does not exist in {zone}: the clock skips it"))
            }
            Disambiguation::Reject => Err(format!("occurs twice in {zone}: the clock is set back")),
        }
    }
}

const NO_ZONE: &str = "has no time zone; set `timezone`, such as \"Europe/London\" or \"UTC\"";

impl InstantFormat {
    fn new(text: &str, has_zone: bool) -> Result<Self, String> {
        let per_second = match text {
            "rfc3339" => return Ok(Self::Iso),
            "excel" if has_zone => return Ok(Self::Excel),
            "excel" => return Err(format!("timestamp_format \"excel\" {NO_ZONE}")),
            "epoch-seconds" => 1,
            "epoch-milliseconds" => 1000,
            "epoch-microseconds" => 1_000_000,
            "epoch-nanoseconds" => 1_000_000_000,
            _ => return Self::strftime(text, has_zone),
        };
        Ok(Self::Epoch { per_second })
    }

    fn strftime(text: &str, has_zone: bool) -> Result<Self, String> {
        if !text.contains('%') {
            return Err(format!(
                "timestamp_format {text:?} must be \"rfc3339\", \"epoch-seconds\", \
                 \"epoch-milliseconds\", \"epoch-microseconds\", \"epoch-nanoseconds\", \
                 \"excel\", or a strftime format such as \"%d/%m/%Y %H:%M\""
            ));
        }
        let items = StrftimeItems::new(text).parse_to_owned();
        let items =
            items.map_err(|_| format!("timestamp_format {text:?} is not a strftime format"))?;
        let mentions_zone = ["%z", "%:z", "%#z", "%::z", "%+", "%s"];
        if !has_zone && !mentions_zone.iter().any(|code| text.contains(code)) {
            return Err(format!("timestamp_format {text:?} {NO_ZONE}"));
        }
        Ok(Self::Strftime { items, text: text.to_owned() })
    }

    fn description(&self) -> String {
        match self {
            Self::Iso => "an RFC 3339 time such as 2017-01-01T11:53:26Z".to_owned(),
            Self::Epoch { per_second: 1 } => "a number of seconds since 1970".to_owned(),
            Self::Epoch { per_second: 1000 } => "a number of milliseconds since 1970".to_owned(),
            Self::Epoch { per_second: 1_000_000 } => {
                "a number of microseconds since 1970".to_owned()
            }
            Self::Epoch { .. } => "a number of nanoseconds since 1970".to_owned(),
            Self::Excel => "a serial date number of Excel".to_owned(),
            Self::Strftime { text, .. } => format!("a time as {text:?}"),
        }
    }

    fn parse(&self, text: &str) -> Option<ParsedTime> {
        match self {
            Self::Iso => parse_iso(text),
            Self::Epoch { per_second } => epoch(text, *per_second).map(ParsedTime::Instant),
            Self::Excel => excel(text).map(ParsedTime::Local),
            Self::Strftime { items, .. } => strftime(text, items),
        }
    }
}

fn epoch(text: &str, per_second: i64) -> Option<i64> {
    if let Ok(units) = text.parse::<i64>() {
        return if per_second >= 1000 {
            Some(units.div_euclid(per_second / 1000))
        } else {
            units.checked_mul(1000 / per_second)
        };
    }
    let units: f64 = text.parse().ok()?;
    let nanos_per_unit = i32::try_from(1_000_000_000 / per_second).ok()?;
    whole_millis(units * f64::from(nanos_per_unit) / 1e6)
}

fn excel(text: &str) -> Option<NaiveDateTime> {
    let days: f64 = text.parse().ok()?;
    if !(FIRST_EXCEL_DAY..LAST_EXCEL_DAY).contains(&days) {
        return None;
    }
    let millis = whole_millis((days - EXCEL_EPOCH_DAYS) * MILLIS_PER_DAY)?;
    chrono::DateTime::from_timestamp_millis(millis).map(|time| time.naive_utc())
}

/// Rounds to whole milliseconds within the years that a date can have.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn whole_millis(millis: f64) -> Option<i64> {
    (millis.abs() < 8.2e15).then(|| millis.round() as i64)
}

fn strftime(text: &str, items: &[Item<'static>]) -> Option<ParsedTime> {
    let mut parsed = Parsed::new();
    parse(&mut parsed, text, items.iter()).ok()?;
    if let Ok(instant) = parsed.to_datetime() {
        return Some(ParsedTime::Instant(instant.timestamp_millis()));
    }
    if let Some(seconds) = parsed.timestamp() {
        return seconds.checked_mul(1000).map(ParsedTime::Instant);
    }
    let date: NaiveDate = parsed.to_naive_date().ok()?;
    // A format without a time of day means midnight.
    let has_time = parsed.hour_mod_12().is_some() || parsed.hour_div_12().is_some();
    let time = if has_time { parsed.to_naive_time().ok()? } else { NaiveTime::MIN };
    let local = date.and_time(time);
    Some(match parsed.offset() {
        Some(offset) => ParsedTime::Instant(
            local.and_utc().timestamp_millis().checked_sub(i64::from(offset) * 1000)?,
        ),
        None => ParsedTime::Local(local),
    })
}
