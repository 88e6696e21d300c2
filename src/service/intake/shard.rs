//! The shards' queues, and the workers that commit what is in them.
//!
//! A worker takes what waits in a shard that nobody is working on. While little
//! waits there is one transaction at a time, for all shards: it costs about as much
//! as twenty events, so under many small requests one large transaction is worth
//! more than two small ones side by side.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::domain::event::Event;
use crate::service::ServiceError;
use crate::service::intake::Core;
use crate::service::intake::commit::{Committed, commit};
use crate::store::assignments::Assignment;
use crate::store::events::Arrived;

/// With so many events a transaction beside another is worth its while.
const ENOUGH_EVENTS: usize = 32;

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
    board: Arc<Board>,
    core: Arc<Core>,
}

/// What waits where.
#[derive(Debug)]
struct Board {
    shards: Mutex<All>,
    news: Notify,
}

#[derive(Debug)]
struct All(Vec<Shard>);

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
    let empty = (0..shards).map(|_| Shard::default()).collect();
    let board = Arc::new(Board { shards: Mutex::new(All(empty)), news: Notify::new() });
    let worker = |_| Worker { board: Arc::clone(&board), core: Arc::clone(core) };
    let workers = (0..shards).map(worker).collect();
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
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, shard: usize, batch: Batch) {
        let mut all = self.all();
        let shard = &mut all.0[shard];
        shard.waiting_events += batch.events.len();
        shard.queue.push_back(batch);
        self.tell(&all);
    }

    /// `None`: nothing is to be done yet.
    fn take(&self, max_batch_events: usize) -> Option<Taken> {
        let mut all = self.all();
        if !all.are_due() {
            return None;
        }
        let mut taken = Taken::default();
        let mut events = 0;
        for (number, shard) in all.0.iter_mut().enumerate().filter(|(_, shard)| shard.is_free()) {
            events += shard.take(max_batch_events - events, &mut taken.batches);
            taken.shards.push(number);
            if events >= ENOUGH_EVENTS.min(max_batch_events) {
                break;
            }
        }
        self.tell(&all);
        Some(taken)
    }

    fn give_back(&self, taken: &[usize]) {
        let mut all = self.all();
        for number in taken {
            all.0[*number].is_taken = false;
        }
        self.tell(&all);
    }

    /// Wakes a worker if there is something to do. One wakes the next.
    fn tell(&self, all: &All) {
        if all.are_due() {
            self.news.notify_one();
        }
    }
}

impl All {
    fn are_due(&self) -> bool {
        let free = self.0.iter().filter(|shard| shard.is_free());
        let waiting: usize = free.map(|shard| shard.waiting_events).sum();
        waiting >= ENOUGH_EVENTS || (waiting > 0 && !self.0.iter().any(|shard| shard.is_taken))
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
        loop {
            while let Some(Taken { shards, batches }) = self.board.take(self.core.max_batch_events)
            {
                self.work(batches).await;
                self.board.give_back(&shards);
            }
            tokio::select! {
                biased;
                () = self.board.news.notified() => {}
                () = &mut stopped => return,
            }
        }
    }

    /// Commits what several callers have sent, and answers each.
    async fn work(&self, batches: Vec<Batch>) {
        let (events, answers): (Vec<_>, Vec<_>) =
            batches.into_iter().map(|batch| (batch.events, batch.answer)).unzip();
        let sizes: Vec<usize> = events.iter().map(Vec::len).collect();
        let all: Vec<Arrived> = events.into_iter().flatten().collect();
        match commit(&self.core, &all).await {
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
                        let done = commit(&self.core, &own).await?;
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
