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
use crate::service::ingestion::Core;
use crate::service::ingestion::commit::separate::One;
use crate::service::ingestion::commit::{Failure, Ruling, separate};
use crate::store::customers::events::Arrived;
use crate::store::{DedicatedDb, StoreError, customers};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Customers known to be locked, with their events.
#[derive(Debug)]
pub(crate) struct Aside {
    waiting: Mutex<Waiting>,
    /// Number of locked customers, so that the hot path reads one atomic and takes no
    /// lock.
    customers: AtomicUsize,
    changed: Notify,
    longest_wait: Duration,
    max_events: usize,
    gauge: IntGauge,
}

#[derive(Debug)]
struct Waiting {
    customers: HashMap<CustomerKey, LockedCustomer>,
    events: usize,
    /// Workers that may still set events aside.
    workers: usize,
}

#[derive(Debug)]
struct LockedCustomer {
    events: VecDeque<(Instant, One)>,
    next_try: Instant,
    pause: Duration,
}

impl LockedCustomer {
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
fn ids(arrived: &Arrived) -> impl Iterator<Item = &CustomerKey> {
    let ends = arrived.link.iter().flat_map(|link| [&link.from, &link.to]);
    [&arrived.event.customer].into_iter().chain(ends)
}

/// The customers of these events that another session has locked.
pub(crate) async fn locked(
    db: &DedicatedDb,
    events: impl Iterator<Item = &Arrived>,
) -> Result<Vec<CustomerKey>, StoreError> {
    let ids: HashSet<&CustomerKey> = events.flat_map(ids).collect();
    customers::locked_elsewhere(db, &ids.into_iter().collect::<Vec<_>>()).await
}

impl Aside {
    pub(crate) fn new(
        longest_wait: Duration,
        max_events: usize,
        workers: usize,
        gauge: IntGauge,
    ) -> Self {
        let waiting = Waiting { customers: HashMap::new(), events: 0, workers };
        Self {
            waiting: Mutex::new(waiting),
            customers: AtomicUsize::new(0),
            changed: Notify::new(),
            longest_wait,
            max_events,
            gauge,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates the gauge and the atomic count after a change.
    fn publish(&self, waiting: &Waiting) {
        self.customers.store(waiting.customers.len(), Ordering::Relaxed);
        self.gauge.set(i64::try_from(waiting.events).unwrap_or(i64::MAX));
    }

    /// Whether the customer of one of these events is known to be locked.
    pub(crate) fn concerns<'e>(&self, mut events: impl Iterator<Item = &'e Arrived>) -> bool {
        if self.customers.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let waiting = self.waiting();
        events.any(|arrived| ids(arrived).any(|id| waiting.customers.contains_key(id)))
    }

    /// Marks these customers as locked by another session.
    pub(crate) fn note(&self, customers: Vec<CustomerKey>) {
        let mut waiting = self.waiting();
        for customer in customers {
            waiting.customers.entry(customer).or_insert_with(LockedCustomer::new);
        }
        self.publish(&waiting);
        drop(waiting);
        self.changed.notify_one();
    }

    /// Sets aside the events of customers known to be locked. Returns the others.
    pub(crate) fn take_locked(&self, events: Vec<One>) -> Vec<One> {
        if self.customers.load(Ordering::Relaxed) == 0 {
            return events;
        }
        let deadline = Instant::now() + self.longest_wait;
        let mut rest = Vec::with_capacity(events.len());
        let mut waiting = self.waiting();
        let Waiting { customers, events: count, .. } = &mut *waiting;
        for one in events {
            let id = ids(&one.arrived).find(|id| customers.contains_key(*id)).cloned();
            match id.and_then(|id| customers.get_mut(&id)) {
                None => rest.push(one),
                // Bounded, so that one locked customer cannot fill the queue for all
                // others.
                Some(_) if *count >= self.max_events => one.rule(Ruling::Locked),
                Some(customer) => {
                    customer.events.push_back((deadline, one));
                    *count += 1;
                }
            }
        }
        self.publish(&waiting);
        drop(waiting);
        self.changed.notify_one();
        rest
    }

    /// Records that a worker has ended and sets no more events aside.
    pub(crate) fn leave(&self) {
        self.waiting().workers -= 1;
        self.changed.notify_one();
    }

    /// Answers the events past their deadline; all events once no worker is left. Returns
    /// the instant of the next action; `None` at the end.
    fn expire(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut waiting = self.waiting();
        let is_over = waiting.workers == 0;
        let mut expired = Vec::new();
        let mut next = now + self.longest_wait;
        for customer in waiting.customers.values_mut() {
            while let Some((deadline, _)) = customer.events.front() {
                if *deadline > now && !is_over {
                    next = next.min(*deadline);
                    break;
                }
                expired.extend(customer.events.pop_front());
            }
            next = next.min(customer.next_try);
        }
        waiting.events -= expired.len();
        self.publish(&waiting);
        drop(waiting);
        for (_, one) in expired {
            one.rule(Ruling::Locked);
        }
        (!is_over).then_some(next)
    }

    /// Customers due for a retry.
    fn due(&self) -> Vec<CustomerKey> {
        let now = Instant::now();
        let waiting = self.waiting();
        let due = waiting.customers.iter().filter(|(_, customer)| customer.next_try <= now);
        due.map(|(id, _)| id.clone()).collect()
    }

    fn postpone<'c>(&self, customers: impl Iterator<Item = &'c CustomerKey>) {
        let mut waiting = self.waiting();
        for id in customers {
            if let Some(customer) = waiting.customers.get_mut(id) {
                customer.postpone();
            }
        }
    }

