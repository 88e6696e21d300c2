//! Evaluation of every stored customer after a change of audiences, in passes over the primary key.
//!
//! The version of the definitions changes in every row, so an index on it would be rewritten row by
//! row. A pass therefore reads all customers in order of their ids (keyset pagination), and
//! evaluates those with an earlier version. Its position is stored with the results
//! (`store::audience_evaluation`), so another process continues after a crash.
//!
//! A pass leaves customers that another session has locked, and customers that a replica with
//! earlier definitions adds behind its position. A list of the locked ones would not contain the
//! added ones. So the evaluation is complete after a whole pass that has found no customer to
//! evaluate, which covers both. Such a pass only reads: some microseconds per customer. A replica
//! that misses the notification of a change learns of it one poll later: one more pass, after that
//! time, finds the customers that it has added since. It keeps the memberships of customers that later
//! definitions have evaluated (`AudienceSet::evaluate`), also if an event of them would change these: such
//! a customer is rescored a minute later (`service/scoring/assignment.rs`).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::id::CustomerKey;
use crate::service::ServiceError;
use crate::service::rescoring::{self, RescoringDependencies, RescoringPace};
use crate::service::scoring::deployment::Deployment;
use crate::store::audience_evaluation::{self, AudienceEvaluation, EvaluationStep};
use crate::store::customers;
use crate::store::database::lease::LeaseGuard;
use crate::store::{ReadOnlyDatabase, StoreError};

/// Rows per page: a statement of about a millisecond.
const PAGE_ROWS: i64 = 1_000;
/// Polls of the deployment after which every replica has the definitions of a completed
/// evaluation: one may just have begun.
const POLLS_UNTIL_VERIFIED: u32 = 2;
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct AudienceEvaluator {
    dependencies: RescoringDependencies,
    pace: RescoringPace,
    /// Interval at which replicas poll the deployment.
    poll: Duration,
    /// The unverified version, and since when this process knows of its completion.
    unverified: Mutex<Option<(i64, Instant)>>,
}

/// A pass, as far as this process has run it.
#[derive(Debug, Default)]
struct EvaluationPass {
    /// The pass began at the first customer. A continued pass cannot complete an evaluation, because
    /// the results of its first part are unknown.
    is_whole: bool,
    evaluated: u64,
    skipped: u64,
}

impl AudienceEvaluator {
    /// `poll`: the interval at which replicas poll the deployment.
    pub(crate) fn new(
        dependencies: RescoringDependencies,
        pace: RescoringPace,
        poll: Duration,
    ) -> Self {
        Self { dependencies, pace, poll, unverified: Mutex::default() }
    }

    /// Whether there is a pass to run with the definitions of this version.
    pub(crate) fn is_due(&self, progress: &AudienceEvaluation, version: i64) -> bool {
        if progress.version > version {
            // Another replica has later definitions; this one will load them too.
            return false;
        }
        if !progress.is_complete(version) {
            return true;
        }
        if progress.is_verified {
            return false;
        }
        let mut unverified = self.unverified.lock().unwrap_or_else(PoisonError::into_inner);
        match *unverified {
            Some((known, since)) if known == version => {
                since.elapsed() >= self.poll * POLLS_UNTIL_VERIFIED
            }
            _ => {
                *unverified = Some((version, Instant::now()));
                false
            }
        }
    }

    /// Runs passes until every customer is evaluated or only locked ones are left, or until a
    /// deployment with another generation is published. Returns the number of evaluated customers.
    pub(crate) async fn evaluate_stale(
        &self,
        lease: &mut LeaseGuard,
        generation: i64,
    ) -> Result<u64, ServiceError> {
        let db = self.dependencies.db.read();
        let mut pass = EvaluationPass::default();
        let mut evaluated = 0;
        loop {
            let deployment = self.dependencies.serving.snapshot();
            let version = deployment.audiences.version();
            let progress = audience_evaluation::find(db).await?;
            if deployment.oldest_generation() != generation || !self.is_due(&progress, version) {
                return Ok(evaluated);
            }
            // A lost lease means that another replica has taken over.
            lease.verify().await?;
            if progress.version < version {
                self.begin(version).await?;
                continue;
            }
            if progress.last_customer_id.is_empty() {
                pass = EvaluationPass { is_whole: true, ..EvaluationPass::default() };
            }
            let before = pass.evaluated;
            if self.evaluate_page(&progress, &mut pass).await? {
                evaluated += pass.evaluated - before;
                continue;
            }
            self.finish(version, &pass).await?;
            if pass.evaluated == 0 && pass.skipped > 0 {
                // The next run, some seconds later, tries the locked ones again.
                return Ok(evaluated);
            }
        }
    }

