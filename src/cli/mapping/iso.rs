//! Times as ISO 8601, RFC 3339, Postgres, `BigQuery`, Snowflake and Shopify write them.
//!
//! A zone is `Z`, `UTC`, `GMT`, `+01`, `+0100` or `+01:00`, after an optional blank. A date
//! alone is midnight UTC, as in the API, unless a time zone is declared.

use chrono::{NaiveDate, NaiveDateTime};

/// A parsed time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParsedTime {
    /// Milliseconds since 1970.
    Instant(i64),
    Local(NaiveDateTime),
    Date(NaiveDate),
}

/// Text that is read from its start.
struct TimeScanner<'a> {
    rest: &'a [u8],
}

pub(super) fn parse_iso(text: &str) -> Option<ParsedTime> {
    let mut scanner = TimeScanner { rest: text.trim().as_bytes() };
    let year = scanner.digits(4)?;
    scanner.mark(b'-')?;
    let month = scanner.digits(2)?;
    scanner.mark(b'-')?;
    let day = scanner.digits(2)?;
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    if scanner.rest.is_empty() {
        return Some(ParsedTime::Date(date));
    }
    let separators = scanner.skip(|byte| matches!(byte, b'T' | b't' | b' '));
    if separators == 0 {
        return None;
    }
    let hour = scanner.digits(2)?;
    scanner.mark(b':')?;
    let minute = scanner.digits(2)?;
    let (mut second, mut millis) = (0, 0);
    if scanner.mark(b':').is_some() {
        second = scanner.digits(2)?;
        if scanner.mark(b'.').is_some() || scanner.mark(b',').is_some() {
            millis = scanner.millis()?;
        }
    }
    // A leap second counts as the second before it.
    let local = date.and_hms_milli_opt(hour, minute, second.min(59), millis)?;
    let is_leap = second == 60;
    (second <= 59 || is_leap).then_some(())?;
    scanner.skip(|byte| byte == b' ');
    scanner.zone(local)
}

impl TimeScanner<'_> {
    fn digits(&mut self, count: usize) -> Option<u32> {
        let digits = self.rest.get(..count)?;
        let mut number = 0;
        for digit in digits {
            number = number * 10 + u32::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        }
        self.rest = &self.rest[count..];
        Some(number)
    }

    fn mark(&mut self, mark: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[mark])?;
        Some(())
    }

    fn skip(&mut self, is_skipped: fn(u8) -> bool) -> usize {
        let count = self.rest.iter().take_while(|byte| is_skipped(**byte)).count();
        self.rest = &self.rest[count..];
        count
    }

    /// Digits of a fraction of a second; finer than a millisecond is cut off.
    fn millis(&mut self) -> Option<u32> {
        let fraction = self.rest;
        let count = self.skip(|byte| byte.is_ascii_digit());
        if count == 0 {
            return None;
        }
        let mut millis = 0;
        let digits = fraction[..count].iter().copied().chain([b'0'; 3]);
        for digit in digits.take(3) {
            millis = millis * 10 + u32::from(digit - b'0');
        }
        Some(millis)
    }

    fn zone(&mut self, local: NaiveDateTime) -> Option<ParsedTime> {
        let millis = local.and_utc().timestamp_millis();
        match self.rest {
            [] => return Some(ParsedTime::Local(local)),
            b"Z" | b"z" | b"UTC" | b"GMT" => return Some(ParsedTime::Instant(millis)),
            _ => {}
        }
        let sign = if self.mark(b'+').is_some() {
            1
        } else {
            self.mark(b'-')?;
            -1
        };
        let hours = self.digits(2)?;
        let _ = self.mark(b':');
        let minutes = if self.rest.is_empty() { 0 } else { self.digits(2)? };
        if hours > 23 || minutes > 59 || !self.rest.is_empty() {
            return None;
        }
        let offset = sign * i64::from(hours * 60 + minutes) * 60_000;
        Some(ParsedTime::Instant(millis - offset))
    }
}
