//! Rate limits for each API key: one token bucket for each limited resource.
//!
//! Each process limits by itself. The limits of a key replace the configured ones. A decision
//! costs one short lock, and allocates only for the first request of a key.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::domain::access::api_key::KeyRateLimits;
use crate::domain::token_bucket::{BucketRate, TokenBucket};
use crate::service::ServiceError;
use crate::service::limits::resource_user::ResourceUser;
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::RefusingLimit;

/// A resource that is limited by the rate of its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitedResource {
    /// Requests of every kind.
    Requests,
    Events,
    /// Exports, training runs, and reads that replay or scan many events.
    ExpensiveRequests,
}

impl LimitedResource {
    pub const ALL: [Self; 3] = [Self::Requests, Self::Events, Self::ExpensiveRequests];

    /// Name in the fields `RateLimit` and `RateLimit-Policy`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Events => "events",
            Self::ExpensiveRequests => "expensive-requests",
        }
    }

    /// The setting, which `limits` of a key overrides.
    const fn setting(self) -> &'static str {
        match self {
            Self::Requests => "limits.requests_per_second_per_key",
            Self::Events => "limits.events_per_second_per_key",
            Self::ExpensiveRequests => "limits.expensive_requests_per_minute_per_key",
        }
    }

    const fn metric_label(self) -> RefusingLimit {
        match self {
            Self::Requests => RefusingLimit::RequestRate,
            Self::Events => RefusingLimit::EventRate,
            Self::ExpensiveRequests => RefusingLimit::ExpensiveRequestRate,
        }
    }
}

/// The configured limits of every key. `None`: no limit.
#[derive(Debug, Clone, Copy)]
pub struct RateLimitDefaults {
    pub requests_per_second: Option<u32>,
    pub events_per_second: Option<u32>,
    pub expensive_requests_per_minute: Option<u32>,
    /// A key may send this number of events at once.
    pub events_per_request: usize,
}

/// The rate of each resource for one key.
#[derive(Debug, Clone, Copy, PartialEq)]
struct KeyRates {
    requests: Option<BucketRate>,
    events: Option<BucketRate>,
    expensive_requests: Option<BucketRate>,
}

impl KeyRates {
    const fn of(&self, resource: LimitedResource) -> Option<BucketRate> {
        match resource {
            LimitedResource::Requests => self.requests,
            LimitedResource::Events => self.events,
            LimitedResource::ExpensiveRequests => self.expensive_requests,
        }
    }
}

/// The limit of a key and its remaining quota (draft-ietf-httpapi-ratelimit-headers).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RateLimitStatus {
    resource: LimitedResource,
    rate: BucketRate,
    available: f64,
}

/// The limits of every key and the use by each.
#[derive(Debug)]
pub struct KeyRateLimiter {
    defaults: KeyRates,
    events_per_request: u32,
    /// Keys with limits of their own.
    overrides: ArcSwap<HashMap<ResourceUser, KeyRates>>,
    started: Instant,
    buckets: Mutex<HashMap<(ResourceUser, LimitedResource), TokenBucket>>,
    metrics: Arc<ServiceMetrics>,
}

/// Number of stored buckets above which full ones are dropped.
const MAX_IDLE_BUCKETS: usize = 10_000;

impl KeyRateLimiter {
    pub fn new(defaults: RateLimitDefaults, metrics: Arc<ServiceMetrics>) -> Self {
        let events_per_request = u32::try_from(defaults.events_per_request).unwrap_or(u32::MAX);
        Self {
            defaults: KeyRates {
                requests: defaults.requests_per_second.map(per_second),
                events: defaults.events_per_second.map(|rate| event_rate(rate, events_per_request)),
                expensive_requests: defaults.expensive_requests_per_minute.map(per_minute),
            },
            events_per_request,
            overrides: ArcSwap::default(),
            started: Instant::now(),
            buckets: Mutex::default(),
            metrics,
        }
    }

