//! Quota of events per second for each key: token buckets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::token_bucket::{BucketRate, TokenBucket};
use crate::service::ServiceError;
use crate::service::limits::resource_user::ResourceUser;
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::RefusingLimit;

/// The quota of every key and the consumption of each.
#[derive(Debug)]
pub(crate) struct EventQuota {
    /// `None`: no quota.
    rate: Option<BucketRate>,
    started: Instant,
    buckets: Mutex<HashMap<ResourceUser, TokenBucket>>,
    metrics: Arc<ServiceMetrics>,
}

/// Number of stored buckets above which full ones are dropped.
const MAX_IDLE_BUCKETS: usize = 10_000;

impl EventQuota {
    /// The burst of a key is `events_per_request`, or the events of one second if that is
    /// more.
    pub(crate) fn new(
        events_per_second: Option<u32>,
        events_per_request: usize,
        metrics: Arc<ServiceMetrics>,
    ) -> Self {
        let rate = events_per_second.map(|events| {
            let at_once = u32::try_from(events_per_request).unwrap_or(u32::MAX);
            BucketRate { per_second: events.into(), burst: events.max(at_once).into() }
        });
        Self { rate, started: Instant::now(), buckets: Mutex::default(), metrics }
    }

    /// Takes `events` from the key's quota, or refuses with the time to wait.
    pub(crate) fn take_events(
        &self,
        user: ResourceUser,
        events: usize,
    ) -> Result<(), ServiceError> {
        let Err(wait_millis) = self.try_take(user, events) else { return Ok(()) };
        self.metrics.limits.refusals.add(RefusingLimit::EventRate, 1);
        Err(ServiceError::OverLimit {
            detail: "the key sends more events than limits.events_per_second_per_key".into(),
            retry_after_seconds: wait_millis.div_ceil(1000).max(1),
        })
    }

    /// [`Self::take_events`] that waits instead of refusing: for streams.
    pub(crate) async fn take_events_waiting(&self, user: ResourceUser, events: usize) {
        while let Err(wait_millis) = self.try_take(user, events) {
            tokio::time::sleep(Duration::from_millis(wait_millis)).await;
        }
    }

    fn try_take(&self, user: ResourceUser, events: usize) -> Result<(), u64> {
        let Some(rate) = self.rate else { return Ok(()) };
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let units = f64::from(u32::try_from(events).unwrap_or(u32::MAX));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        // A full bucket equals a new one, so dropping it loses nothing.
        if buckets.len() >= MAX_IDLE_BUCKETS {
            buckets.retain(|_, bucket| !bucket.is_full(rate, now));
        }
        let bucket = buckets.entry(user).or_insert_with(|| TokenBucket::full(rate, now));
        bucket.take(rate, units, now)
    }
}
