//! Fallback for a batch that cannot be committed as one: divide it, so that the events
//! that block do not delay the others.
//!
//! A commit that timed out on a lock of another session is divided. Events of customers
//! that are found to be locked are set aside
//! ([`locked_customers`](crate::service::ingestion::queue::locked_customers)), and the
//! rest are committed at once. Where no row is found locked (the lock is on a message id,
//! a new customer or on links), the batch is bisected, a bounded number of times.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::domain::fault::Faults;
use crate::domain::id::CustomerKey;
use crate::domain::identity::MAX_CONNECTED_IDS;
use crate::service::ServiceError;
use crate::service::error::SharedError;
use crate::service::ingestion::Core;
use crate::service::ingestion::commit::batch_cache::Known;
use crate::service::ingestion::commit::{Answer, Failure, Ruling, Verdict, commit};
use crate::service::ingestion::queue::locked_customers;
use crate::service::ingestion::queue::scheduler::{Batch, Charge};
use crate::store::DedicatedDb;
use crate::store::customers::events::Arrived;

/// Lock timeouts after which all remaining events are set aside. Each takes
/// `database.commit_lock_timeout_milliseconds`.
const MAX_BLOCKED_COMMITS: usize = 6;

/// The answer to one caller, sent once each of its events has a verdict.
#[derive(Debug)]
pub(crate) struct PendingAnswer(Mutex<Option<Pending>>);

#[derive(Debug)]
struct Pending {
    verdicts: Vec<Option<Verdict>>,
    missing: usize,
    /// Retained until the answer: events that are set aside occupy memory like others.
    _charge: Charge,
    answer: oneshot::Sender<Answer>,
}

/// One event with its slot in the answer to its caller.
#[derive(Debug)]
pub(crate) struct One {
    pub(crate) arrived: Arrived,
    pub(crate) place: usize,
    pub(crate) answer: Arc<PendingAnswer>,
}

impl PendingAnswer {
    fn put(&self, place: usize, verdict: Verdict) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pending) = open.as_mut() else { return };
        pending.missing -= usize::from(pending.verdicts[place].is_none());
        pending.verdicts[place] = Some(verdict);
        if pending.missing == 0
            && let Some(Pending { verdicts, answer, .. }) = open.take()
        {
            // The caller may have disconnected; its verdicts are dropped then.
            let _ = answer.send(Ok(verdicts.into_iter().flatten().collect()));
        }
    }

    fn fail(&self, error: ServiceError) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(pending) = open {
            let _ = pending.answer.send(Err(error));
        }
    }
}

impl One {
    /// Splits the batches of several callers into single events. Precomputed results are
    /// dropped.
    pub(crate) fn of(batches: Vec<Batch>) -> Vec<Self> {
        let mut all = Vec::new();
        for Batch { events, charge, answer, .. } in batches {
            let mut verdicts = Vec::new();
            verdicts.resize_with(events.len(), || None);
            let missing = events.len();
            let pending = Pending { verdicts, missing, _charge: charge, answer };
            let answer = Arc::new(PendingAnswer(Mutex::new(Some(pending))));
            all.extend(events.into_iter().enumerate().map(|(place, arrived)| Self {
                arrived,
                place,
                answer: Arc::clone(&answer),
            }));
        }
        all
    }

    pub(crate) fn rule(self, ruling: Ruling) {
        self.answer.put(self.place, Verdict { event: self.arrived.event, ruling });
    }

    pub(crate) fn fail(self, error: ServiceError) {
        self.answer.fail(error);
    }
}

/// Fails the callers of these events with the same error.
pub(crate) fn fail_all(events: Vec<One>, error: ServiceError) {
    let shared = SharedError::of(error);
    for one in events {
        one.fail(shared.again());
    }
}

