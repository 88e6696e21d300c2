//! Exponential back-off with jitter: the delays between restarts of what keeps failing.

use std::time::Duration;

use crate::service::random;

/// Delay after the first failure. The children of an ended Postgres server still release
/// memory then.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// A run that lasted this long has recovered: the delays start again at [`FIRST_DELAY`].
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// Delays between restarts: each is 50 to 100 % of twice the previous one, up to a bound.
#[derive(Debug)]
pub(super) struct RestartBackoff {
    longest: Duration,
    attempts: u32,
}

impl RestartBackoff {
    /// `longest` bounds every delay.
    pub(super) fn new(longest: Duration) -> Self {
        Self { longest, attempts: 0 }
    }

    /// Starts the delays again if the run that has just ended was stable.
    pub(super) fn end_run(&mut self, lasted: Duration) {
        if lasted >= STABLE_AFTER {
            self.attempts = 0;
        }
    }

    /// The delay before the next restart.
    pub(super) fn next_delay(&mut self) -> Duration {
        self.delay(random::random_fraction().unwrap_or(1.0))
    }

    /// `jitter` ranges from 0 to 1.
    fn delay(&mut self, jitter: f64) -> Duration {
        let factor = 2_u32.saturating_pow(self.attempts);
        self.attempts = self.attempts.saturating_add(1);
        let delay = FIRST_DELAY.saturating_mul(factor).min(self.longest);
        delay.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_bound() {
        let mut backoff = RestartBackoff::new(Duration::from_secs(10));
        let millis: Vec<u128> = (0..9).map(|_| backoff.delay(1.0).as_millis()).collect();
        assert_eq!(millis, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        backoff.attempts = u32::MAX;
        assert_eq!(backoff.delay(0.0), Duration::from_secs(5));
    }

    #[test]
    fn only_a_stable_run_starts_the_delays_again() {
        let mut backoff = RestartBackoff::new(Duration::from_secs(10));
        backoff.delay(1.0);
        backoff.end_run(STABLE_AFTER / 2);
        assert_eq!(backoff.delay(1.0), 2 * FIRST_DELAY);
        backoff.end_run(STABLE_AFTER);
        assert_eq!(backoff.delay(1.0), FIRST_DELAY);
    }
}
