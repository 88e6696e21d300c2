//! Lock-free commit: optimistic concurrency control over row versions.
//!
//! Each customer belongs to one shard of this process. So a conflict comes only from
//! another replica, a strict request, a background sweep, or an event that is sent again.
//! After a conflict the customers from the cache are read once and the commit is
//! repeated; after a second conflict the commit takes locks. Where conflicts are
//! frequent, [`AdaptiveBackoff`] starts with locks at once, which is cheaper.
//!
//! [`AdaptiveBackoff`]: crate::service::ingestion::commit::adaptive::AdaptiveBackoff

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::domain::drift::ScoreSource;
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::service::ingestion::IngestionCore;
use crate::service::ingestion::commit::batch_cache::{BatchCache, CachedCustomer};
use crate::service::ingestion::commit::contents::Conflicts;
use crate::service::ingestion::commit::fold::{FoldContext, FoldTask, FoldedCustomer};
use crate::service::ingestion::commit::{
    AttemptOutcome, CommittedBatch, IncomingBatch, contents, sorted_by_id,
};
use crate::service::scoring::deployment::Deployment;
use crate::service::scoring::history;
use crate::service::scoring::observations::BatchCounts;
use crate::store::customers::events::ReceivedEvent;
use crate::store::customers::lock_free;
use crate::store::customers::lock_free::{CommitWrite, CustomerSnapshot};
use crate::store::{DedicatedDatabase, StoreError};

/// A conflict costs about as much as this number of successful lock-free commits saves.
pub(crate) const CONFLICT_COST: i32 = 8;

/// Attempts the lock-free commit. After a conflict, or if locks are needed, nothing is
/// written.
pub(crate) async fn attempt(
    core: &IngestionCore,
    db: &DedicatedDatabase,
    incoming: IncomingBatch<'_>,
    known: BatchCache,
) -> Result<AttemptOutcome, StoreError> {
    let all = incoming.events;
    if !core.lock_free_backoff.is_enabled() {
        core.lock_free_backoff.record_success();
        return Ok(AttemptOutcome::NeedsNextStrategy);
    }
    let batch = LockFreeBatch::new(core, all);
    if let Some(failure) = contents::abort_on(&batch.conflicts, incoming.on_conflict) {
        return Ok(AttemptOutcome::Impossible(failure));
    }
    let Attempt { mut result, cached } = batch.attempt(core, db, known).await?;
    // The cached rows may be stale. Reading them costs less than a commit with locks.
    if cached > 0 && !matches!(result, AttemptResult::Committed(_)) {
        core.cache.record_stale(cached);
        let batch = LockFreeBatch::new(core, all);
        result = batch.attempt(core, db, BatchCache::default()).await?.result;
    }
    match result {
        AttemptResult::Committed(committed) => {
            core.lock_free_backoff.record_success();
            Ok(AttemptOutcome::Committed(committed))
        }
        AttemptResult::Conflict => {
            core.lock_free_backoff.record_failure();
            Ok(AttemptOutcome::NeedsNextStrategy)
        }
        AttemptResult::NeedsLocks => Ok(AttemptOutcome::NeedsNextStrategy),
    }
}

struct Attempt {
    result: AttemptResult,
    /// Customers that were taken from the cache and may be the cause of a failure.
    cached: usize,
}

enum AttemptResult {
    Committed(CommittedBatch),
    /// Another transaction wrote first.
    Conflict,
    /// The batch has a merged id, an unreadable state, or a change that only the database
    /// can classify.
    NeedsLocks,
}

/// What one attempt starts from: all its customers see one deployment and one instant.
struct LockFreeBatch<'b> {
    all: &'b [ReceivedEvent],
    by_id: Vec<usize>,
    /// Events of the batch that conflict with an earlier one of it. A conflict with a stored
    /// event fails the attempt.
    conflicts: Conflicts,
    deployment: Arc<Deployment>,
    now: Timestamp,
}

/// The customers of a batch before the database is read.
#[derive(Default)]
struct PreparedCustomers<'b> {
    folded: Vec<FoldedCustomer>,
    tasks: Vec<FoldTask>,
    /// Neither cached nor precomputed, with the indices of their events.
    unread: Vec<(&'b CustomerKey, Vec<usize>)>,
}

impl<'b> LockFreeBatch<'b> {
    fn new(core: &IngestionCore, all: &'b [ReceivedEvent]) -> Self {
        let (deployment, now) = (core.serving.snapshot(), core.clock.now());
        let by_id = sorted_by_id(all);
        let conflicts = contents::conflicts_within(all, &by_id);
        Self { all, by_id, conflicts, deployment, now }
    }

