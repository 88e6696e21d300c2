//! Backfill: rebuilds customer states from events, after a feature change or as a repair,
//! while ingestion continues.
//!
//! Ingestion rebuilds an unreadable state at its customer's next event; the backfill
//! rebuilds all others. Unreadable states are visible in the data, so a run that was
//! killed is continued by the next one. A rebuild of all states has no such mark, so it
//! works through a stored list of id ranges. Several runs may be active at once: each
//! skips what another has locked.

mod batch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::feature::{CustomerState, FeatureSet, FeatureValue};
use crate::domain::id::CustomerKey;
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::scoring::serving::ServingState;
use crate::store::customers::backfill::{BackfillRanges, ClaimedRange};
use crate::store::customers::{StoredState, backfill, identity};
use crate::store::{DatabaseHandle, customers};
use batch::{BackfillBatch, LockedRows, RebuildScope, RebuiltCustomer};

/// Customers per transaction. They stay locked for its duration: some milliseconds each
/// with a long history.
const BATCH_CUSTOMERS: usize = 50;

#[derive(Debug)]
pub struct BackfillService {
    db: DatabaseHandle,
    serving: Arc<ServingState>,
    clock: TimeSource,
    pause_ratio: f64,
}

/// Counts of one backfill run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct BackfillSummary {
    pub rebuilt: u64,
    /// Correct before, or corrected by another writer meanwhile.
    pub unchanged: u64,
    /// Left unchanged, by reason.
    pub failures_by_reason: BTreeMap<String, u64>,
}

impl BackfillSummary {
    pub(crate) fn failure_count(&self) -> u64 {
        self.failures_by_reason.values().sum()
    }

    fn add(&mut self, done: BackfillBatch<'_>) {
        self.rebuilt += done.rebuilt_customers.len() as u64;
        self.unchanged += done.unchanged;
        for reason in done.failed {
            *self.failures_by_reason.entry(reason).or_default() += 1;
        }
    }
}

/// Result for one customer.
#[derive(Debug)]
pub(crate) enum CustomerFinding {
    /// The state equals a replay of the events.
    Equal,
    /// The state was missing or unreadable, and was rebuilt.
    Restored,
    /// Features that differed: name, stored value, replayed value. Empty if the
    /// difference is not visible in the present row.
    Differed(Vec<(String, FeatureValue, FeatureValue)>),
    /// Left unchanged, with the reason.
    Failed(String),
}

/// Progress callback: done, total.
pub(crate) type ProgressCallback<'p> = &'p (dyn Fn(u64, u64) + Sync);

impl BackfillService {
    /// `pause_ratio`: the pause after each batch, as a multiple of the batch's duration.
    pub fn new(
        db: DatabaseHandle,
        serving: Arc<ServingState>,
        clock: TimeSource,
        pause_ratio: f64,
    ) -> Self {
        Self { db, serving, clock, pause_ratio }
    }

    /// Rebuilds the states that the current feature set cannot read.
    pub(crate) async fn rebuild_unreadable(
        &self,
        progress: ProgressCallback<'_>,
    ) -> Result<BackfillSummary, ServiceError> {
        let mut tally = BackfillSummary::default();
        if self.rebuild_pass(LockedRows::Skip, &mut tally, progress).await? > 0 {
            // Some were locked by ingestion or another run. A second pass handles what
            // these left.
            self.rebuild_pass(LockedRows::Wait, &mut tally, progress).await?;
        }
        Ok(tally)
    }

    /// Compares every state with a replay of its events, and rebuilds different ones.
    /// `begun` receives the ranges to process.
    pub(crate) async fn rebuild_all(
        &self,
        begun: impl FnOnce(BackfillRanges),
        progress: ProgressCallback<'_>,
    ) -> Result<BackfillSummary, ServiceError> {
        let features = &Arc::clone(&self.serving.snapshot().features);
        // Commits alone: the list of ranges to process.
        let mut tx = self.db.begin().await?;
        tx.raise_time_limits(&self.db).await?;
        let ranges = backfill::open_ranges(&mut tx, features, self.clock.now()).await?;
        tx.commit().await?;
        begun(ranges);
        let mut tally = BackfillSummary::default();
        while let Some(range) = ClaimedRange::claim(&self.db, features).await? {
            let keys = range.list_customers(self.db.read()).await?;
            // A new model may have been deployed since the last range.
            self.serving.refresh_deployment().await?;
            for keys in keys.chunks(BATCH_CUSTOMERS) {
                tally.add(self.run_batch(keys, RebuildScope::All, LockedRows::Wait).await?);
            }
            range.finish().await?;
            let left = backfill::count_open_ranges(self.db.read(), features).await?;
            let done = ranges.open_ranges.saturating_sub(left);
            progress(done.unsigned_abs(), ranges.open_ranges.unsigned_abs());
        }
        Ok(tally)
    }

