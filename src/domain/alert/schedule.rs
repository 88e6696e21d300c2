//! Retry schedule of failed deliveries: the delays that Standard Webhooks recommends, with
//! jitter.

use std::time::Duration;

/// Delay before each attempt, in seconds since the previous attempt.
pub const RETRY_DELAY_SECONDS: [u32; 10] =
    [0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// Jitter: each delay varies by up to this share, so that deliveries that failed together
/// are not retried together.
pub(crate) const RETRY_JITTER_RATIO: f64 = 0.1;
/// Upper bound of a receiver's `Retry-After`: one day.
const MOST_SECONDS: u64 = 86_400;

/// Delay before the next attempt of a delivery that is never given up: as [`retry_delay`], then
/// the longest delay again and again.
pub fn unlimited_retry_delay(attempts: u32, chance: f64, asked: Option<Duration>) -> Duration {
    let last = u32::try_from(RETRY_DELAY_SECONDS.len() - 1).unwrap_or(u32::MAX);
    retry_delay(attempts.min(last), chance, asked).unwrap_or_default()
}

/// Delay before the next attempt, after `attempts` failed ones; `None`: give up.
///
/// `chance` is a random number from 0 to 1. `asked` is the receiver's `Retry-After`; the
/// longer of both delays applies.
pub fn retry_delay(attempts: u32, chance: f64, asked: Option<Duration>) -> Option<Duration> {
    let planned = RETRY_DELAY_SECONDS.get(usize::try_from(attempts).ok()?)?;
    let jitter = 1.0 + RETRY_JITTER_RATIO * (2.0 * chance.clamp(0.0, 1.0) - 1.0);
    let planned = Duration::from_secs(u64::from(*planned)).mul_f64(jitter);
    let asked = asked.unwrap_or_default().min(Duration::from_secs(MOST_SECONDS));
    Some(planned.max(asked))
}
