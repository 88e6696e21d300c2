//! Events of customers that another database session has locked: set aside, and retried
//! with exponential back-off until a deadline, on a connection of their own.
//!
//! While a customer is known to be locked, its further events are set aside at once, so
//! that a shared commit waits for a lock once and not each time. The number of events set
//! aside is bounded. An event above the bound, or past its deadline, is not counted, and
//! its sender is asked to send it again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::domain::id::CustomerKey;
use crate::service::ServiceError;
use crate::service::ingestion::IngestionCore;
use crate::service::ingestion::commit::pending::PendingEvent;
use crate::service::ingestion::commit::{BatchFailure, EventStatus, pending};
use crate::store::customers::events::ReceivedEvent;
use crate::store::{DedicatedDatabase, StoreError, customers};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Customers known to be locked, with their events.
#[derive(Debug)]
pub(crate) struct LockedCustomers {
    state: Mutex<LockedState>,
    /// Number of locked customers, so that the hot path reads one atomic and takes no
    /// lock.
    customers: AtomicUsize,
    changed: Notify,
    longest_wait: Duration,
    max_events: usize,
    gauge: IntGauge,
}

#[derive(Debug)]
struct LockedState {
    customers: HashMap<CustomerKey, LockedQueue>,
    events: usize,
    /// Workers that may still set events aside.
    workers: usize,
}

/// An event that is set aside.
#[derive(Debug)]
struct DelayedEvent {
    /// When its sender is asked to send it again.
    deadline: Instant,
    event: PendingEvent,
}

#[derive(Debug)]
struct LockedQueue {
    events: VecDeque<DelayedEvent>,
    next_try: Instant,
    pause: Duration,
}

impl LockedQueue {
    fn new() -> Self {
        let next_try = Instant::now() + FIRST_PAUSE;
        Self { events: VecDeque::new(), next_try, pause: FIRST_PAUSE }
    }

