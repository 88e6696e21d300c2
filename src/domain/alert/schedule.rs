//! When a message that was not taken is tried again: as Standard Webhooks advise.

use std::time::Duration;

/// Before each attempt, in seconds, from the one before it.
pub const DELAY_SECONDS: [u32; 10] =
    [0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// Each delay is longer or shorter by up to this share, so that what failed together
/// is not tried again together.
pub const JITTER: f64 = 0.1;
/// A receiver may ask for as much time.
const MOST_SECONDS: u64 = 86_400;

/// How long to wait after so many attempts that failed; `None`: there is no other.
/// `chance` is from 0 to 1. A receiver that asks for more time gets it.
pub fn delay(attempts: u32, chance: f64, asked: Option<Duration>) -> Option<Duration> {
    let planned = DELAY_SECONDS.get(usize::try_from(attempts).ok()?)?;
    let jitter = 1.0 + JITTER * (2.0 * chance.clamp(0.0, 1.0) - 1.0);
    let planned = Duration::from_secs(u64::from(*planned)).mul_f64(jitter);
    let asked = asked.unwrap_or_default().min(Duration::from_secs(MOST_SECONDS));
    Some(planned.max(asked))
}
