//! Scheduled rescoring: customers without events, once time alone may change their
//! assignment.
//!
//! Each scoring stores the instant until which its result is valid. Due customers are
//! taken in order of that instant, through an index. Replicas share the work without a
//! lease: a customer that one replica has locked is skipped by the others (`skip
//! locked`), and is no longer due when it is unlocked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::ingestion::CustomerCache;
use crate::service::rescoring::{self, RescoringDependencies, RescoringPace, rescore_customers};
use crate::service::scoring::history::DecisionCounts;
use crate::service::scoring::serving::ServingState;
use crate::store::{DatabaseHandle, customers};
use crate::telemetry::ServiceMetrics;
use crate::telemetry::labels::ObjectiveName;

#[derive(Debug)]
pub struct ScheduledRescorer {
    db: DatabaseHandle,
    serving: Arc<ServingState>,
    clock: TimeSource,
    pace: RescoringPace,
    idle_pause: Duration,
    customer_cache: Arc<CustomerCache>,
    metrics: Arc<ServiceMetrics>,
}

impl ScheduledRescorer {
    /// `idle_pause`: the pause once no customer is due.
    pub fn new(
        dependencies: RescoringDependencies,
        pace: RescoringPace,
        idle_pause: Duration,
    ) -> Self {
        let RescoringDependencies { db, serving, clock, customer_cache, metrics } = dependencies;
        Self { db, serving, clock, pace, idle_pause, customer_cache, metrics }
    }

    /// The pause once no customer is due.
    pub(crate) fn idle_pause(&self) -> Duration {
        self.idle_pause
    }

    /// Works until no customer is due. Returns the number of rescored customers.
    pub async fn rescore_due(&self) -> Result<u64, ServiceError> {
        let mut done = 0;
        loop {
            let started = Instant::now();
            let customers = self.rescore_batch().await?;
            done += customers as u64;
            if customers < self.pace.batch_customers {
                return Ok(done);
            }
            self.pace.pause(started, Duration::from_secs(1)).await;
        }
    }

    async fn rescore_batch(&self) -> Result<usize, ServiceError> {
        let now = self.clock.now();
        let limit = i64::try_from(self.pace.batch_customers).unwrap_or(i64::MAX);
        // Commits together: the new assignments with their history, the next due
        // instants, and states that had to be rebuilt.
        let mut tx = self.db.begin().await?;
        let (due, since) = customers::lock_due(&mut tx, now, limit).await?;
        let lag = since.map_or(0.0, |since| seconds_between(since, now));
        self.metrics.scheduled_rescoring.lag.set(lag);
        let objectives = &self.metrics.objectives;
        // Counted before the early return: a minute without due customers is a fresh
        // minute.
        let is_fresh = lag <= objectives.targets.freshness_seconds;
        objectives.record_minute(ObjectiveName::Freshness, now, is_fresh);
        if due.is_empty() {
            return Ok(0);
        }
        // Read after the lock, so that no other transaction can have written a later
        // instant.
        let now = self.clock.now();
        let decisions = rescore_customers(&mut tx, &self.serving.snapshot(), &due, now).await?;
        rescoring::commit(tx, decisions).await?;
        self.customer_cache.invalidate(due.iter().map(|stored| &stored.customer));
        self.count(due.len(), decisions);
        Ok(due.len())
    }

    fn count(&self, customers: usize, decisions: DecisionCounts) {
        decisions.add_to(&self.metrics.ingestion.assignments);
        self.metrics.scheduled_rescoring.customers.inc_by(customers as u64);
        self.metrics.scheduled_rescoring.moved.inc_by(decisions.moved);
    }
}

fn seconds_between(since: Timestamp, now: Timestamp) -> f64 {
    Duration::from_millis((now.millis() - since.millis()).unsigned_abs()).as_secs_f64()
}