    fn postpone(&mut self) {
        self.next_try = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// Ids with rows that a commit of this event locks, as far as the event shows.
fn locked_ids(arrived: &ReceivedEvent) -> impl Iterator<Item = &CustomerKey> {
    let ends = arrived.link.iter().flat_map(|link| [&link.from, &link.to]);
    [&arrived.event.customer].into_iter().chain(ends)
}

/// The customers of these events that another session has locked.
pub(crate) async fn find_locked(
    db: &DedicatedDatabase,
    events: impl Iterator<Item = &ReceivedEvent>,
) -> Result<Vec<CustomerKey>, StoreError> {
    let ids: HashSet<&CustomerKey> = events.flat_map(locked_ids).collect();
    customers::locked_elsewhere(db, &ids.into_iter().collect::<Vec<_>>()).await
}

impl LockedCustomers {
    pub(crate) fn new(
        longest_wait: Duration,
        max_events: usize,
        workers: usize,
        gauge: IntGauge,
    ) -> Self {
        let state = LockedState { customers: HashMap::new(), events: 0, workers };
        Self {
            state: Mutex::new(state),
            customers: AtomicUsize::new(0),
            changed: Notify::new(),
            longest_wait,
            max_events,
            gauge,
        }
    }

    fn state(&self) -> MutexGuard<'_, LockedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates the gauge and the atomic count after a change.
    fn publish(&self, state: &LockedState) {
        self.customers.store(state.customers.len(), Ordering::Relaxed);
        self.gauge.set(i64::try_from(state.events).unwrap_or(i64::MAX));
    }

    /// Whether the customer of one of these events is known to be locked.
    pub(crate) fn is_any_locked<'e>(
        &self,
        mut events: impl Iterator<Item = &'e ReceivedEvent>,
    ) -> bool {
        if self.customers.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let state = self.state();
        events.any(|arrived| locked_ids(arrived).any(|id| state.customers.contains_key(id)))
    }

    /// Marks these customers as locked by another session.
    pub(crate) fn mark_locked(&self, customers: Vec<CustomerKey>) {
        let mut state = self.state();
        for customer in customers {
            state.customers.entry(customer).or_insert_with(LockedQueue::new);
        }
        self.publish(&state);
        drop(state);
        self.changed.notify_one();
    }

    /// Sets aside the events of customers known to be locked. Returns the others.
    pub(crate) fn set_aside(&self, events: Vec<PendingEvent>) -> Vec<PendingEvent> {
        if self.customers.load(Ordering::Relaxed) == 0 {
            return events;
        }
        let deadline = Instant::now() + self.longest_wait;
        let mut rest = Vec::with_capacity(events.len());
        let mut state = self.state();
        let LockedState { customers, events: count, .. } = &mut *state;
        for event in events {
            let id = locked_ids(&event.arrived).find(|id| customers.contains_key(*id)).cloned();
            match id.and_then(|id| customers.get_mut(&id)) {
                None => rest.push(event),
                // Bounded, so that one locked customer cannot fill the queue for all
                // others.
                Some(_) if *count >= self.max_events => event.answer_with(EventStatus::Locked),
                Some(customer) => {
                    customer.events.push_back(DelayedEvent { deadline, event });
                    *count += 1;
                }
            }
        }
        self.publish(&state);
        drop(state);
        self.changed.notify_one();
        rest
    }

    /// Records that a worker has ended and sets no more events aside.
    pub(crate) fn remove_worker(&self) {
        self.state().workers -= 1;
        self.changed.notify_one();
    }

    /// Answers the events past their deadline; all events once no worker is left. Returns
    /// the instant of the next action; `None` at the end.
    fn expire_overdue(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state();
        let is_over = state.workers == 0;
        let mut expired = Vec::new();
        let mut next = now + self.longest_wait;
        for customer in state.customers.values_mut() {
            // In arrival order, so the first deadline is the earliest.
            while let Some(first) = customer.events.front() {
                if first.deadline > now && !is_over {
                    next = next.min(first.deadline);
                    break;
                }
                expired.extend(customer.events.pop_front());
            }
            next = next.min(customer.next_try);
        }
        state.events -= expired.len();
        self.publish(&state);
        drop(state);
        for delayed in expired {
            delayed.event.answer_with(EventStatus::Locked);
        }
        (!is_over).then_some(next)
    }

    /// Customers due for a retry.
    fn due_customers(&self) -> Vec<CustomerKey> {
        let now = Instant::now();
        let state = self.state();
        let due = state.customers.iter().filter(|(_, customer)| customer.next_try <= now);
        due.map(|(id, _)| id.clone()).collect()
    }

    fn postpone<'c>(&self, customers: impl Iterator<Item = &'c CustomerKey>) {
        let mut state = self.state();
        for id in customers {
            if let Some(customer) = state.customers.get_mut(id) {
                customer.postpone();
            }
        }
    }

    /// The oldest events of a customer, at most `max_events`. A customer without events
    /// is no longer marked as locked.
    fn take_oldest(&self, customer: &CustomerKey, max_events: usize) -> Vec<DelayedEvent> {
        let mut state = self.state();
        let Some(locked) = state.customers.get_mut(customer) else { return Vec::new() };
        let count = locked.events.len().min(max_events);
        let taken: Vec<_> = locked.events.drain(..count).collect();
        if taken.is_empty() {
            state.customers.remove(customer);
        }
        state.events -= taken.len();
        self.publish(&state);
        taken
    }

    /// Puts events of a customer that is still locked back, before newer events.
    fn put_back(&self, customer: &CustomerKey, events: Vec<PendingEvent>, deadline: Instant) {
        let mut state = self.state();
        state.events += events.len();
        let locked = state.customers.entry(customer.clone()).or_insert_with(LockedQueue::new);
        for event in events.into_iter().rev() {
            locked.events.push_front(DelayedEvent { deadline, event });
        }
        locked.postpone();
        self.publish(&state);
    }

