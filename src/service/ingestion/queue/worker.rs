//! Shard workers: the queue for validated events, and the tasks that commit them.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use crate::service::ServiceError;
use crate::service::error::SharedError;
use crate::service::ingestion::Core;
use crate::service::ingestion::commit::batch_cache::Known;
use crate::service::ingestion::commit::precompute::Ahead;
use crate::service::ingestion::commit::separate::{One, commit_apart};
use crate::service::ingestion::commit::{Answer, Failure, commit};
use crate::service::ingestion::queue::locked_customers::Leaving;
use crate::service::ingestion::queue::scheduler::{Batch, Board, Charge, Taken};
use crate::service::limits::resource_user::ResourceUser;
use crate::store::DedicatedDb;
use crate::store::customers::events::Arrived;
use crate::store::database::time_limits::Purpose;

/// Entry to the queue of every shard. Callers bound the number of queued events
/// ([`Charge`]).
#[derive(Debug)]
pub(crate) struct Shards {
    board: Arc<Board>,
    core: Arc<Core>,
    count: usize,
}

/// Commit worker; one per shard.
#[derive(Debug)]
pub struct Worker {
    number: usize,
    board: Arc<Board>,
    core: Arc<Core>,
    db: DedicatedDb,
    /// Connection for retries of events set aside; only one worker has it.
    retries: Option<DedicatedDb>,
}

pub(crate) fn new(core: &Arc<Core>, shards: usize) -> (Shards, Vec<Worker>) {
    let shards = shards.max(1);
    let board = Arc::new(Board::new(shards));
    let worker = |number| {
        let (board, core) = (Arc::clone(&board), Arc::clone(core));
        let db = core.db.dedicated_for(Purpose::Commit, 1);
        let retries = (number == 0).then(|| core.db.dedicated_for(Purpose::Commit, 1));
        Worker { number, board, core, db, retries }
    };
    let workers = (0..shards).map(worker).collect();
    (Shards { board, core: Arc::clone(core), count: shards }, workers)
}

impl Shards {
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Queues the events of one user in this shard and waits for their commit. Returns
    /// one verdict per event, in order.
    pub(crate) async fn commit(
        &self,
        user: ResourceUser,
        shard: usize,
        events: Vec<Arrived>,
        mut charge: Charge,
    ) -> Answer {
        let mut verdicts = Vec::with_capacity(events.len());
        let mut events = VecDeque::from(events);
        while !events.is_empty() {
            // A caller with many events queues one batch at a time and takes turns like
            // others.
            let most = self.core.max_batch_events;
            let batch: Vec<Arrived> = events.drain(..events.len().min(most)).collect();
            let ahead = match &batch[..] {
                [alone] => Ahead::make(&self.core, alone),
                _ => None,
            };
            let charge = charge.split(batch.len());
            let (answer, answered) = oneshot::channel();
            self.board.put(shard, Batch { user, events: batch, charge, ahead, answer });
            let stopped = |_| ServiceError::Unavailable("segmentd is stopping".into());
            verdicts.extend(answered.await.map_err(stopped)??);
        }
        Ok(verdicts)
    }
}

impl Worker {
    /// Commits until `stopped`; events already queued are still committed.
    pub async fn run(self, stopped: impl Future<Output = ()>) {
        let Self { retries, .. } = &self;
        let commits = async {
            let _leaving = Leaving(Arc::clone(&self.core));
            self.run_commits(stopped).await;
        };
        match retries {
            Some(db) => {
                tokio::join!(commits, self.core.aside.run(&self.core, db));
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
            let next = self.board.next(self.number, &done, self.core.max_batch_events);
            done.clear();
            if let Some(Taken { shards, batches }) = next {
                // A panic drops the batches, and a dropped answer channel fails its
                // caller.
                if AssertUnwindSafe(self.work(batches)).catch_unwind().await.is_err() {
                    tracing::error!("a commit panicked; senders may repeat its events");
                }
                done = shards;
                continue;
            }
            // `biased`: a wake-up is served before the stop, so queued events are committed.
            tokio::select! {
                biased;
                () = self.board.called(self.number) => {}
                () = &mut stopped => break,
            }
        }
        self.board.leave(self.number);
    }

    /// Commits the batches of several callers in one transaction, and answers each
    /// caller.
    async fn work(&self, batches: Vec<Batch>) {
        // Committed together, the events would wait for the lock of a customer known to
        // be locked.
        if self.core.aside.concerns(batches.iter().flat_map(|batch| &batch.events)) {
            return commit_apart(&self.core, &self.db, One::of(batches)).await;
        }
        let mut callers = Vec::new();
        let (mut all, mut known) = (Vec::new(), Known::default());
        for Batch { user, events, charge, ahead, answer } in batches {
            callers.push(Caller { user, size: events.len(), charge, answer });
            all.extend(events);
            if let Some(ahead) = ahead {
                known.add(ahead);
            }
        }
        match commit(&self.core, &self.db, &all, known).await {
            Ok(committed) => {
                let mut verdicts = committed.verdicts(all);
                for caller in callers {
                    // The caller may have disconnected; its verdicts are dropped then.
                    let own = verdicts.by_ref().take(caller.size).collect();
                    let _ = caller.answer.send(Ok(own));
                }
            }
            // The database is gone: dividing the batch would only repeat the error for
            // each part.
            Err(Failure::Service(error @ ServiceError::Unavailable(_))) => {
                let shared = SharedError::of(error);
                for caller in callers {
                    let _ = caller.answer.send(Err(shared.again()));
                }
            }
            Err(failure) => {
                tracing::debug!(reason = %failure, "a shared commit is divided");
                let mut all = all.into_iter();
                let batches = callers.into_iter().map(|caller| Batch {
                    user: caller.user,
                    events: all.by_ref().take(caller.size).collect(),
                    charge: caller.charge,
                    ahead: None,
                    answer: caller.answer,
                });
                let events = One::of(batches.collect());
                commit_apart(&self.core, &self.db, events).await;
            }
        }
    }
}

/// One caller of a shared commit. Its charge is released with the answer.
struct Caller {
    user: ResourceUser,
    size: usize,
    charge: Charge,
    answer: oneshot::Sender<Answer>,
}
