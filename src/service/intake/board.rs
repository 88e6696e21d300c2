//! What waits where, and whose turn it is.
//!
//! A worker takes what waits in a shard that nobody is working on. While little
//! waits there is one transaction at a time, for all shards: it costs about as much
//! as twenty events, so under many small requests one large transaction is worth
//! more than two small ones side by side. The first worker that rests is the one to
//! be called: it finds its connection, and the server its process, as they left them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::service::intake::ahead::Ahead;
use crate::service::intake::commit::Answer;
use crate::store::events::Arrived;

/// With so many events a transaction beside another is worth its while.
const ENOUGH_EVENTS: usize = 64;

/// The events of one caller, and where it waits.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) events: Vec<Arrived>,
    pub(super) ahead: Option<Box<Ahead>>,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// What waits where, and who rests.
#[derive(Debug)]
pub(super) struct Board {
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
pub(super) struct Taken {
    pub(super) shards: Vec<usize>,
    pub(super) batches: Vec<Batch>,
}

impl Board {
    /// As many workers as shards; each is about to look for work.
    pub(super) fn new(shards: usize) -> Self {
        let each = 0..shards;
        let all = All {
            shards: each.clone().map(|_| Shard::default()).collect(),
            workers: vec![Doing::Wake; shards],
            first: 0,
        };
        Self { all: Mutex::new(all), calls: each.map(|_| Notify::new()).collect() }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, shard: usize, batch: Batch) {
        let mut all = self.all();
        let shard = &mut all.shards[shard];
        shard.waiting_events += batch.events.len();
        shard.queue.push_back(batch);
        self.call(&mut all);
    }

    /// What this worker does next, after it is `done` with some shards. `None`: it
    /// will be called.
    pub(super) fn next(
        &self,
        worker: usize,
        done: &[usize],
        max_batch_events: usize,
    ) -> Option<Taken> {
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

    /// This worker has been called.
    pub(super) async fn called(&self, worker: usize) {
        self.calls[worker].notified().await;
    }

    /// This worker comes no more; if it had been called, another one is.
    pub(super) fn leave(&self, worker: usize) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::Sender;
    use crate::domain::event::{Event, EventKind, Properties};
    use crate::domain::time::Timestamp;

    const MOST: usize = 1000;

    fn batch(events: usize) -> Batch {
        let event = || Event {
            message_id: "m".parse().unwrap(),
            customer: "c".parse().unwrap(),
            kind: EventKind::Track,
            name: "x".into(),
            timestamp: Timestamp::from_millis(0),
            properties: Properties::default(),
        };
        let received_at = Timestamp::from_millis(0);
        let arrived = |_| Arrived {
            sender: Sender::TRUSTED,
            event: event(),
            is_anonymous: false,
            link: None,
            received_at,
        };
        let events = (0..events).map(arrived).collect();
        Batch { events, ahead: None, answer: oneshot::channel().0 }
    }

    /// A board whose workers all rest.
    fn board(shards: usize) -> Board {
        let board = Board::new(shards);
        for worker in 0..shards {
            assert!(board.next(worker, &[], MOST).is_none());
        }
        board
    }

    fn called(board: &Board) -> Vec<usize> {
        let all = board.all();
        (0..all.workers.len()).filter(|worker| all.workers[*worker] == Doing::Wake).collect()
    }

    #[test]
    fn one_worker_is_called_at_a_time_and_calls_the_next() {
        let board = board(3);
        for shard in 0..3 {
            board.put(shard, batch(ENOUGH_EVENTS));
        }
        assert_eq!(called(&board), [0]);
        assert_eq!(board.next(0, &[], MOST).unwrap().shards, [0]);
        assert_eq!(called(&board), [1]);
        assert_eq!(board.next(1, &[], MOST).unwrap().shards, [1]);
        assert_eq!(called(&board), [2]);
    }

    #[test]
    fn little_waits_for_the_transaction_before_it() {
        let board = board(2);
        board.put(0, batch(1));
        assert_eq!(board.next(0, &[], MOST).unwrap().shards, [0]);
        board.put(1, batch(ENOUGH_EVENTS - 1));
        assert!(called(&board).is_empty());
        board.put(1, batch(1));
        assert_eq!(called(&board), [1]);
        assert_eq!(board.next(0, &[0], MOST).unwrap().shards, [1]);
        assert!(board.next(1, &[], MOST).is_none());
    }

    #[test]
    fn a_busy_shard_keeps_no_other_waiting() {
        let board = board(2);
        board.put(0, batch(ENOUGH_EVENTS));
        assert_eq!(board.next(0, &[], MOST).unwrap().shards, [0]);
        board.put(0, batch(ENOUGH_EVENTS));
        board.put(1, batch(1));
        assert_eq!(board.next(0, &[0], MOST).unwrap().shards, [1, 0]);
    }

    #[test]
    fn who_leaves_passes_its_call_on() {
        let board = board(2);
        board.put(1, batch(1));
        assert_eq!(called(&board), [0]);
        board.leave(0);
        assert_eq!(called(&board), [1]);
    }
}
