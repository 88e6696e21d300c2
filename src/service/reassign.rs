//! After the lineup changes: every stored customer is scored again.
//!
//! An assignment remembers the generation that made it; those of an earlier
//! one are stale. Working until none is left needs no list of who was done: it
//! survives a crash, and finds what a slower replica wrote with an old lineup.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::id::CustomerKey;
use crate::service::ServiceError;
use crate::service::clock::Clock;
use crate::service::intake::CustomerCache;
use crate::service::live::{Lineup, Live};
use crate::service::rescore::rescore;
use crate::store::lease::Lease;
use crate::store::{Db, customers};
use crate::telemetry::Metrics;

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

    async fn work(&self, lease: &mut crate::store::lease::Held) -> Result<u64, ServiceError> {
        let mut done = 0;
        loop {
            let lineup = self.live.snapshot();
            let limit = i64::try_from(self.batch_customers).unwrap_or(i64::MAX);
            let stale =
                customers::assigned_before(self.db.read(), lineup.oldest_generation(), limit)
                    .await?;
            if stale.is_empty() {
                self.metrics.reassign.pending.set(0);
                return Ok(done);
            }
            lease.check().await?;
            let started = Instant::now();
            self.batch(&lineup, &stale).await?;
            done += stale.len() as u64;
            self.metrics.reassign.customers.inc_by(stale.len() as u64);
            let pause = started.elapsed().mul_f64(self.pause_ratio);
            tokio::time::sleep(pause.min(Duration::from_secs(10))).await;
        }
    }

    async fn batch(&self, lineup: &Lineup, stale: &[CustomerKey]) -> Result<(), ServiceError> {
        let keys: Vec<&CustomerKey> = stale.iter().collect();
        // Commits together: new standings with their history, and states that
        // had to be rebuilt.
        let mut tx = self.db.begin().await?;
        let locked = customers::lock(&mut tx, &keys).await?;
        let decisions = rescore(&mut tx, lineup, &locked, self.clock.now()).await?;
        tx.commit().await?;
        self.cache.forget(locked.iter().map(|row| &row.stored.customer));
        decisions.count(&self.metrics.intake.assignments);
        Ok(())
    }
}
