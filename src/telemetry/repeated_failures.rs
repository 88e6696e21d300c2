//! Rate limit for the log of repeated failures: while something fails again and again, it is
//! logged at the first failure and then once a minute, with the number of failures.
//!
//! The failures are counted for the whole process, as the log is.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Minimum time between two log lines of the same failure.
const INTERVAL: Duration = Duration::from_mins(1);
/// Maximum number of failures that are remembered; beyond it, the one logged longest ago is
/// forgotten.
const MAX_FAILURES: usize = 256;

static FAILURES: FailureCounts = FailureCounts::new();

/// Counts a failure of `work`. Returns the end of its log message, or `None` if the same
/// failure was logged within the last minute.
///
/// `failure` tells the failures of one kind of work apart: the text of the error, or the name
/// of the failed object. It must not contain a number that differs each time.
pub(crate) fn count_failure(work: &'static str, failure: &str) -> Option<Repetition> {
    FAILURES.count(work, failure, Instant::now())
}

/// The end of the log message of a failure: empty for the first one, otherwise how often it has
/// happened since the last message, such as ` (37 times in the last minute)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Repetition {
    times: u64,
    minutes: u64,
}

impl fmt::Display for Repetition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { times: 1, .. } => Ok(()),
            Self { times, minutes: 1 } => write!(f, " ({times} times in the last minute)"),
            Self { times, minutes } => write!(f, " ({times} times in the last {minutes} minutes)"),
        }
    }
}

#[derive(Debug)]
struct FailureCounts(Mutex<Vec<FailureCount>>);

/// The occurrences of one failure since its last log line.
#[derive(Debug)]
struct FailureCount {
    work: &'static str,
    failure: String,
    logged_at: Instant,
    times: u64,
}

impl FailureCounts {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn count(&self, work: &'static str, failure: &str, now: Instant) -> Option<Repetition> {
        // Each change of the list is complete before any panic.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = counts.iter_mut().find(|one| one.work == work && one.failure == failure);
        if let Some(known) = known {
            known.times += 1;
            let elapsed = now.saturating_duration_since(known.logged_at);
            if elapsed < INTERVAL {
                return None;
            }
            let minutes = elapsed.as_secs() / INTERVAL.as_secs();
            let repetition = Repetition { times: known.times, minutes };
            (known.logged_at, known.times) = (now, 0);
            return Some(repetition);
        }
        if counts.len() >= MAX_FAILURES {
            let oldest = (0..counts.len()).min_by_key(|index| counts[*index].logged_at);
            oldest.map(|oldest| counts.swap_remove(oldest));
        }
        counts.push(FailureCount { work, failure: failure.to_owned(), logged_at: now, times: 0 });
        Some(Repetition { times: 1, minutes: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_logged_at_once_and_then_once_a_minute_with_its_count() {
        let (counts, start) = (FailureCounts::new(), Instant::now());
        let logged: Vec<String> = (0..240)
            .filter_map(|second| {
                let now = start + Duration::from_secs(second);
                Some(format!("{second} s{}", counts.count("poll", "refused", now)?))
            })
            .collect();
        let repeated = |second| format!("{second} s (60 times in the last minute)");
        assert_eq!(logged, ["0 s".to_owned(), repeated(60), repeated(120), repeated(180)]);
    }

    #[test]
    fn failures_are_told_apart_by_work_and_text() {
        let (counts, now) = (FailureCounts::new(), Instant::now());
        for (work, failure) in [("poll", "refused"), ("poll", "timed out"), ("send", "refused")] {
            assert!(counts.count(work, failure, now).is_some(), "{work}: {failure}");
            assert_eq!(counts.count(work, failure, now), None, "{work}: {failure}");
        }
    }

    #[test]
    fn a_failure_after_a_pause_states_the_time() {
        let (counts, start) = (FailureCounts::new(), Instant::now());
        let at = |seconds| counts.count("poll", "refused", start + Duration::from_secs(seconds));
        assert_eq!(at(0).unwrap().to_string(), "");
        assert_eq!(at(10), None);
        assert_eq!(at(610).unwrap().to_string(), " (2 times in the last 10 minutes)");
        assert_eq!(at(4000).unwrap().to_string(), "", "a single failure needs no count");
    }

    #[test]
    fn the_number_of_remembered_failures_is_bounded() {
        let (counts, start) = (FailureCounts::new(), Instant::now());
        for number in 0..2 * MAX_FAILURES {
            let now = start + Duration::from_millis(u64::try_from(number).unwrap());
            assert!(counts.count("poll", &number.to_string(), now).is_some());
        }
        assert_eq!(counts.0.lock().unwrap().len(), MAX_FAILURES);
    }
}
