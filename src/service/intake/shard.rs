//! The way in for events that are right, and the workers that commit them.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use crate::service::ServiceError;
use crate::service::error::SharedError;
use crate::service::intake::Core;
use crate::service::intake::ahead::Ahead;
use crate::service::intake::apart::{One, commit_apart};
use crate::service::intake::aside::Leaving;
use crate::service::intake::board::{Batch, Board, Taken};
use crate::service::intake::commit::{Answer, Failure, commit};
use crate::service::intake::known::Known;
use crate::store::DedicatedDb;
use crate::store::events::Arrived;
use crate::store::time_limits::Purpose;

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
    /// Of the worker that also tries again what was set aside.
    retries: Option<DedicatedDb>,
}

pub(super) fn new(core: &Arc<Core>, shards: usize) -> (Shards, Vec<Worker>) {
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
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns once all of these events are committed; one verdict each, in order. All
    /// of them belong to the shard of this number.
    pub(super) async fn commit(&self, shard: usize, events: Vec<Arrived>) -> Answer {
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
            let (answer, answered) = oneshot::channel();
            self.board.put(shard, Batch { events: batch, ahead, answer });
            let stopped = |_| ServiceError::Unavailable("segmentd is stopping".into());
            verdicts.extend(answered.await.map_err(stopped)??);
        }
        Ok(verdicts)
    }
}

impl Worker {
    /// Commits until `stopped`; what waits by then is committed still.
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
    }

    /// Commits what several callers have sent, and answers each.
    async fn work(&self, batches: Vec<Batch>) {
        if self.core.aside.concerns(batches.iter().flat_map(|batch| &batch.events)) {
            return commit_apart(&self.core, &self.db, One::of(batches)).await;
        }
        let (mut sizes, mut answers) = (Vec::new(), Vec::new());
        let (mut all, mut known) = (Vec::new(), Known::default());
        for Batch { events, ahead, answer } in batches {
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
            Err(Failure::Service(error @ ServiceError::Unavailable(_))) => {
                let shared = SharedError::of(error);
                for answer in answers {
                    let _ = answer.send(Err(shared.again()));
                }
            }
            Err(failure) => {
                tracing::debug!(?failure, "a commit is divided");
                let mut all = all.into_iter();
                let batches = sizes.into_iter().zip(answers).map(|(size, answer)| Batch {
                    events: all.by_ref().take(size).collect(),
                    ahead: None,
                    answer,
                });
                let events = One::of(batches.collect());
                commit_apart(&self.core, &self.db, events).await;
            }
        }
    }
}
