//! Bulk rescoring of every stored customer after a change of the deployment or of audiences.
//!
//! A customer's row stores the generation of the deployment and the version of the audience
//! definitions that it was computed with; rows with earlier ones are stale. The run works until no stale assignment is left. So it needs no
//! list of finished customers, survives a crash, and finds what a slower replica wrote
//! with an old deployment.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::id::CustomerKey;
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::ingestion::CustomerCache;
use crate::service::rescoring::{RescoringDependencies, RescoringPace, rescore_customers};
use crate::service::scoring::deployment::Deployment;
use crate::service::scoring::serving::ServingState;
use crate::store::database::lease::LeaseName;
use crate::store::{DatabaseHandle, customers};
use crate::telemetry::ServiceMetrics;

/// Rounds in which one run retries customers locked by another session. The next run,
/// some seconds later, takes the rest.
const LOCKED_ROUNDS: u32 = 5;
const LOCKED_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct BulkRescorer {
    db: DatabaseHandle,
    serving: Arc<ServingState>,
    clock: TimeSource,
    pace: RescoringPace,
    customer_cache: Arc<CustomerCache>,
    metrics: Arc<ServiceMetrics>,
}

impl BulkRescorer {
    pub(crate) fn new(dependencies: RescoringDependencies, pace: RescoringPace) -> Self {
        let RescoringDependencies { db, serving, clock, customer_cache, metrics } = dependencies;
        Self { db, serving, clock, pace, customer_cache, metrics }
    }

    /// Works until no assignment is stale, and returns the number of rescored customers.
    /// Does nothing while another replica rescores.
    pub(crate) async fn rescore_stale(&self) -> Result<u64, ServiceError> {
        let deployment = self.serving.snapshot();
        let pending = customers::count_stale(self.db.read(), deployment.freshness_bounds()).await?;
        self.metrics.bulk_rescoring.pending.set(pending);
        if pending == 0 {
            return Ok(0);
        }
        let Some(mut lease) = self.db.try_lease(LeaseName::Rescoring).await? else {
            return Ok(0);
        };
        let done = self.rescore_until_fresh(&mut lease).await;
        lease.release().await;
        done
    }

    async fn rescore_until_fresh(
        &self,
        lease: &mut crate::store::database::lease::LeaseGuard,
    ) -> Result<u64, ServiceError> {
        let mut done = 0;
        // Skipped customers, locked by another session.
        let mut locked = HashSet::new();
        let mut rounds = 0;
        loop {
            let deployment = self.serving.snapshot();
            // The query returns locked customers again: ask for that many more.
            let limit = i64::try_from(self.pace.batch_customers + locked.len()).unwrap_or(i64::MAX);
            let mut stale =
                customers::list_stale(self.db.read(), deployment.freshness_bounds(), limit).await?;
            stale.retain(|customer| !locked.contains(customer));
            if stale.is_empty() {
                let left = locked.len();
                self.metrics.bulk_rescoring.pending.set(i64::try_from(left).unwrap_or(i64::MAX));
                rounds += 1;
                if left == 0 || rounds == LOCKED_ROUNDS {
                    return Ok(done);
                }
                locked.clear();
                tokio::time::sleep(LOCKED_PAUSE).await;
                continue;
            }
            // A lost lease means that another replica has taken over.
            lease.verify().await?;
            let started = Instant::now();
            let scored = self.rescore_batch(&deployment, &stale).await?;
            done += scored.len() as u64;
            self.metrics.bulk_rescoring.customers.inc_by(scored.len() as u64);
            locked.extend(stale.into_iter().filter(|customer| !scored.contains(customer)));
            let pause = started.elapsed().mul_f64(self.pace.pause_ratio);
            tokio::time::sleep(pause.min(Duration::from_secs(10))).await;
        }
    }

    /// Rescores the customers that no other session has locked. Returns them.
    async fn rescore_batch(
        &self,
        deployment: &Deployment,
        stale: &[CustomerKey],
    ) -> Result<HashSet<CustomerKey>, ServiceError> {
        let keys: Vec<&CustomerKey> = stale.iter().collect();
        // Commits together: new assignments with their history, and states that had to be
        // rebuilt.
        let mut tx = self.db.begin().await?;
        let free = customers::lock_available(&mut tx, &keys).await?;
        let decisions = rescore_customers(&mut tx, deployment, &free, self.clock.now()).await?;
        tx.commit().await?;
        self.customer_cache.invalidate(free.iter().map(|stored| &stored.customer));
        decisions.add_to(&self.metrics.ingestion.assignments);
        Ok(free.into_iter().map(|stored| stored.customer).collect())
    }
}
