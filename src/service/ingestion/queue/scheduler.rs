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

use crate::service::ingestion::commit::BatchAnswer;
use crate::service::ingestion::commit::precompute::PrecomputedCustomer;
use crate::service::limits::fair_share::ResourceShare;
use crate::service::limits::memory::MemoryReservation;
use crate::service::limits::resource_user::ResourceUser;
use crate::service::limits::round_robin::RoundRobinQueue;
use crate::store::customers::events::ReceivedEvent;

/// From this number of queued events a concurrent transaction pays.
const MIN_CONCURRENT_EVENTS: usize = 64;

/// The events of one caller, with the channel for its answer.
#[derive(Debug)]
pub(crate) struct QueuedBatch {
    /// The API key that sent the events.
    pub(crate) user: ResourceUser,
    pub(crate) events: Vec<ReceivedEvent>,
    /// Reserved resources, retained until the commit even if the caller disconnects.
    pub(crate) charge: QueueCharge,
    pub(crate) precomputed: Option<Box<PrecomputedCustomer>>,
    pub(crate) answer: oneshot::Sender<BatchAnswer>,
}

/// Queue capacity and memory reserved for a number of events.
#[derive(Debug)]
pub(crate) struct QueueCharge {
    room: ResourceShare<ResourceUser>,
    memory: Option<MemoryReservation>,
    events: usize,
}

impl QueueCharge {
    pub(crate) const fn new(
        room: ResourceShare<ResourceUser>,
        memory: Option<MemoryReservation>,
        events: usize,
    ) -> Self {
        Self { room, memory, events }
    }

    /// The number of events charged for.
    pub(crate) const fn events(&self) -> usize {
        self.events
    }

    /// Moves the proportional part for `events` into a charge of their own.
    #[must_use]
    pub(crate) fn split(&mut self, events: usize) -> Self {
        let room_part = proportional_part(self.room.amount(), events, self.events);
        let room = self.room.split(room_part);
        let mut memory = None;
        if let Some(whole) = &mut self.memory {
            memory = Some(whole.split(proportional_part(whole.bytes(), events, self.events)));
        }
        self.events = self.events.saturating_sub(events);
        Self { room, memory, events }
    }
}

fn proportional_part(amount: usize, events: usize, all_events: usize) -> usize {
    amount.saturating_mul(events) / all_events.max(1)
}

/// The queues of all shards and the states of all workers.
#[derive(Debug)]
pub(crate) struct ShardScheduler {
    state: Mutex<SchedulerState>,
    /// One wake-up signal per worker.
    wakeups: Vec<Notify>,
}

#[derive(Debug)]
struct SchedulerState {
    shards: Vec<ShardQueue>,
    workers: Vec<WorkerState>,
    /// The shard to search first; it rotates so that each shard has its turn.
    first_shard: usize,
}

/// State of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkerState {
    Working,
    /// Idle: it found no work and has not been woken since.
    Idle,
    /// Woken: it is about to look for work.
    Woken,
    /// Ended.
    Ended,
}

#[derive(Debug, Default)]
struct ShardQueue {
    queue: RoundRobinQueue<ResourceUser, QueuedBatch>,
    waiting_events: usize,
    /// A worker is committing events of this shard. Later events wait, so that two shard
    /// commits of this process never touch the same customer.
    is_taken: bool,
}

/// Work of one transaction: batches and the shards that they come from.
#[derive(Debug, Default)]
pub(crate) struct AssignedWork {
    pub(crate) shards: Vec<usize>,
    pub(crate) batches: Vec<QueuedBatch>,
}

impl ShardScheduler {
    /// Creates one worker per shard, all awake.
    pub(crate) fn new(shards: usize) -> Self {
        let each = 0..shards;
        let state = SchedulerState {
            shards: each.clone().map(|_| ShardQueue::default()).collect(),
            workers: vec![WorkerState::Woken; shards],
            first_shard: 0,
        };
        Self { state: Mutex::new(state), wakeups: each.map(|_| Notify::new()).collect() }
    }