    /// Retries the events set aside until no worker is left.
    pub(crate) async fn run(&self, core: &IngestionCore, db: &DedicatedDatabase) {
        while let Some(next) = self.expire_overdue() {
            let has_changed = tokio::time::timeout_at(next, self.changed.notified()).await;
            let due = self.due_customers();
            if has_changed.is_ok() && due.is_empty() {
                continue;
            }
            // One statement for all due customers, and without waiting for a lock.
            let ids: Vec<&CustomerKey> = due.iter().collect();
            let locked: HashSet<CustomerKey> = match customers::locked_elsewhere(db, &ids).await {
                Ok(locked) => locked.into_iter().collect(),
                Err(error) => {
                    tracing::debug!(%error, "cannot check locked customers; retrying");
                    due.iter().cloned().collect()
                }
            };
            self.postpone(locked.iter());
            let mut linking_is_blocked = false;
            for customer in due.iter().filter(|id| !locked.contains(*id)) {
                let is_linking = self.next_event_has_link(customer);
                // Blocked by the lock of all links: every further link would wait for the
                // same timeout.
                if is_linking && linking_is_blocked {
                    self.postpone([customer].into_iter());
                    continue;
                }
                let tried = AssertUnwindSafe(self.retry(core, db, customer)).catch_unwind();
                match tried.await {
                    Ok(is_blocked) => linking_is_blocked |= is_linking && is_blocked,
                    Err(_) => {
                        tracing::error!("a commit panicked; senders may repeat its events");
                    }
                }
                // A retry may last as long as a lock timeout, so deadlines are checked
                // between retries.
                if self.expire_overdue().is_none() {
                    return;
                }
            }
        }
    }

    /// Whether the next event of a customer has a link: link-recording transactions wait
    /// for each other.
    fn next_event_has_link(&self, customer: &CustomerKey) -> bool {
        let state = self.state();
        let next = state.customers.get(customer).and_then(|locked| locked.events.front());
        next.is_some_and(|delayed| delayed.event.arrived.link.is_some())
    }

    /// Commits the events of one customer until none is left or it is locked again.
    /// Returns whether it is locked.
    async fn retry(
        &self,
        core: &IngestionCore,
        db: &DedicatedDatabase,
        customer: &CustomerKey,
    ) -> bool {
        loop {
            let oldest = self.take_oldest(customer, core.max_batch_events);
            let deadline = oldest.iter().map(|delayed| delayed.deadline).min();
            let Some(deadline) = deadline else { return false };
            let mut events: Vec<PendingEvent> =
                oldest.into_iter().map(|delayed| delayed.event).collect();
            while !events.is_empty() {
                match pending::commit_together(core, db, events).await {
                    Ok(()) => break,
                    Err((BatchFailure::Service(ServiceError::Locked), part)) => {
                        self.put_back(customer, part, deadline);
                        return true;
                    }
                    Err((BatchFailure::Refused(refused), part)) => {
                        events = pending::refuse_events(part, &refused);
                    }
                    Err((BatchFailure::TooManyIds, part)) => {
                        // One event at a time: a single link is always decided.
                        let mut part = part.into_iter();
                        events = part.by_ref().take(1).collect();
                        let rest: Vec<PendingEvent> = part.collect();
                        if rest.is_empty() {
                            pending::fail_all(events, ServiceError::Locked);
                            return false;
                        }
                        self.put_back(customer, rest, deadline);
                    }
                    Err((BatchFailure::Service(error), part)) => {
                        pending::fail_all(part, error);
                        break;
                    }
                }
            }
        }
    }
}

/// Guard that counts a worker down when it ends, also by a panic.
#[derive(Debug)]
pub(crate) struct WorkerGuard(pub(crate) Arc<IngestionCore>);

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        self.0.locked_customers.remove_worker();
    }
}