    async fn begin(&self, version: i64) -> Result<(), ServiceError> {
        let db = &self.dependencies.db;
        let customers = customers::count_assigned(db.read()).await?;
        // Commits together: the new version and the start of its first pass.
        let mut tx = db.begin().await?;
        audience_evaluation::begin(&mut tx, version, customers).await?;
        tx.commit().await?;
        tracing::info!(version, customers, "evaluation of audiences started");
        Ok(())
    }

    /// Evaluates the stale customers among the next rows. Returns whether there were rows.
    async fn evaluate_page(
        &self,
        progress: &AudienceEvaluation,
        pass: &mut EvaluationPass,
    ) -> Result<bool, ServiceError> {
        let (db, version) = (&self.dependencies.db, progress.version);
        let started = Instant::now();
        let after = &progress.last_customer_id;
        let page = audience_evaluation::read_page(db.read(), after, version, PAGE_ROWS).await?;
        let Some(last_customer_id) = &page.last_customer_id else { return Ok(false) };
        self.pace.pause(started, LONGEST_PAUSE).await;
        for batch in page.stale.chunks(self.pace.batch_customers) {
            let deployment = self.dependencies.serving.snapshot();
            if deployment.audiences.version() != version {
                return Ok(true);
            }
            let started = Instant::now();
            let unlocked = self.evaluate_batch(&deployment, batch).await?;
            pass.evaluated += unlocked;
            pass.skipped += batch.len() as u64 - unlocked;
            self.dependencies.metrics.bulk_rescoring.customers.inc_by(unlocked);
            self.pace.pause(started, LONGEST_PAUSE).await;
        }
        // Commits together: the position of the pass and its count. A crash may return both to an
        // earlier state.
        let mut tx = db.begin().await?;
        let step = EvaluationStep { version, last_customer_id, customers: page.up_to_date };
        audience_evaluation::advance(&mut tx, step).await?;
        tx.commit_without_flush().await?;
        let progress = audience_evaluation::find(db.read()).await?;
        self.dependencies.metrics.bulk_rescoring.pending.set(progress.remaining_customers());
        Ok(true)
    }

    /// Evaluates the customers that no other session has locked. Returns their number.
    async fn evaluate_batch(
        &self,
        deployment: &Deployment,
        batch: &[CustomerKey],
    ) -> Result<u64, ServiceError> {
        let RescoringDependencies { db, clock, customer_cache, metrics, .. } = &self.dependencies;
        let version = deployment.audiences.version();
        let keys: Vec<&CustomerKey> = batch.iter().collect();
        let Some(last) = batch.last() else { return Ok(0) };
        // Commits together: the evaluated customers with their history, and the position of the
        // pass.
        let mut tx = db.begin().await?;
        let mut unlocked = customers::lock_available(&mut tx, &keys).await?;
        let customers = unlocked.len();
        // An event may have evaluated a customer since the page was read.
        unlocked.retain(|stored| {
            stored.row.previous.as_ref().is_some_and(|before| before.audience_version < version)
        });
        let now = clock.now();
        let decisions = rescoring::rescore_customers(&mut tx, deployment, &unlocked, now).await?;
        let count = i64::try_from(customers).unwrap_or(i64::MAX);
        let step = EvaluationStep { version, last_customer_id: last.as_str(), customers: count };
        audience_evaluation::advance(&mut tx, step).await?;
        rescoring::commit(tx, decisions).await?;
        customer_cache.invalidate(unlocked.iter().map(|stored| &stored.customer));
        decisions.add_to(&metrics.ingestion.assignments);
        Ok(customers as u64)
    }

    /// Records the end of a pass.
    async fn finish(&self, version: i64, pass: &EvaluationPass) -> Result<(), ServiceError> {
        // Commits together: the result of the pass, and the start of the next one.
        let mut tx = self.dependencies.db.begin().await?;
        if pass.is_whole && pass.evaluated == 0 && pass.skipped == 0 {
            audience_evaluation::finish_pass(&mut tx, version).await?;
        } else {
            let left = i64::try_from(pass.skipped).unwrap_or(i64::MAX);
            audience_evaluation::restart_pass(&mut tx, version, left).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Estimated number of customers that the audiences or the models of this deployment are still to
/// be evaluated for; 0 only if there is none.
pub async fn count_pending(
    db: &ReadOnlyDatabase,
    deployment: &Deployment,
) -> Result<i64, StoreError> {
    let stale = customers::count_stale(db, deployment.oldest_generation()).await?;
    let progress = audience_evaluation::find(db).await?;
    let version = deployment.audiences.version();
    let unevaluated = if progress.is_complete(version) {
        0
    } else if progress.version < version {
        // The evaluation has not begun.
        customers::count_assigned(db).await?.max(1)
    } else {
        progress.remaining_customers()
    };
    // The evaluation covers the customers of earlier deployments too.
    Ok(stale.max(unevaluated))
}