    fn state(&self) -> MutexGuard<'_, SchedulerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enqueue(&self, shard: usize, batch: QueuedBatch) {
        let mut state = self.state();
        let shard = &mut state.shards[shard];
        shard.waiting_events += batch.events.len();
        shard.queue.push(batch.user, batch);
        self.wake_one(&mut state);
    }

    /// The next work of this worker after it is `done` with some shards. `None`: wait for
    /// a wake-up.
    pub(crate) fn next_work(
        &self,
        worker: usize,
        done: &[usize],
        max_batch_events: usize,
    ) -> Option<AssignedWork> {
        let mut state = self.state();
        for number in done {
            state.shards[*number].is_taken = false;
        }
        if !state.is_work_due() {
            state.workers[worker] = WorkerState::Idle;
            return None;
        }
        state.workers[worker] = WorkerState::Working;
        let mut taken = AssignedWork::default();
        let mut events = 0;
        let (first, count) = (state.first_shard, state.shards.len());
        for number in (first..first + count).map(|number| number % count) {
            let shard = &mut state.shards[number];
            if !shard.is_free() {
                continue;
            }
            events += shard.take_batches(max_batch_events - events, &mut taken.batches);
            taken.shards.push(number);
            // Beyond the last shard this wraps: the next search takes it modulo the
            // count.
            state.first_shard = number + 1;
            if events >= MIN_CONCURRENT_EVENTS.min(max_batch_events) {
                break;
            }
        }
        self.wake_one(&mut state);
        Some(taken)
    }

    /// Waits for the wake-up of this worker.
    pub(crate) async fn wait_for_wakeup(&self, worker: usize) {
        self.wakeups[worker].notified().await;
    }

    /// Ends this worker. A pending wake-up passes to another worker.
    pub(crate) fn end_worker(&self, worker: usize) {
        let mut state = self.state();
        state.workers[worker] = WorkerState::Ended;
        self.wake_one(&mut state);
    }

    /// Wakes one idle worker if work is due and no worker is already awake. Each wakes
    /// the next, so a burst does not wake all workers at once.
    fn wake_one(&self, state: &mut SchedulerState) {
        if !state.is_work_due() || state.workers.contains(&WorkerState::Woken) {
            return;
        }
        if let Some(idle) = state.workers.iter().position(|worker| *worker == WorkerState::Idle) {
            state.workers[idle] = WorkerState::Woken;
            self.wakeups[idle].notify_one();
        }
    }
}

impl SchedulerState {
    fn is_work_due(&self) -> bool {
        let free = self.shards.iter().filter(|shard| shard.is_free());
        let waiting: usize = free.map(|shard| shard.waiting_events).sum();
        if waiting >= MIN_CONCURRENT_EVENTS {
            return true;
        }
        waiting > 0 && !self.shards.iter().any(|shard| shard.is_taken)
    }
}

impl ShardQueue {
    fn is_free(&self) -> bool {
        !self.is_taken && !self.queue.is_empty()
    }

