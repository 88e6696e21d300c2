//! Shard workers: the queue for validated events, and the tasks that commit them.

use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use crate::service::ServiceError;
use crate::service::error::SharedError;
use crate::service::ingestion::IngestionCore;
use crate::service::ingestion::commit::batch_cache::BatchCache;
use crate::service::ingestion::commit::contents::ConflictPolicy;
use crate::service::ingestion::commit::pending::PendingEvent;
use crate::service::ingestion::commit::precompute::PrecomputedCustomer;
use crate::service::ingestion::commit::separate::commit_separately;
use crate::service::ingestion::commit::{BatchAnswer, BatchFailure, IncomingBatch, commit};
use crate::service::ingestion::queue::locked_customers::WorkerGuard;
use crate::service::ingestion::queue::scheduler::{
    AssignedWork, QueueCharge, QueuedBatch, ShardScheduler,
};
use crate::service::limits::resource_user::ResourceUser;
use crate::store::DedicatedDatabase;
use crate::store::customers::events::ReceivedEvent;
use crate::store::database::time_limits::ConnectionPurpose;

/// Entry to the queue of every shard. Callers bound the number of queued events
/// ([`QueueCharge`]).
#[derive(Debug)]
pub(crate) struct CommitQueue {
    scheduler: Arc<ShardScheduler>,
    core: Arc<IngestionCore>,
    count: usize,
}

/// Commit worker; one per shard.
#[derive(Debug)]
pub struct CommitWorker {
    number: usize,
    scheduler: Arc<ShardScheduler>,
    core: Arc<IngestionCore>,
    db: DedicatedDatabase,
    /// Connection for retries of events set aside; only one worker has it.
    retries: Option<DedicatedDatabase>,
}

pub(crate) fn create(core: &Arc<IngestionCore>, shards: usize) -> (CommitQueue, Vec<CommitWorker>) {
    let shards = shards.max(1);
    let scheduler = Arc::new(ShardScheduler::new(shards));
    let mut workers = Vec::with_capacity(shards);
    for number in 0..shards {
        // A connection per worker: its session stays warm, and no batch waits for a
        // pooled one.
        let db = core.db.dedicated_pool_for(ConnectionPurpose::Commit, 1);
        let retries =
            (number == 0).then(|| core.db.dedicated_pool_for(ConnectionPurpose::Commit, 1));
        let (scheduler, core) = (Arc::clone(&scheduler), Arc::clone(core));
        workers.push(CommitWorker { number, scheduler, core, db, retries });
    }
    (CommitQueue { scheduler, core: Arc::clone(core), count: shards }, workers)
}

impl CommitQueue {
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Queues the events of one user in this shard and waits for their commit. Returns
    /// one verdict per event, in order.
    pub(crate) async fn commit(
        &self,
        user: ResourceUser,
        shard: usize,
        events: Vec<ReceivedEvent>,
        mut charge: QueueCharge,
    ) -> BatchAnswer {
        let mut verdicts = Vec::with_capacity(events.len());
        let mut events = VecDeque::from(events);
        while !events.is_empty() {
            // A caller with many events queues one batch at a time and takes turns like
            // others.
            let most = self.core.max_batch_events;
            let batch: Vec<ReceivedEvent> = events.drain(..events.len().min(most)).collect();
            let precomputed = match &batch[..] {
                [alone] => PrecomputedCustomer::compute(&self.core, alone),
                _ => None,
            };
            let charge = charge.split(batch.len());
            let (answer, answered) = oneshot::channel();
            self.scheduler
                .enqueue(shard, QueuedBatch { user, events: batch, charge, precomputed, answer });
            let Ok(answer) = answered.await else {
                return Err(ServiceError::Unavailable("segmentd is stopping".into()));
            };
            verdicts.extend(answer?);
        }
        Ok(verdicts)
    }
}

impl CommitWorker {
    /// Commits until `stopped`; events already queued are still committed.
    pub async fn run(self, stopped: impl Future<Output = ()>) {
        let Self { retries, .. } = &self;
        let commits = async {
            let _guard = WorkerGuard(Arc::clone(&self.core));
            self.run_commits(stopped).await;
        };
        match retries {
            Some(db) => {
                tokio::join!(commits, self.core.locked_customers.run(&self.core, db));
                db.close().await;
            }
            None => commits.await,
        }
        self.db.close().await;
    }

    async fn run_commits(&self, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        let mut done = Vec::new();
        loop {
            let next = self.scheduler.next_work(self.number, &done, self.core.max_batch_events);
            done.clear();
            if let Some(AssignedWork { shards, batches }) = next {
                // A panic drops the batches, and a dropped answer channel fails its
                // caller.
                if AssertUnwindSafe(self.commit_batches(batches)).catch_unwind().await.is_err() {
                    tracing::error!("a commit panicked; senders may repeat its events");
                }
                done = shards;
                continue;
            }
            // `biased`: a wake-up is served before the stop, so queued events are committed.
            tokio::select! {
                biased;
                () = self.scheduler.wait_for_wakeup(self.number) => {}
                () = &mut stopped => break,
            }
        }
        self.scheduler.end_worker(self.number);
    }

    /// Commits the batches of several callers in one transaction, and answers each
    /// caller.
    async fn commit_batches(&self, mut batches: Vec<QueuedBatch>) {
        // Committed together, the events would wait for the lock of a customer known to
        // be locked.
        if self.core.locked_customers.is_any_locked(batches.iter().flat_map(|batch| &batch.events))
        {
            return commit_separately(&self.core, &self.db, PendingEvent::split_batches(batches))
                .await;
        }
        let (mut all, mut known) = (Vec::new(), BatchCache::default());
        for batch in &mut batches {
            all.extend(mem::take(&mut batch.events));
            if let Some(precomputed) = batch.precomputed.take() {
                known.add_precomputed(precomputed);
            }
        }
        let batch = IncomingBatch { events: &all, on_conflict: ConflictPolicy::Report };
        match commit(&self.core, &self.db, batch, known).await {
            Ok(committed) => {
                let mut verdicts = committed.verdicts(all);
                for QueuedBatch { charge, answer, .. } in batches {
                    // The caller may have disconnected; its verdicts are dropped then.
                    let own = verdicts.by_ref().take(charge.events()).collect();
                    let _ = answer.send(Ok(own));
                }
            }
            // The database is gone: dividing the batch would only repeat the error for
            // each part.
            Err(BatchFailure::Service(error @ ServiceError::Unavailable(_))) => {
                let shared = SharedError::from_error(error);
                for batch in batches {
                    let _ = batch.answer.send(Err(shared.to_error()));
                }
            }
            Err(failure) => {
                tracing::debug!(reason = %failure, "a shared commit is divided");
                let mut all = all.into_iter();
                for batch in &mut batches {
                    batch.events = all.by_ref().take(batch.charge.events()).collect();
                }
                let events = PendingEvent::split_batches(batches);
                commit_separately(&self.core, &self.db, events).await;
            }
        }
    }
}
