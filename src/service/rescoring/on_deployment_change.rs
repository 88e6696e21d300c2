//! After the lineup changes: every stored customer is scored again.
//!
//! An assignment remembers the generation that made it; those of an earlier
//! one are stale. Working until none is left needs no list of who was done: it
//! survives a crash, and finds what a slower replica wrote with an old lineup.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::id::CustomerKey;
use crate::service::ServiceError;
use crate::service::clock::Clock;
use crate::service::ingestion::CustomerCache;
use crate::service::rescoring::rescore;
use crate::service::scoring::deployment::{Lineup, Live};
use crate::store::database::lease::Lease;
use crate::store::{Db, customers};
use crate::telemetry::Metrics;

/// How often customers that another session has locked are tried again in one run; the
/// next run, some seconds later, takes up what is left.
const LOCKED_ROUNDS: u32 = 5;
const LOCKED_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Reassigner {
    pub db: Db,
    pub live: Arc<Live>,
    pub clock: Clock,
    pub batch_customers: usize,
    /// Rest after each batch, as a multiple of what the batch took.
    pub pause_ratio: f64,
    /// Told of whom this has written.
    pub cache: Arc<CustomerCache>,
    pub metrics: Arc<Metrics>,
}

impl Reassigner {
    /// Works until no assignment is stale; returns how many were. Does nothing
    /// while another replica is at it.
    pub async fn run(&self) -> Result<u64, ServiceError> {
        let lineup = self.live.snapshot();
        let pending =
            customers::count_assigned_before(self.db.read(), lineup.oldest_generation()).await?;
        self.metrics.reassign.pending.set(pending);
        if pending == 0 {
            return Ok(0);
        }
        let Some(mut lease) = self.db.try_lease(Lease::Reassignment).await? else {
            return Ok(0);
        };
        let done = self.work(&mut lease).await;
        lease.release().await;
        done
    }

    async fn work(
        &self,
        lease: &mut crate::store::database::lease::Held,
    ) -> Result<u64, ServiceError> {
        let mut done = 0;
        // Passed over, as another session has them locked.
        let mut locked = HashSet::new();
        let mut rounds = 0;
        loop {
            let lineup = self.live.snapshot();
            let limit = i64::try_from(self.batch_customers + locked.len()).unwrap_or(i64::MAX);
            let mut stale =
                customers::assigned_before(self.db.read(), lineup.oldest_generation(), limit)
                    .await?;
            stale.retain(|customer| !locked.contains(customer));
            if stale.is_empty() {
                let left = locked.len();
                self.metrics.reassign.pending.set(i64::try_from(left).unwrap_or(i64::MAX));
                rounds += 1;
                if left == 0 || rounds == LOCKED_ROUNDS {
                    return Ok(done);
                }
                locked.clear();
                tokio::time::sleep(LOCKED_PAUSE).await;
                continue;
            }
            lease.check().await?;
            let started = Instant::now();
            let scored = self.batch(&lineup, &stale).await?;
            done += scored.len() as u64;
            self.metrics.reassign.customers.inc_by(scored.len() as u64);
            locked.extend(stale.into_iter().filter(|customer| !scored.contains(customer)));
            let pause = started.elapsed().mul_f64(self.pause_ratio);
            tokio::time::sleep(pause.min(Duration::from_secs(10))).await;
        }
    }

    /// Scores those of these customers that no other session has locked; returns them.
    async fn batch(
        &self,
        lineup: &Lineup,
        stale: &[CustomerKey],
    ) -> Result<HashSet<CustomerKey>, ServiceError> {
        let keys: Vec<&CustomerKey> = stale.iter().collect();
        // Commits together: new standings with their history, and states that
        // had to be rebuilt.
        let mut tx = self.db.begin().await?;
        let free = customers::lock_free(&mut tx, &keys).await?;
        let decisions = rescore(&mut tx, lineup, &free, self.clock.now()).await?;
        tx.commit().await?;
        self.cache.forget(free.iter().map(|row| &row.stored.customer));
        decisions.count(&self.metrics.intake.assignments);
        Ok(free.into_iter().map(|row| row.stored.customer).collect())
    }
}
