//! Bulk rescoring of every stored customer after a change of the deployment, and of the audiences.
//!
//! A customer's row stores the generation of the deployment that it was scored with. An index finds
//! the rows with earlier ones. The run works until there are none. So it needs no list of finished
//! customers, survives a crash, and finds what a slower replica wrote with an old deployment.
//! Rescoring also evaluates the audiences: customers of an earlier deployment come first, and the
//! evaluation of audiences (`on_audience_change`) omits them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::domain::id::CustomerKey;
use crate::service::ServiceError;
use crate::service::rescoring::on_audience_change::{AudienceEvaluator, count_pending};
use crate::service::rescoring::{self, RescoringDependencies, RescoringPace};
use crate::service::scoring::deployment::Deployment;
use crate::store::database::lease::{LeaseGuard, LeaseName};
use crate::store::{audience_evaluation, customers};

/// Customers per search for stale ones. Each search passes the index entries of the customers
/// rescored before, until vacuum removes them: one search per batch would read them too often.
const LISTED_CUSTOMERS: usize = 1_000;
/// Rounds in which one run retries customers locked by another session. The next run,
/// some seconds later, takes the rest.
const LOCKED_ROUNDS: u32 = 5;
const LOCKED_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct BulkRescorer {
    dependencies: RescoringDependencies,
    pace: RescoringPace,
    audiences: AudienceEvaluator,
}

impl BulkRescorer {
    /// `poll`: the interval at which replicas poll the deployment.
    pub(crate) fn new(
        dependencies: RescoringDependencies,
        pace: RescoringPace,
        poll: Duration,
    ) -> Self {
        let audiences = AudienceEvaluator::new(dependencies.clone(), pace, poll);
        Self { dependencies, pace, audiences }
    }

    /// Works until no customer is stale, and returns the number of rescored customers.
    /// Does nothing while another replica rescores.
    pub(crate) async fn rescore_stale(&self) -> Result<u64, ServiceError> {
        let db = &self.dependencies.db;
        let deployment = self.dependencies.serving.snapshot();
        let pending = count_pending(db.read(), &deployment).await?;
        self.dependencies.metrics.bulk_rescoring.pending.set(pending);
        let progress = audience_evaluation::find(db.read()).await?;
        if pending == 0 && !self.audiences.is_due(&progress, deployment.audiences.version()) {
            return Ok(0);
        }
        let Some(mut lease) = db.try_lease(LeaseName::Rescoring).await? else {
            return Ok(0);
        };
        let done = self.rescore_until_fresh(&mut lease).await;
        lease.release().await;
        done
    }

    async fn rescore_until_fresh(&self, lease: &mut LeaseGuard) -> Result<u64, ServiceError> {
        let mut done = 0;
        loop {
            let generation = self.dependencies.serving.snapshot().oldest_generation();
            done += self.rescore_earlier_deployments(lease).await?;
            done += self.audiences.evaluate_stale(lease, generation).await?;
            let deployment = self.dependencies.serving.snapshot();
            if deployment.oldest_generation() == generation {
                let pending = count_pending(self.dependencies.db.read(), &deployment).await?;
                self.dependencies.metrics.bulk_rescoring.pending.set(pending);
                return Ok(done);
            }
        }
    }

    /// Rescores the customers that an earlier deployment has assigned.
    async fn rescore_earlier_deployments(
        &self,
        lease: &mut LeaseGuard,
    ) -> Result<u64, ServiceError> {
        let RescoringDependencies { db, serving, metrics, .. } = &self.dependencies;
        let mut done = 0;
        // Skipped customers, locked by another session.
        let mut locked = HashSet::new();
        let mut rounds = 0;
        loop {
            let generation = serving.snapshot().oldest_generation();
            // The query returns locked customers again: ask for that many more.
            let limit = i64::try_from(LISTED_CUSTOMERS + locked.len()).unwrap_or(i64::MAX);
            let mut stale = customers::list_stale(db.read(), generation, limit).await?;
            stale.retain(|customer| !locked.contains(customer));
            if stale.is_empty() {
                rounds += 1;
                if locked.is_empty() || rounds == LOCKED_ROUNDS {
                    return Ok(done);
                }
                let left = i64::try_from(locked.len()).unwrap_or(i64::MAX);
                metrics.bulk_rescoring.pending.set(left);
                locked.clear();
                tokio::time::sleep(LOCKED_PAUSE).await;
                continue;
            }
            // A lost lease means that another replica has taken over.
            lease.verify().await?;
            for batch in stale.chunks(self.pace.batch_customers) {
                let started = Instant::now();
                let scored = self.rescore_batch(&serving.snapshot(), batch).await?;
                done += scored.len() as u64;
                metrics.bulk_rescoring.customers.inc_by(scored.len() as u64);
                let skipped = batch.iter().filter(|customer| !scored.contains(customer));
                locked.extend(skipped.cloned());
                self.pace.pause(started, LONGEST_PAUSE).await;
            }
        }
    }

    /// Rescores the customers that no other session has locked. Returns them.
    async fn rescore_batch(
        &self,
        deployment: &Deployment,
        stale: &[CustomerKey],
    ) -> Result<HashSet<CustomerKey>, ServiceError> {
        let RescoringDependencies { db, clock, customer_cache, metrics, .. } = &self.dependencies;
        let keys: Vec<&CustomerKey> = stale.iter().collect();
        // Commits together: new assignments with their history, and states that had to be
        // rebuilt.
        let mut tx = db.begin().await?;
        let unlocked = customers::lock_available(&mut tx, &keys).await?;
        let now = clock.now();
        let decisions = rescoring::rescore_customers(&mut tx, deployment, &unlocked, now).await?;
        rescoring::commit(tx, decisions).await?;
        customer_cache.invalidate(unlocked.iter().map(|stored| &stored.customer));
        decisions.add_to(&metrics.ingestion.assignments);
        Ok(unlocked.into_iter().map(|stored| stored.customer).collect())
    }
}