    /// [`Self::rebuild_all`] for these customers, given by their surviving ids, in order.
    pub(crate) async fn rebuild_customers(
        &self,
        customers: &[CustomerKey],
        progress: ProgressCallback<'_>,
    ) -> Result<BackfillSummary, ServiceError> {
        let mut tally = BackfillSummary::default();
        for (place, keys) in customers.chunks(BATCH_CUSTOMERS).enumerate() {
            tally.add(self.run_batch(keys, RebuildScope::All, LockedRows::Wait).await?);
            let done = (place * BATCH_CUSTOMERS + keys.len()) as u64;
            progress(done, customers.len() as u64);
        }
        Ok(tally)
    }

    /// Compares one customer's state with a replay of its events, and rebuilds it if it
    /// differs.
    pub(crate) async fn rebuild_customer(
        &self,
        customer: &CustomerKey,
    ) -> Result<CustomerFinding, ServiceError> {
        let survivor = identity::find_canonical(self.db.read(), customer).await?;
        let keys = std::slice::from_ref(survivor.as_ref().unwrap_or(customer));
        let mut done = self.run_batch(keys, RebuildScope::All, LockedRows::Wait).await?;
        if let Some(why) = done.failed.pop() {
            return Ok(CustomerFinding::Failed(why));
        }
        match done.rebuilt_customers.pop() {
            Some(rebuilt) => Ok(self.compare_features(&rebuilt)),
            None if done.unchanged > 0 => Ok(CustomerFinding::Equal),
            None => Err(ServiceError::NotFound("such customer".into())),
        }
    }

    /// The features that differ between the stored and the rebuilt state.
    fn compare_features(&self, customer: &RebuiltCustomer<'_>) -> CustomerFinding {
        let features = &self.serving.snapshot().features;
        let Some(stored) = &customer.before else { return CustomerFinding::Restored };
        let Ok(stored) = CustomerState::from_bytes(features, stored) else {
            return CustomerFinding::Restored;
        };
        let now = self.clock.now();
        let (before, after) =
            (stored.feature_row(features, now), customer.state.feature_row(features, now));
        let mut differing = Vec::new();
        for ((feature, before), after) in features.features().iter().zip(before.0).zip(after.0) {
            if before != after {
                differing.push((feature.name.to_string(), before, after));
            }
        }
        CustomerFinding::Differed(differing)
    }

    /// Visits all customers once. Returns the number of customers skipped.
    async fn rebuild_pass(
        &self,
        wait: LockedRows,
        tally: &mut BackfillSummary,
        progress: ProgressCallback<'_>,
    ) -> Result<usize, ServiceError> {
        let total = customers::count(self.db.read()).await?.unsigned_abs();
        // Failures of the previous pass are retried.
        tally.failures_by_reason = BTreeMap::new();
        let (mut after, mut visited, mut skipped) = (String::new(), 0, 0);
        loop {
            let page = backfill::read_page(self.db.read(), &after).await?;
            let Some(last) = page.last() else { break };
            last.customer.as_str().clone_into(&mut after);
            visited += page.len() as u64;
            self.serving.refresh_deployment().await?;
            // Decided without locks; the batch checks again once it has locked the rows.
            let stale = unreadable_customers(&self.serving.snapshot().features, page);
            for keys in stale.chunks(BATCH_CUSTOMERS) {
                let done = self.run_batch(keys, RebuildScope::Unreadable, wait).await?;
                skipped += done.skipped;
                tally.add(done);
            }
            progress(visited, total.max(visited));
        }
        let touched = tally.rebuilt + tally.failure_count();
        tally.unchanged = visited.saturating_sub(touched);
        Ok(skipped)
    }

    async fn run_batch<'k>(
        &self,
        keys: &'k [CustomerKey],
        scope: RebuildScope,
        wait: LockedRows,
    ) -> Result<BackfillBatch<'k>, ServiceError> {
        let started = Instant::now();
        let done = batch::run(self, keys, scope, wait).await?;
        let pause = started.elapsed().mul_f64(self.pause_ratio);
        tokio::time::sleep(pause.min(Duration::from_secs(10))).await;
        Ok(done)
    }
}

/// Customers with a state that these features cannot read, in byte order.
fn unreadable_customers(features: &FeatureSet, page: Vec<StoredState>) -> Vec<CustomerKey> {
    // Decoding a page takes a millisecond or two: too long for an async thread.
    let mut keys = tokio::task::block_in_place(|| {
        let mut keys = Vec::new();
        for stored in page {
            if CustomerState::from_bytes(features, &stored.state).is_err() {
                keys.push(stored.customer);
            }
        }
        keys
    });
    keys.sort();
    keys
}