    async fn attempt(
        &self,
        core: &IngestionCore,
        db: &DedicatedDatabase,
        known: BatchCache,
    ) -> Result<Attempt, StoreError> {
        let mut tally = BatchCounts::new(ScoreSource::Events);
        let PreparedCustomers { mut folded, mut tasks, unread } = self.prepare(known, &mut tally);
        // Everything so far came from the cache or was precomputed; the rest is read.
        let (precomputed, cached) = (folded.len(), folded.len() + tasks.len());
        let mut rows = read_rows(db, &unread).await?;
        for (customer, events) in unread {
            let customer_key = customer.clone();
            tasks.push(match rows.remove(customer) {
                Some(seen) if seen.row.merged_into.is_some() => {
                    return Ok(Attempt { result: AttemptResult::NeedsLocks, cached });
                }
                Some(seen) => FoldTask::with_version(customer_key, events, seen),
                None => FoldTask::new(customer_key, events, None),
            });
        }
        let context = FoldContext { deployment: &self.deployment, events: self.all, now: self.now };
        let (newly_folded, unreadable) = FoldTask::run_all(tasks, context, &mut tally).await;
        folded.extend(newly_folded);
        // Rows are written in customer order, as in every transaction, so that none can
        // deadlock.
        folded.sort_unstable_by(|a, b| a.task.customer.cmp(&b.task.customer));
        let changes = history::find_changes(folded.iter().map(FoldedCustomer::change));
        let (Some((changes, decisions)), true) = (changes, unreadable.is_empty()) else {
            return Ok(Attempt { result: AttemptResult::NeedsLocks, cached });
        };
        let events: Vec<&ReceivedEvent> =
            self.by_id.iter().map(|index| &self.all[*index]).collect();
        let rows = folded.iter().map(FoldedCustomer::row).collect();
        let versions = folded.iter().map(|customer| customer.task.version).collect();
        let written = CommitWrite { events: &events, rows, versions, changes };
        let version = match lock_free::commit_batch(db, &written, self.now).await {
            Ok(version) => version,
            Err(StoreError::Lost(why)) => {
                tracing::debug!(%why, cached, "a lock-free commit met a conflicting write");
                return Ok(Attempt { result: AttemptResult::Conflict, cached });
            }
            Err(StoreError::Conflict { constraint }) => {
                tracing::debug!(
                    constraint,
                    "a lock-free commit contains an event that is already stored"
                );
                // No cached row is to blame: reading again would not help.
                return Ok(Attempt { result: AttemptResult::Conflict, cached: 0 });
            }
            Err(error) => return Err(error),
        };
        core.cache.record_commit(precomputed, cached, folded.len());
        tally.publish();
        decisions.add_to(&core.metrics.ingestion.assignments);
        let committed = CommittedBatch::new(self.all, &folded, self.conflicts.clone());
        core.cache.insert_written(folded.into_iter().map(|customer| customer.into_cached(version)));
        Ok(Attempt { result: AttemptResult::Committed(committed), cached })
    }

    /// Divides the customers into precomputed, cached and unread ones. Results that are
    /// still valid are used, and their scores counted in `tally`.
    fn prepare(&self, mut known: BatchCache, tally: &mut BatchCounts) -> PreparedCustomers<'b> {
        let mut events_of = BTreeMap::<&CustomerKey, Vec<usize>>::new();
        for index in &self.by_id {
            events_of.entry(&self.all[*index].event.customer).or_default().push(*index);
        }
        let mut prepared = PreparedCustomers::default();
        for (customer, events) in events_of {
            match known.remove(customer) {
                Some(CachedCustomer::Precomputed(precomputed)) => {
                    match precomputed.resolve(events, &self.deployment, tally) {
                        Ok(folded) => prepared.folded.push(folded),
                        Err(task) => prepared.tasks.push(*task),
                    }
                }
                Some(CachedCustomer::Committed(seen)) => {
                    prepared.tasks.push(FoldTask::with_version(customer.clone(), events, seen));
                }
                None => prepared.unread.push((customer, events)),
            }
        }
        prepared
    }
}

async fn read_rows(
    db: &DedicatedDatabase,
    unread: &[(&CustomerKey, Vec<usize>)],
) -> Result<HashMap<CustomerKey, CustomerSnapshot>, StoreError> {
    if unread.is_empty() {
        return Ok(HashMap::new());
    }
    let customers: Vec<&CustomerKey> = unread.iter().map(|(customer, _)| *customer).collect();
    lock_free::read(db, &customers).await
}
