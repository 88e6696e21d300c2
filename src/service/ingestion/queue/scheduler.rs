//! What waits where, and whose turn it is.
//!
//! A worker takes what waits in a shard that nobody is working on. While little
//! waits there is one transaction at a time, for all shards: it costs about as much
//! as twenty events, so under many small requests one large transaction is worth
//! more than two small ones side by side. The first worker that rests is the one to
//! be called: it finds its connection, and the server its process, as they left them.
//!
//! Within a shard keys take turns, and small batches go first: the single event of one
//! key is in the next transaction, whatever another key has waiting.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::service::ingestion::commit::Answer;
use crate::service::ingestion::commit::precompute::Ahead;
use crate::service::limits::fair_share::Share;
use crate::service::limits::memory::Reservation;
use crate::service::limits::resource_user::ResourceUser;
use crate::service::limits::round_robin::RoundRobin;
use crate::store::customers::events::Arrived;

/// With so many events a transaction beside another is worth its while.
const ENOUGH_EVENTS: usize = 64;

/// The events of one caller, and where it waits.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The key that sent them.
    pub(crate) user: ResourceUser,
    pub(crate) events: Vec<Arrived>,
    /// What they take of bounded resources until they are committed, whether or not the
    /// caller still waits.
    pub(crate) charge: Charge,
    pub(crate) ahead: Option<Box<Ahead>>,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// Parts of the bounded queue and of the memory budget, for some events.
#[derive(Debug)]
pub(crate) struct Charge {
    room: Share<ResourceUser>,
    memory: Option<Reservation>,
    events: usize,
}

impl Charge {
    pub(crate) const fn new(
        room: Share<ResourceUser>,
        memory: Option<Reservation>,
        events: usize,
    ) -> Self {
        Self { room, memory, events }
    }

    /// Moves the part of some of the events into a charge of their own.
    #[must_use]
    pub(crate) fn split(&mut self, events: usize) -> Self {
        let all = self.events.max(1);
        let of = |amount: usize| amount.saturating_mul(events) / all;
        let room = self.room.split(of(self.room.amount()));
        let memory = self.memory.as_mut().map(|memory| memory.split(of(memory.bytes())));
        self.events = self.events.saturating_sub(events);
        Self { room, memory, events }
    }
}

/// What waits where, and who rests.
#[derive(Debug)]
pub(crate) struct Board {
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
    queue: RoundRobin<ResourceUser, Batch>,
    waiting_events: usize,
    /// A worker has taken from it and is not done: what comes later waits, so that
    /// no two transactions of this process ever meet at a customer.
    is_taken: bool,
}

/// What a worker has taken.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) shards: Vec<usize>,
    pub(crate) batches: Vec<Batch>,
}

impl Board {
    /// As many workers as shards; each is about to look for work.
    pub(crate) fn new(shards: usize) -> Self {
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

    pub(crate) fn put(&self, shard: usize, batch: Batch) {
        let mut all = self.all();
        let shard = &mut all.shards[shard];
        shard.waiting_events += batch.events.len();
        shard.queue.push(batch.user, batch);
        self.call(&mut all);
    }

    /// What this worker does next, after it is `done` with some shards. `None`: it
    /// will be called.
    pub(crate) fn next(
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
    pub(crate) async fn called(&self, worker: usize) {
        self.calls[worker].notified().await;
    }

    /// This worker comes no more; if it had been called, another one is.
    pub(crate) fn leave(&self, worker: usize) {
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
        let before = batches.len();
        let users = self.queue.users();
        if users > 1 && self.waiting_events > enough {
            // Half of the transaction is shared out to small batches, the rest goes to
            // whose turn it is: so neither can keep the other waiting.
            let allowance = (enough / 2 / users).max(1);
            self.queue.take_cheap(allowance, |batch| batch.events.len(), batches);
        }
        let mut events: usize = batches[before..].iter().map(|batch| batch.events.len()).sum();
        while events < enough {
            let Some(batch) = self.queue.pop() else { break };
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
    use crate::service::limits::fair_share::FairShare;

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
        let user = ResourceUser::REPLAY;
        let room = FairShare::new(1).try_acquire(user, 0).unwrap();
        let charge = Charge::new(room, None, 0);
        Batch { user, events, charge, ahead: None, answer: oneshot::channel().0 }
    }

    fn batch_of(user: ResourceUser, events: usize) -> Batch {
        Batch { user, ..batch(events) }
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
    #[test]
    fn a_single_event_does_not_wait_behind_the_queue_of_another_key() {
        let board = board(1);
        let (busy, quiet) = (ResourceUser::of_key("busy"), ResourceUser::of_key("quiet"));
        for _ in 0..20 {
            board.put(0, batch_of(busy, MOST));
        }
        let mut done = vec![];
        for round in 0..3 {
            if round > 0 {
                board.put(0, batch_of(quiet, 1));
            }
            let taken = board.next(0, &done, MOST).unwrap();
            let of_quiet = taken.batches.iter().filter(|batch| batch.user == quiet).count();
            assert_eq!(of_quiet, usize::from(round > 0));
            assert_eq!(taken.batches.len() - of_quiet, 1, "the busy key goes on");
            done = taken.shards;
        }
    }

    #[test]
    fn large_batches_of_two_keys_take_turns_while_small_ones_pass() {
        let board = board(1);
        let [first, second, small] = ["a", "b", "c"].map(ResourceUser::of_key);
        for _ in 0..4 {
            board.put(0, batch_of(first, MOST));
            board.put(0, batch_of(second, MOST));
            for _ in 0..MOST {
                board.put(0, batch_of(small, 1));
            }
        }
        let (mut done, mut large) = (vec![], vec![]);
        while let Some(taken) = board.next(0, &done, MOST) {
            let events: usize = taken.batches.iter().map(|batch| batch.events.len()).sum();
            assert!(events < 2 * MOST, "{events}");
            large.extend(taken.batches.iter().filter(|b| b.events.len() > 1).map(|b| b.user));
            done = taken.shards;
        }
        assert_eq!(large, [first, second, first, second, first, second, first, second]);
    }
}