    /// Takes batches until they have `enough` events. Returns their number of events.
    fn take_batches(&mut self, enough: usize, batches: &mut Vec<QueuedBatch>) -> usize {
        let before = batches.len();
        let users = self.queue.user_count();
        if users > 1 && self.waiting_events > enough {
            // Half of the transaction is shared between the small batches of all keys;
            // the rest goes to the key in turn. So neither kind can starve the other.
            let allowance = (enough / 2 / users).max(1);
            self.queue.take_within_allowance(allowance, |batch| batch.events.len(), batches);
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
    use crate::domain::access::MessageIdNamespace;
    use crate::domain::event::{ContentHash, CustomerEvent, EventKind, Properties};
    use crate::domain::time::Timestamp;
    use crate::service::limits::fair_share::FairShare;

    const MOST: usize = 1000;

    fn batch(events: usize) -> QueuedBatch {
        let event = || CustomerEvent {
            message_id: "m".parse().unwrap(),
            customer: "c".parse().unwrap(),
            kind: EventKind::Track,
            name: "x".into(),
            timestamp: Timestamp::from_millis(0),
            properties: Properties::default(),
        };
        let received_at = Timestamp::from_millis(0);
        let arrived = |_| ReceivedEvent {
            sender: MessageIdNamespace::TRUSTED,
            event: event(),
            content: ContentHash::from_bytes([0; 16]),
            is_anonymous: false,
            link: None,
            received_at,
        };
        let events = (0..events).map(arrived).collect();
        let user = ResourceUser::REPLAY;
        let room = FairShare::new(1).try_acquire(user, 0).unwrap();
        let charge = QueueCharge::new(room, None, 0);
        QueuedBatch { user, events, charge, precomputed: None, answer: oneshot::channel().0 }
    }

    fn batch_of(user: ResourceUser, events: usize) -> QueuedBatch {
        QueuedBatch { user, ..batch(events) }
    }

    /// A scheduler with all workers idle.
    fn idle_scheduler(shards: usize) -> ShardScheduler {
        let scheduler = ShardScheduler::new(shards);
        for worker in 0..shards {
            assert!(scheduler.next_work(worker, &[], MOST).is_none());
        }
        scheduler
    }

    fn woken_workers(scheduler: &ShardScheduler) -> Vec<usize> {
        let state = scheduler.state();
        (0..state.workers.len())
            .filter(|worker| state.workers[*worker] == WorkerState::Woken)
            .collect()
    }

    #[test]
    fn one_worker_is_woken_at_a_time_and_wakes_the_next() {
        let scheduler = idle_scheduler(3);
        for shard in 0..3 {
            scheduler.enqueue(shard, batch(MIN_CONCURRENT_EVENTS));
        }
        assert_eq!(woken_workers(&scheduler), [0]);
        assert_eq!(scheduler.next_work(0, &[], MOST).unwrap().shards, [0]);
        assert_eq!(woken_workers(&scheduler), [1]);
        assert_eq!(scheduler.next_work(1, &[], MOST).unwrap().shards, [1]);
        assert_eq!(woken_workers(&scheduler), [2]);
    }

    #[test]
    fn few_events_wait_for_the_transaction_before_them() {
        let scheduler = idle_scheduler(2);
        scheduler.enqueue(0, batch(1));
        assert_eq!(scheduler.next_work(0, &[], MOST).unwrap().shards, [0]);
        scheduler.enqueue(1, batch(MIN_CONCURRENT_EVENTS - 1));
        assert!(woken_workers(&scheduler).is_empty());
        scheduler.enqueue(1, batch(1));
        assert_eq!(woken_workers(&scheduler), [1]);
        assert_eq!(scheduler.next_work(0, &[0], MOST).unwrap().shards, [1]);
        assert!(scheduler.next_work(1, &[], MOST).is_none());
    }

    #[test]
    fn a_busy_shard_delays_no_other() {
        let scheduler = idle_scheduler(2);
        scheduler.enqueue(0, batch(MIN_CONCURRENT_EVENTS));
        assert_eq!(scheduler.next_work(0, &[], MOST).unwrap().shards, [0]);
        scheduler.enqueue(0, batch(MIN_CONCURRENT_EVENTS));
        scheduler.enqueue(1, batch(1));
        assert_eq!(scheduler.next_work(0, &[0], MOST).unwrap().shards, [1, 0]);
    }

    #[test]
    fn a_worker_that_ends_passes_its_wake_up_on() {
        let scheduler = idle_scheduler(2);
        scheduler.enqueue(1, batch(1));
        assert_eq!(woken_workers(&scheduler), [0]);
        scheduler.end_worker(0);
        assert_eq!(woken_workers(&scheduler), [1]);
    }

    #[test]
    fn a_single_event_does_not_wait_behind_the_queue_of_another_key() {
        let scheduler = idle_scheduler(1);
        let (busy, quiet) = (ResourceUser::of_key("busy"), ResourceUser::of_key("quiet"));
        for _ in 0..20 {
            scheduler.enqueue(0, batch_of(busy, MOST));
        }
        let mut done = vec![];
        for round in 0..3 {
            if round > 0 {
                scheduler.enqueue(0, batch_of(quiet, 1));
            }
            let taken = scheduler.next_work(0, &done, MOST).unwrap();
            let of_quiet = taken.batches.iter().filter(|batch| batch.user == quiet).count();
            assert_eq!(of_quiet, usize::from(round > 0));
            assert_eq!(taken.batches.len() - of_quiet, 1, "the busy key goes on");
            done = taken.shards;
        }
    }

    #[test]
    fn large_batches_of_two_keys_take_turns_while_small_ones_pass() {
        let scheduler = idle_scheduler(1);
        let [first, second, small] = ["a", "b", "c"].map(ResourceUser::of_key);
        for _ in 0..4 {
            scheduler.enqueue(0, batch_of(first, MOST));
            scheduler.enqueue(0, batch_of(second, MOST));
            for _ in 0..MOST {
                scheduler.enqueue(0, batch_of(small, 1));
            }
        }
        let (mut done, mut large) = (vec![], vec![]);
        while let Some(taken) = scheduler.next_work(0, &done, MOST) {
            let events: usize = taken.batches.iter().map(|batch| batch.events.len()).sum();
            assert!(events < 2 * MOST, "{events}");
            large.extend(taken.batches.iter().filter(|b| b.events.len() > 1).map(|b| b.user));
            done = taken.shards;
        }
        assert_eq!(large, [first, second, first, second, first, second, first, second]);
    }
}