    /// The oldest events of a customer, at most `max_events`. A customer without events
    /// is no longer marked as locked.
    fn take(&self, customer: &CustomerKey, max_events: usize) -> Vec<(Instant, One)> {
        let mut waiting = self.waiting();
        let Some(locked) = waiting.customers.get_mut(customer) else { return Vec::new() };
        let count = locked.events.len().min(max_events);
        let taken: Vec<_> = locked.events.drain(..count).collect();
        if taken.is_empty() {
            waiting.customers.remove(customer);
        }
        waiting.events -= taken.len();
        self.publish(&waiting);
        taken
    }

    /// Puts events of a customer that is still locked back, before newer events.
    fn put_back(&self, customer: &CustomerKey, events: Vec<(Instant, One)>) {
        let mut waiting = self.waiting();
        waiting.events += events.len();
        let locked = waiting.customers.entry(customer.clone()).or_insert_with(LockedCustomer::new);
        for event in events.into_iter().rev() {
            locked.events.push_front(event);
        }
        locked.postpone();
        self.publish(&waiting);
    }

    /// Retries the events set aside until no worker is left.
    pub(crate) async fn run(&self, core: &Core, db: &DedicatedDb) {
        while let Some(next) = self.expire() {
            let has_changed = tokio::time::timeout_at(next, self.changed.notified()).await;
            let due = self.due();
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
                let is_linking = self.is_linking(customer);
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
                if self.expire().is_none() {
                    return;
                }
            }
        }
    }

    /// Whether the next event of a customer has a link: link-recording transactions wait
    /// for each other.
    fn is_linking(&self, customer: &CustomerKey) -> bool {
        let waiting = self.waiting();
        let next = waiting.customers.get(customer).and_then(|locked| locked.events.front());
        next.is_some_and(|(_, one)| one.arrived.link.is_some())
    }

    /// Commits the events of one customer until none is left or it is locked again.
    /// Returns whether it is locked.
    async fn retry(&self, core: &Core, db: &DedicatedDb, customer: &CustomerKey) -> bool {
        loop {
            let (deadlines, mut events): (Vec<Instant>, Vec<One>) =
                self.take(customer, core.max_batch_events).into_iter().unzip();
            let Some(deadline) = deadlines.into_iter().min() else { return false };
            while !events.is_empty() {
                match separate::commit_part(core, db, events).await {
                    Ok(()) => break,
                    Err((Failure::Service(ServiceError::Locked), part)) => {
                        let part = part.into_iter().map(|one| (deadline, one));
                        self.put_back(customer, part.collect());
                        return true;
                    }
                    Err((Failure::Links(refused), part)) => {
                        events = separate::refuse(part, &refused)
                    }
                    Err((Failure::TooManyIds, part)) => {
                        // One event at a time: a single link is always decided.
                        let mut part = part.into_iter();
                        events = part.by_ref().take(1).collect();
                        let rest: Vec<_> = part.map(|one| (deadline, one)).collect();
                        if rest.is_empty() {
                            separate::fail_all(events, ServiceError::Locked);
                            return false;
                        }
                        self.put_back(customer, rest);
                    }
                    Err((Failure::Service(error), part)) => {
                        separate::fail_all(part, error);
                        break;
                    }
                }
            }
        }
    }
}

/// Guard that counts a worker down when it ends, also by a panic.
#[derive(Debug)]
pub(crate) struct Leaving(pub(crate) Arc<Core>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.aside.leave();
    }
}