/// Commits these events, in several transactions if necessary. Every caller is answered.
pub(crate) async fn commit_apart(core: &Core, db: &DedicatedDb, events: Vec<One>) {
    let mut parts = vec![events];
    let mut blocked = 0;
    while let Some(part) = parts.pop() {
        let part = core.aside.take_locked(part);
        if part.is_empty() {
            continue;
        }
        match commit_part(core, db, part).await {
            Ok(()) => {}
            Err((Failure::Links(refused), part)) => parts.push(refuse(part, &refused)),
            Err((Failure::TooManyIds, part)) if part.len() > 1 => parts.extend(halves(part)),
            // A single link is always decided. Left is an event that ends too many links
            // at once.
            Err((Failure::TooManyIds, part)) => fail_all(part, ServiceError::Locked),
            Err((Failure::Service(ServiceError::Locked), part)) => {
                blocked += 1;
                let locked =
                    locked_customers::locked(db, part.iter().map(|one| &one.arrived)).await;
                match locked {
                    Ok(locked) if !locked.is_empty() => {
                        tracing::warn!(
                            customers = locked.len(),
                            "events are set aside: another database session has their customers locked"
                        );
                        core.aside.note(locked);
                        parts.push(part);
                    }
                    // Link-recording transactions wait for each other; the other events
                    // need not wait.
                    Ok(_) if part.iter().any(|one| one.arrived.link.is_some()) => {
                        let linking = part.iter().filter(|one| one.arrived.link.is_some());
                        let customers = linking.map(|one| one.arrived.event.customer.clone());
                        core.aside.note(customers.collect());
                        parts.push(part);
                    }
                    Ok(_) if blocked < MAX_BLOCKED_COMMITS && is_divisible(&part) => {
                        parts.extend(halves(part));
                    }
                    _ => {
                        let customers = part.iter().map(|one| one.arrived.event.customer.clone());
                        core.aside.note(customers.collect());
                        parts.push(part);
                    }
                }
            }
            Err((Failure::Service(error), part)) => match (error, of_callers(part)) {
                // The events of one caller must not fail those of another.
                (error, callers)
                    if callers.len() > 1 && !matches!(error, ServiceError::Unavailable(_)) =>
                {
                    tracing::warn!(%error, "a shared transaction failed; retrying one per caller");
                    parts.extend(callers);
                }
                (error, callers) => fail_all(callers.into_iter().flatten().collect(), error),
            },
        }
    }
}

/// Commits these events in one transaction. After a failure, returns them with the
/// reason.
pub(crate) async fn commit_part(
    core: &Core,
    db: &DedicatedDb,
    part: Vec<One>,
) -> Result<(), (Failure, Vec<One>)> {
    let arrived: Vec<Arrived> = part.iter().map(|one| one.arrived.clone()).collect();
    match commit(core, db, &arrived, Known::default()).await {
        Ok(committed) => {
            for (one, verdict) in part.into_iter().zip(committed.verdicts(arrived)) {
                one.answer.put(one.place, verdict);
            }
            Ok(())
        }
        Err(failure) => Err((failure, part)),
    }
}

/// Refuses the events at these indices. Returns the others.
pub(crate) fn refuse(part: Vec<One>, refused: &[usize]) -> Vec<One> {
    let mut rest = Vec::with_capacity(part.len());
    for (index, one) in part.into_iter().enumerate() {
        if refused.contains(&index) {
            one.rule(Ruling::Refused(too_connected()));
        } else {
            rest.push(one);
        }
    }
    rest
}

/// The fault of an event with a link that is refused.
pub(crate) fn too_connected() -> Faults {
    let problem = format!(
        "is linked to an id that is already connected to {MAX_CONNECTED_IDS} others by \
         links: the event is not counted. Remove links (DELETE /v1/customers/…/links/…), \
         then replay it"
    );
    Faults::one("customer_id", problem)
}

/// Bisects a batch so that each half has all events of its customers. A batch of one
/// customer is divided in arrival order.
fn halves(mut part: Vec<One>) -> Vec<Vec<One>> {
    // A stable sort retains the order of each customer's events.
    part.sort_by(|a, b| a.arrived.event.customer.cmp(&b.arrived.event.customer));
    let customer = |one: &One| one.arrived.event.customer.clone();
    let middle = customer(&part[part.len() / 2]);
    let at = part.partition_point(|one| one.arrived.event.customer < middle);
    let at =
        if at == 0 { part.partition_point(|one| one.arrived.event.customer <= middle) } else { at };
    // One customer only: divide its events in arrival order.
    let at = if at == part.len() { part.len() / 2 } else { at };
    let second = part.split_off(at);
    [part, second].into_iter().filter(|part| !part.is_empty()).collect()
}

fn is_divisible(part: &[One]) -> bool {
    let mut customers = part.iter().map(|one| &one.arrived.event.customer);
    let first: Option<&CustomerKey> = customers.next();
    customers.any(|customer| Some(customer) != first)
}

/// Groups the events by caller.
fn of_callers(part: Vec<One>) -> Vec<Vec<One>> {
    let mut callers: Vec<Vec<One>> = Vec::new();
    for one in part {
        let same = |caller: &&mut Vec<One>| {
            caller.first().is_some_and(|first| Arc::ptr_eq(&first.answer, &one.answer))
        };
        match callers.iter_mut().find(same) {
            Some(caller) => caller.push(one),
            None => callers.push(vec![one]),
        }
    }
    callers
}
