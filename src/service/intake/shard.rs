//! The shards' queues, and the workers that commit what is in them.
//!
//! A worker takes what waits in a shard that nobody is working on. While little
//! waits there is one transaction at a time, for all shards: it costs about as much
//! as twenty events, so under many small requests one large transaction is worth
//! more than two small ones side by side. The first worker that rests is the one to
//! be woken: it finds its connection, and the server its process, as they left them.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use tokio::sync::{Notify, oneshot};

use crate::domain::event::Event;
use crate::service::ServiceError;
use crate::service::intake::Core;
use crate::service::intake::commit::{Committed, commit};
use crate::store::DeferredDb;
use crate::store::assignments::Assignment;
use crate::store::events::Arrived;

/// With so many events a transaction beside another is worth its while.
const ENOUGH_EVENTS: usize = 64;

/// One event after its commit; without a standing it had been counted before.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) event: Event,
    pub(super) standing: Option<Arc<Assignment>>,
}

type Answer = Result<Vec<Verdict>, ServiceError>;

/// The events of one caller, and where it waits.
#[derive(Debug)]
struct Batch {
    events: Vec<Arrived>,
    answer: oneshot::Sender<Answer>,
}

/// The way in. How much may wait is bounded by whoever sends.
#[derive(Debug)]
pub(super) struct Shards {
    board: Arc<Board>,
    count: usize,
    max_batch_events: usize,
}

/// What commits the shards' events; there is one a shard.
#[derive(Debug)]
pub struct Worker {
    number: usize,
    board: Arc<Board>,
    core: Arc<Core>,
    db: DeferredDb,
}

/// What waits where, and who rests.
#[derive(Debug)]
struct Board {
    all: Mutex<All>,
    /// One for each worker.
    calls: Vec<Notify>,
}

#[derive(Debug)]
struct All {
    shards: Vec<Shard>,
    workers: Vec<Doing>,
    /// The shard that is looked at first, so that each has its turn.
    first: usize,
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Work,
    /// It has found nothing to do, and has not been called since.
    Rest,
    /// It is about to look for work.
    Wake,
    /// It will do no more.
    Nothing,
}

#[derive(Debug, Default)]
struct Shard {
    queue: VecDeque<Batch>,
    waiting_events: usize,
    /// A worker has taken from it and is not done: what comes later waits, so that
    /// no two transactions of this process ever meet at a customer.
    is_taken: bool,
}

/// What a worker has taken.
#[derive(Debug, Default)]
struct Taken {
    shards: Vec<usize>,
    batches: Vec<Batch>,
}

pub(super) fn new(core: &Arc<Core>, shards: usize) -> (Shards, Vec<Worker>) {
    let shards = shards.max(1);
    let each = 0..shards;
    let all = All {
        shards: each.clone().map(|_| Shard::default()).collect(),
        workers: vec![Doing::Wake; shards],
        first: 0,
    };
    let calls = each.clone().map(|_| Notify::new()).collect();
    let board = Arc::new(Board { all: Mutex::new(all), calls });
    let worker = |number| {
        let (board, core) = (Arc::clone(&board), Arc::clone(core));
        let db = core.db.deferred(1);
        Worker { number, board, core, db }
    };
    let workers = each.map(worker).collect();
    (Shards { board, count: shards, max_batch_events: core.max_batch_events }, workers)
}

impl Shards {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns once all of these events are committed and on disk; one verdict each,
    /// in order. All of them belong to the shard of this number.
    pub(super) async fn commit(&self, shard: usize, events: Vec<Arrived>) -> Answer {
        let mut verdicts = Vec::with_capacity(events.len());
        let mut events = VecDeque::from(events);
        while !events.is_empty() {
            // A caller with many events takes its turns like everybody.
            let batch = events.drain(..events.len().min(self.max_batch_events)).collect();
            let (answer, answered) = oneshot::channel();
            self.board.put(shard, Batch { events: batch, answer });
            let stopped = |_| ServiceError::Unavailable("segmentd is stopping".into());
            verdicts.extend(answered.await.map_err(stopped)??);
        }
        Ok(verdicts)
    }
}

