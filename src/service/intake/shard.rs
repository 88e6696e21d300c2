//! The way in for events that are right, and the workers that commit them.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use crate::service::ServiceError;
use crate::service::intake::Core;
use crate::service::intake::ahead::Ahead;
use crate::service::intake::board::{Batch, Board, Charge, Taken};
use crate::service::intake::commit::{Answer, commit};
use crate::service::intake::known::Known;
use crate::service::resource_user::ResourceUser;
use crate::store::DedicatedDb;
use crate::store::events::Arrived;

/// The way in. How much may wait is bounded by whoever sends.
#[derive(Debug)]
pub(super) struct Shards {
    board: Arc<Board>,
    core: Arc<Core>,
    count: usize,
}

/// What commits the shards' events; there is one a shard.
#[derive(Debug)]
pub struct Worker {
    number: usize,
    board: Arc<Board>,
    core: Arc<Core>,
    db: DedicatedDb,
}

pub(super) fn new(core: &Arc<Core>, shards: usize) -> (Shards, Vec<Worker>) {
    let shards = shards.max(1);
    let board = Arc::new(Board::new(shards));
    let worker = |number| {
        let (board, core) = (Arc::clone(&board), Arc::clone(core));
        let db = core.db.dedicated(1);
        Worker { number, board, core, db }
    };
    let workers = (0..shards).map(worker).collect();
    (Shards { board, core: Arc::clone(core), count: shards }, workers)
}

impl Shards {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns once all of these events of one user are committed; one verdict each, in
    /// order. All of them belong to the shard of this number.
    pub(super) async fn commit(
        &self,
        user: ResourceUser,
        shard: usize,
        events: Vec<Arrived>,
        mut charge: Charge,
    ) -> Answer {
        let mut verdicts = Vec::with_capacity(events.len());
        let mut events = VecDeque::from(events);
        while !events.is_empty() {
            // A caller with many events takes its turns like everybody.
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
    /// Commits until `stopped`; what waits by then is committed still.
    pub async fn run(self, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        let mut done = Vec::new();
        loop {
            let next = self.board.next(self.number, &done, self.core.max_batch_events);
            done.clear();
            if let Some(Taken { shards, batches }) = next {
                // A batch that is dropped tells its caller.
                if AssertUnwindSafe(self.work(batches)).catch_unwind().await.is_err() {
                    tracing::error!("a commit panicked; its events may be sent again");
                }
                done = shards;
                continue;
            }
            tokio::select! {
                biased;
                () = self.board.called(self.number) => {}
                () = &mut stopped => break,
            }
        }
        self.board.leave(self.number);
        self.db.close().await;
    }

    /// Commits what several callers have sent, and answers each.
    async fn work(&self, batches: Vec<Batch>) {
        let (mut sizes, mut answers, mut charges) = (Vec::new(), Vec::new(), Vec::new());
        let (mut all, mut known) = (Vec::new(), Known::default());
        for Batch { events, charge, ahead, answer, .. } in batches {
            charges.push(charge);
            sizes.push(events.len());
            all.extend(events);
            if let Some(ahead) = ahead {
                known.add(ahead);
            }
            answers.push(answer);
        }
        match commit(&self.core, &self.db, &all, known).await {
            Ok(committed) => {
                let mut verdicts = committed.verdicts(all);
                for (size, answer) in sizes.into_iter().zip(answers) {
                    // A caller who has hung up does not wait for its verdicts.
                    let _ = answer.send(Ok(verdicts.by_ref().take(size).collect()));
                }
            }
            Err(ServiceError::Unavailable(why)) => {
                let why = Shared(why.into());
                for answer in answers {
                    let _ = answer.send(Err(ServiceError::Unavailable(Box::new(why.clone()))));
                }
            }
            // Nobody is to suffer from the events of others.
            Err(error) if answers.len() > 1 => {
                tracing::warn!(%error, "a shared transaction failed: each caller gets its own");
                let mut all = all.into_iter();
                for (size, answer) in sizes.into_iter().zip(answers) {
                    let own: Vec<Arrived> = all.by_ref().take(size).collect();
                    let done = commit(&self.core, &self.db, &own, Known::default()).await;
                    let _ = answer.send(done.map(|done| done.verdicts(own).collect()));
                }
            }
            Err(error) => {
                if let Some(answer) = answers.into_iter().next() {
                    let _ = answer.send(Err(error));
                }
            }
        }
    }
}

/// One cause, told to every caller of a transaction.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
struct Shared(Arc<dyn std::error::Error + Send + Sync>);
