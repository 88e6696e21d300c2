//! Scheduler: assigns batches of queued events to shard workers.
//!
//! A worker takes the queued events of a shard that no other worker processes. While few
//! events wait, one transaction runs at a time, for all shards. A transaction costs about
//! as much as twenty events, so under many small requests one large transaction is
//! cheaper than two small concurrent ones. The idle worker with the lowest number is
//! woken first: its connection and the server process behind it are warm.
//!
//! Within a shard keys take turns, and small batches go first. The single event of one
//! key is in the next transaction, however much another key has queued.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::service::ingestion::commit::Answer;
use crate::service::ingestion::commit::precompute::Ahead;
use crate::service::limits::fair_share::Share;
use crate::service::limits::memory::Reservation;
use crate::service::limits::resource_user::ResourceUser;
use crate::service::limits::round_robin::RoundRobin;
use crate::store::customers::events::Arrived;

/// From this number of queued events a concurrent transaction pays.
const ENOUGH_EVENTS: usize = 64;

/// The events of one caller, with the channel for its answer.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The API key that sent the events.
    pub(crate) user: ResourceUser,
    pub(crate) events: Vec<Arrived>,
    /// Reserved resources, retained until the commit even if the caller disconnects.
    pub(crate) charge: Charge,
    pub(crate) ahead: Option<Box<Ahead>>,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// Queue capacity and memory reserved for a number of events.
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

    /// Moves the proportional part for `events` into a charge of their own.
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

/// The queues of all shards and the states of all workers.
#[derive(Debug)]
pub(crate) struct Board {
    all: Mutex<All>,
    /// One wake-up signal per worker.
    calls: Vec<Notify>,
}

#[derive(Debug)]
struct All {
    shards: Vec<Shard>,
    workers: Vec<Doing>,
    /// The shard to search first; it rotates so that each shard has its turn.
    first: usize,
}

/// State of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Work,
    /// Idle: it found no work and has not been woken since.
    Rest,
    /// Woken: it is about to look for work.
    Wake,
    /// Ended.
    Nothing,
}

#[derive(Debug, Default)]
struct Shard {
    queue: RoundRobin<ResourceUser, Batch>,
    waiting_events: usize,
    /// A worker is committing events of this shard. Later events wait, so that two shard
    /// commits of this process never touch the same customer.
    is_taken: bool,
}

/// Work of one transaction: batches and the shards that they come from.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) shards: Vec<usize>,
    pub(crate) batches: Vec<Batch>,
}

impl Board {
    /// Creates one worker per shard, all awake.
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

    /// The next work of this worker after it is `done` with some shards. `None`: wait for
    /// a wake-up.
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
            // Beyond the last shard this wraps: the next search takes it modulo the
            // count.
            all.first = number + 1;
            if events >= ENOUGH_EVENTS.min(max_batch_events) {
                break;
            }
        }
        self.call(&mut all);
        Some(taken)
    }

    /// Waits for the wake-up of this worker.
    pub(crate) async fn called(&self, worker: usize) {
        self.calls[worker].notified().await;
    }

    /// Ends this worker. A pending wake-up passes to another worker.
    pub(crate) fn leave(&self, worker: usize) {
        let mut all = self.all();
        all.workers[worker] = Doing::Nothing;
        self.call(&mut all);
    }

    /// Wakes one idle worker if work is due and no worker is already awake. Each wakes
    /// the next, so a burst does not wake all workers at once.
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

    /// Takes batches until they have `enough` events. Returns their number of events.
    fn take(&mut self, enough: usize, batches: &mut Vec<Batch>) -> usize {
        let before = batches.len();
        let users = self.queue.users();
        if users > 1 && self.waiting_events > enough {
            // Half of the transaction is shared between the small batches of all keys;
            // the rest goes to the key in turn. So neither kind can starve the other.
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

    /// A board with all workers idle.
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