impl Board {
    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, shard: usize, batch: Batch) {
        let mut all = self.all();
        let shard = &mut all.shards[shard];
        shard.waiting_events += batch.events.len();
        shard.queue.push_back(batch);
        self.call(&mut all);
    }

    /// What this worker does next, after it is `done` with some shards. `None`: it
    /// will be called.
    fn next(&self, worker: usize, done: &[usize], max_batch_events: usize) -> Option<Taken> {
        let mut all = self.all();
        for number in done {
            all.shards[*number].is_taken = false;
        }
        if !all.are_due() {
            all.workers[worker] = Doing::Rest;
            return None;
        }
        all.workers[worker] = Doing::Work;
        let mut taken = Taken::default();
        let mut events = 0;
        let (first, count) = (all.first, all.shards.len());
        for number in (first..first + count).map(|number| number % count) {
            let shard = &mut all.shards[number];
            if !shard.is_free() {
                continue;
            }
            events += shard.take(max_batch_events - events, &mut taken.batches);
            taken.shards.push(number);
            all.first = number + 1;
            if events >= ENOUGH_EVENTS.min(max_batch_events) {
                break;
            }
        }
        self.call(&mut all);
        Some(taken)
    }

    /// Whoever was called last may not come any more: another one does.
    fn leave(&self, worker: usize) {
        let mut all = self.all();
        all.workers[worker] = Doing::Nothing;
        self.call(&mut all);
    }

    /// Calls a worker if there is something to do and none is about to look. One
    /// calls the next.
    fn call(&self, all: &mut All) {
        if !all.are_due() || all.workers.contains(&Doing::Wake) {
            return;
        }
        if let Some(first) = all.workers.iter().position(|doing| *doing == Doing::Rest) {
            all.workers[first] = Doing::Wake;
            self.calls[first].notify_one();
        }
    }
}

impl All {
    fn are_due(&self) -> bool {
        let free = self.shards.iter().filter(|shard| shard.is_free());
        let waiting: usize = free.map(|shard| shard.waiting_events).sum();
        let idle = || !self.shards.iter().any(|shard| shard.is_taken);
        waiting >= ENOUGH_EVENTS || (waiting > 0 && idle())
    }
}

impl Shard {
    fn is_free(&self) -> bool {
        !self.is_taken && !self.queue.is_empty()
    }

    /// Takes batches until they hold `enough` events; returns how many they hold.
    fn take(&mut self, enough: usize, batches: &mut Vec<Batch>) -> usize {
        let mut events = 0;
        while events < enough {
            let Some(batch) = self.queue.pop_front() else { break };
            events += batch.events.len();
            batches.push(batch);
        }
        self.waiting_events -= events;
        self.is_taken = true;
        events
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
                () = self.board.calls[self.number].notified() => {}
                () = &mut stopped => break,
            }
        }
        self.board.leave(self.number);
        self.db.close().await;
    }

    /// Commits what several callers have sent, and answers each.
    async fn work(&self, batches: Vec<Batch>) {
        let (events, answers): (Vec<_>, Vec<_>) =
            batches.into_iter().map(|batch| (batch.events, batch.answer)).unzip();
        let sizes: Vec<usize> = events.iter().map(Vec::len).collect();
        let all: Vec<Arrived> = events.into_iter().flatten().collect();
        match commit(&self.core, &self.db, &all).await {
            Ok(committed) => self.core.durability.then(move |flushed| {
                if flushed.is_ok() {
                    committed.is_on_disk();
                }
                let mut verdicts = verdicts(all, committed);
                for (size, answer) in sizes.into_iter().zip(answers) {
                    let own: Vec<Verdict> = verdicts.by_ref().take(size).collect();
                    // A caller who has hung up does not wait for its verdicts.
                    let _ = answer.send(flushed.clone().map(|()| own).map_err(Into::into));
                }
            }),
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
                    let outcome = async {
                        let done = commit(&self.core, &self.db, &own).await?;
                        self.core.durability.reached().await?;
                        done.is_on_disk();
                        Ok(verdicts(own, done).collect())
                    };
                    let _ = answer.send(outcome.await);
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

pub(super) fn verdicts(
    events: Vec<Arrived>,
    committed: Committed,
) -> impl Iterator<Item = Verdict> {
    let Committed { standings, mut elsewhere, .. } = committed;
    events.into_iter().zip(standings).enumerate().map(
        move |(place, (Arrived { mut event, .. }, standing))| {
            if let Some(customer) = elsewhere.remove(&place) {
                event.customer = customer;
            }
            Verdict { event, standing }
        },
    )
}

/// One cause, told to every caller of a transaction.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
struct Shared(Arc<dyn std::error::Error + Send + Sync>);
