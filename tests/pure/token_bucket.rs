//! Properties of the token bucket.

use proptest::prelude::*;
use segmentd::domain::token_bucket::{BucketRate, TokenBucket};

const RATE: BucketRate = BucketRate { per_second: 10.0, burst: 20.0 };

#[test]
fn a_burst_then_the_rate() {
    let mut bucket = TokenBucket::full(RATE, 0);
    assert_eq!(bucket.take(RATE, 20.0, 0), Ok(()));
    assert_eq!(bucket.take(RATE, 5.0, 0), Err(500));
    assert_eq!(bucket.take(RATE, 5.0, 500), Ok(()));
    assert!(!bucket.is_full(RATE, 2499) && bucket.is_full(RATE, 2500));
}

#[test]
fn a_request_larger_than_the_burst_passes_when_the_bucket_is_full_and_is_paid_back() {
    let mut bucket = TokenBucket::full(RATE, 0);
    assert_eq!(bucket.take(RATE, 100.0, 0), Ok(()));
    assert_eq!(bucket.take(RATE, 1.0, 0), Err(8100));
    assert_eq!(bucket.take(RATE, 100.0, 9999), Err(1));
    assert_eq!(bucket.take(RATE, 100.0, 10_000), Ok(()));
}

proptest! {
    /// For any requests, at most the burst and the rate pass, and a request that waits for
    /// the requested time passes.
    #[test]
    fn no_more_than_the_rate_passes(
        requests in proptest::collection::vec((0_u64..400, 1_u32..20), 1..200),
    ) {
        let mut bucket = TokenBucket::full(RATE, 0);
        let (mut now, mut passed) = (0, 0.0);
        for (pause, units) in requests {
            now += pause;
            let units = f64::from(units);
            if let Err(wait) = bucket.take(RATE, units, now) {
                prop_assert!(wait > 0);
                now += wait;
                prop_assert_eq!(bucket.take(RATE, units, now), Ok(()));
            }
            passed += units;
            prop_assert!(passed <= RATE.burst + RATE.per_second * now as f64 / 1000.0 + 1e-6);
        }
    }
}