    /// Replaces the limits of all keys with limits of their own.
    pub(crate) fn replace_overrides<'k>(
        &self,
        keys: impl Iterator<Item = (&'k str, KeyRateLimits)>,
    ) {
        let with_own = keys.filter(|(_, limits)| *limits != KeyRateLimits::default());
        let rates = with_own
            .map(|(key_id, limits)| (ResourceUser::of_key(key_id), self.override_rates(limits)));
        self.overrides.store(Arc::new(rates.collect()));
    }

    /// Takes `units` of a resource for a key, or refuses with the time to wait.
    pub fn take(
        &self,
        user: ResourceUser,
        resource: LimitedResource,
        units: usize,
    ) -> Result<(), ServiceError> {
        let Err((rate, wait_millis)) = self.try_take(user, resource, units) else { return Ok(()) };
        self.metrics.limits.refusals.add(resource.metric_label(), 1);
        let (limit, unit) = match resource {
            LimitedResource::Requests => (rate.per_second, "requests per second"),
            LimitedResource::Events => (rate.per_second, "events per second"),
            LimitedResource::ExpensiveRequests => {
                (rate.per_second * 60.0, "expensive requests per minute")
            }
        };
        let detail = format!(
            "the key sends more than its {limit:.0} {unit} ({}, or `limits` of the key)",
            resource.setting()
        );
        let retry_after_seconds = wait_millis.div_ceil(1000).max(1);
        Err(ServiceError::OverLimit { detail: detail.into(), retry_after_seconds })
    }

    /// Takes `events` for a key, and waits instead of refusing: for streams.
    pub(crate) async fn take_events_waiting(&self, user: ResourceUser, events: usize) {
        while let Err((_, wait_millis)) = self.try_take(user, LimitedResource::Events, events) {
            tokio::time::sleep(Duration::from_millis(wait_millis)).await;
        }
    }

    /// The limit of a key and its remaining quota. `None` without a limit.
    pub(crate) fn status(
        &self,
        user: ResourceUser,
        resource: LimitedResource,
    ) -> Option<RateLimitStatus> {
        let rate = self.rate(user, resource)?;
        let now = self.now_millis();
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.get(&(user, resource));
        let available = bucket.map_or(rate.burst, |bucket| bucket.available(rate, now));
        Some(RateLimitStatus { resource, rate, available })
    }

    /// On refusal, the rate and the milliseconds to wait.
    fn try_take(
        &self,
        user: ResourceUser,
        resource: LimitedResource,
        units: usize,
    ) -> Result<(), (BucketRate, u64)> {
        let Some(rate) = self.rate(user, resource) else { return Ok(()) };
        let now = self.now_millis();
        let units = f64::from(u32::try_from(units).unwrap_or(u32::MAX));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        // A full bucket equals a new one, so dropping it loses nothing.
        if buckets.len() >= MAX_IDLE_BUCKETS {
            buckets.retain(|(user, resource), bucket| {
                self.rate(*user, *resource).is_some_and(|rate| !bucket.is_full(rate, now))
            });
        }
        let bucket =
            buckets.entry((user, resource)).or_insert_with(|| TokenBucket::full(rate, now));
        bucket.take(rate, units, now).map_err(|wait_millis| (rate, wait_millis))
    }

    fn rate(&self, user: ResourceUser, resource: LimitedResource) -> Option<BucketRate> {
        self.overrides.load().get(&user).unwrap_or(&self.defaults).of(resource)
    }

    fn override_rates(&self, limits: KeyRateLimits) -> KeyRates {
        let own = |limit: Option<u32>, default, rate: &dyn Fn(u32) -> BucketRate| match limit {
            None => default,
            Some(0) => None,
            Some(limit) => Some(rate(limit)),
        };
        let events = |limit| event_rate(limit, self.events_per_request);
        KeyRates {
            requests: own(limits.requests_per_second, self.defaults.requests, &per_second),
            events: own(limits.events_per_second, self.defaults.events, &events),
            expensive_requests: own(
                limits.expensive_requests_per_minute,
                self.defaults.expensive_requests,
                &per_minute,
            ),
        }
    }

