//! Recurring schedule: five cron fields in UTC.

use std::fmt;

use chrono::DateTime;
use croner::Cron;
use croner::parser::{CronParser, Seconds};

use crate::domain::time::Timestamp;

/// A validated cron pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronSchedule(Cron);

impl CronSchedule {
    /// Parses minute, hour, day of month, month and day of week (`0 3 * * *`). The error text
    /// names the fault.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        // The parser accepts an empty item as no time at all. A field of such items never
        // matches, and the search for the next time would cover thousands of years.
        if pattern.split_whitespace().any(|field| field.split(',').any(str::is_empty)) {
            return Err(pattern_fault(pattern, "a list has an empty item"));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
        parser
            .parse(pattern.trim())
            .map(Self)
            .map_err(|error| pattern_fault(pattern, &error.to_string()))
    }

    /// The first time strictly after `instant`; `None` if the pattern never matches (the 30th
    /// of February).
    pub fn next_after(&self, instant: Timestamp) -> Option<Timestamp> {
        let start = DateTime::from_timestamp_millis(instant.millis())?;
        let next = self.0.find_next_occurrence(&start, false).ok()?;
        Some(Timestamp::from_millis(next.timestamp_millis()))
    }
}

fn pattern_fault(pattern: &str, reason: &str) -> String {
    format!("`{pattern}` is not five cron fields such as `0 3 * * *`: {reason}")
}

impl fmt::Display for CronSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(pattern: &str, after: &str) -> Option<String> {
        let after = Timestamp::parse(after).unwrap();
        CronSchedule::parse(pattern).unwrap().next_after(after).map(|next| next.to_string())
    }

    #[test]
    fn the_next_time_is_strictly_later() {
        let tomorrow = Some("2017-01-02T03:00:00.000Z".to_owned());
        assert_eq!(next("0 3 * * *", "2017-01-01T03:00:00Z"), tomorrow);
        assert_eq!(next("0 3 * * *", "2017-01-01T03:00:00.001Z"), tomorrow);
        assert_eq!(next("0 3 * * *", "2017-01-02T02:59:59.999Z"), tomorrow);
    }

    #[test]
    fn fields_are_those_of_cron() {
        // The first Monday at a quarter past each sixth hour after a Sunday.
        let monday = Some("2017-01-02T00:15:00.000Z".to_owned());
        assert_eq!(next("15 */6 * * MON", "2017-01-01T12:00:00Z"), monday);
        assert_eq!(next("0 0 30 2 *", "2017-01-01T00:00:00Z"), None);
    }

    #[test]
    fn other_text_is_refused_in_words() {
        for pattern in ["0 0 3 * * *", "60 3 * * *", "daily", "0 3 * *"] {
            let problem = CronSchedule::parse(pattern).unwrap_err();
            assert!(problem.contains(pattern), "{problem}");
        }
    }
}
