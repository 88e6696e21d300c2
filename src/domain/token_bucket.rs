//! Token bucket rate limiter (RFC 2697's meter with one rate): a quota of units per second that
//! permits bursts.
//!
//! Pure: the instant is an argument, in milliseconds of a monotonic clock.

/// The tokens of one caller. They may be negative: a request larger than the burst is admitted
/// when the bucket is full, and delays the requests after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenBucket {
    tokens: f64,
    at_millis: u64,
}

/// Tokens that rounding may lose: a caller who waited for the stated time is admitted.
const ROUNDING: f64 = 1e-6;

/// Refill rate and capacity of a bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BucketRate {
    pub per_second: f64,
    pub burst: f64,
}

impl TokenBucket {
    /// A full bucket.
    pub fn full(rate: BucketRate, now_millis: u64) -> Self {
        Self { tokens: rate.burst, at_millis: now_millis }
    }

    /// Takes `units`, or returns the milliseconds until they can be taken.
    pub fn take(&mut self, rate: BucketRate, units: f64, now_millis: u64) -> Result<(), u64> {
        self.tokens = self.available(rate, now_millis);
        self.at_millis = self.at_millis.max(now_millis);
        let missing = units.min(rate.burst) - self.tokens;
        if missing <= ROUNDING {
            self.tokens -= units;
            return Ok(());
        }
        Err((missing / rate.per_second * 1000.0).ceil() as u64)
    }

    /// Tokens that can be taken now; negative after a request larger than the burst.
    pub fn available(&self, rate: BucketRate, now_millis: u64) -> f64 {
        let elapsed = now_millis.saturating_sub(self.at_millis) as f64 / 1000.0;
        (self.tokens + elapsed * rate.per_second).min(rate.burst)
    }

    /// Whether the bucket is full again, and so need not be stored.
    pub fn is_full(&self, rate: BucketRate, now_millis: u64) -> bool {
        self.available(rate, now_millis) >= rate.burst
    }
}