    fn now_millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The burst is the requests of one second.
fn per_second(limit: u32) -> BucketRate {
    BucketRate { per_second: limit.into(), burst: limit.into() }
}

/// The burst is the requests of one minute.
fn per_minute(limit: u32) -> BucketRate {
    BucketRate { per_second: f64::from(limit) / 60.0, burst: limit.into() }
}

/// The burst is a full request, or the events of one second if that is more.
fn event_rate(limit: u32, events_per_request: u32) -> BucketRate {
    BucketRate { per_second: limit.into(), burst: limit.max(events_per_request).into() }
}

impl RateLimitStatus {
    /// Appends the item of the field `RateLimit-Policy`: the burst, and the seconds in which
    /// an empty bucket is full again.
    pub(crate) fn write_policy(&self, field: &mut String) -> fmt::Result {
        let window = (self.rate.burst / self.rate.per_second).ceil();
        let quota = self.rate.burst;
        write_item(field, format_args!("\"{}\";q={quota};w={window}", self.resource.name()))
    }

    /// Appends the item of the field `RateLimit`: the remaining quota, and the seconds until the
    /// bucket is full.
    pub(crate) fn write_remaining(&self, field: &mut String) -> fmt::Result {
        let remaining = self.available.floor().max(0.0);
        let seconds = ((self.rate.burst - self.available) / self.rate.per_second).ceil();
        write_item(field, format_args!("\"{}\";r={remaining};t={seconds}", self.resource.name()))
    }
}

/// Appends an item to a list of RFC 9651.
fn write_item(field: &mut String, item: fmt::Arguments<'_>) -> fmt::Result {
    if !field.is_empty() {
        field.push_str(", ");
    }
    fmt::Write::write_fmt(field, item)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    fn limiter() -> KeyRateLimiter {
        let targets = crate::domain::objective::ObjectiveTargets::default();
        let metrics = Arc::new(ServiceMetrics::new(Timestamp::from_millis(0), targets).unwrap());
        let defaults = RateLimitDefaults {
            requests_per_second: Some(2),
            events_per_second: None,
            expensive_requests_per_minute: Some(3),
            events_per_request: 5000,
        };
        KeyRateLimiter::new(defaults, metrics)
    }

    #[test]
    fn the_limits_of_a_key_replace_the_configured_ones() {
        let limiter = limiter();
        let own = KeyRateLimits {
            requests_per_second: Some(0),
            events_per_second: Some(10),
            expensive_requests_per_minute: None,
        };
        limiter.replace_overrides([("own", own)].into_iter());
        let (own, other) = (ResourceUser::of_key("own"), ResourceUser::of_key("other"));
        assert!((0..9).all(|_| limiter.take(own, LimitedResource::Requests, 1).is_ok()));
        let taken = (0..9).filter(|_| limiter.take(other, LimitedResource::Requests, 1).is_ok());
        assert!((2..4).contains(&taken.count()));
        assert!(limiter.take(own, LimitedResource::Events, 5000).is_ok());
        assert!(limiter.take(own, LimitedResource::Events, 1).is_err());
        assert!(limiter.take(other, LimitedResource::Events, 1_000_000).is_ok());
        assert!(limiter.status(other, LimitedResource::Events).is_none());
        limiter.replace_overrides([].into_iter());
        assert!(limiter.status(own, LimitedResource::Requests).is_some());
    }

    #[test]
    fn the_fields_are_lists_of_structured_fields() {
        let limiter = limiter();
        let user = ResourceUser::of_key("one");
        limiter.take(user, LimitedResource::ExpensiveRequests, 1).unwrap();
        let (mut policy, mut remaining) = (String::new(), String::new());
        for resource in LimitedResource::ALL {
            if let Some(status) = limiter.status(user, resource) {
                status.write_policy(&mut policy).unwrap();
                status.write_remaining(&mut remaining).unwrap();
            }
        }
        assert_eq!(policy, "\"requests\";q=2;w=1, \"expensive-requests\";q=3;w=60");
        assert_eq!(remaining, "\"requests\";r=2;t=0, \"expensive-requests\";r=2;t=20");
    }
}
