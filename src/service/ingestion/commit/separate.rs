//! Events of a commit that could not be made as one: committed apart, so that what is in
//! the way of some does not delay the others.
//!
//! A commit that waited in vain for a lock of another session is divided: events of
//! customers who are found to be locked are set aside (`service::intake::aside`), and
//! the rest are committed at once. Where no row is found locked (the lock is on a message
//! id, on a new customer, on links), halves are tried, a bounded number of times.

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

/// Commits that may wait for a lock in vain before all that is left is set aside: each
/// takes `database.commit_lock_timeout_milliseconds`.
const MAX_BLOCKED_COMMITS: usize = 6;

/// The answer to one caller, given once each of its events has a verdict.
#[derive(Debug)]
pub(crate) struct PendingAnswer(Mutex<Option<Pending>>);

#[derive(Debug)]
struct Pending {
    verdicts: Vec<Option<Verdict>>,
    missing: usize,
    /// Until the answer: events that are set aside take as much memory as others.
    _charge: Charge,
    answer: oneshot::Sender<Answer>,
}

/// One event, and which verdict of whose answer is its own.
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
            // A caller who has hung up does not wait for its verdicts.
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
    /// The events of several callers. What was computed ahead is dropped.
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

/// Tells each caller of these events the one cause.
pub(crate) fn fail_all(events: Vec<One>, error: ServiceError) {
    let shared = SharedError::of(error);
    for one in events {
        one.fail(shared.again());
    }
}

/// Commits these events, in as many transactions as it takes; each caller is answered.
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
            // Alone, each link is decided.
            Err((Failure::TooManyIds, part)) => fail_all(part, ServiceError::Locked),
            Err((Failure::Service(ServiceError::Locked), part)) => {
                blocked += 1;
                let locked =
                    locked_customers::locked(db, part.iter().map(|one| &one.arrived)).await;
                match locked {
                    Ok(locked) if !locked.is_empty() => {
                        tracing::warn!(
                            customers = locked.len(),
                            "customers are locked by another session: their events are set aside"
                        );
                        core.aside.note(locked);
                        parts.push(part);
                    }
                    // All who link wait for one another: those who do not, need not.
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
                // The events of one caller must not harm those of another.
                (error, callers)
                    if callers.len() > 1 && !matches!(error, ServiceError::Unavailable(_)) =>
                {
                    tracing::warn!(%error, "a shared transaction failed: each caller gets its own");
                    parts.extend(callers);
                }
                (error, callers) => fail_all(callers.into_iter().flatten().collect(), error),
            },
        }
    }
}

/// Commits these events in one transaction. After a failure they come back.
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

/// Refuses the events at these places of a part; returns the others.
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

/// What is wrong with an event whose link is refused.
pub(crate) fn too_connected() -> Faults {
    let problem = format!(
        "is linked to an id that already hangs together with {MAX_CONNECTED_IDS} others by \
         links: the event is not counted. Take links back (DELETE /v1/customers/…/links/…), \
         then replay it"
    );
    Faults::one("customer_id", problem)
}

/// Two parts, each with all events of its customers; the same part if it has one customer.
fn halves(mut part: Vec<One>) -> Vec<Vec<One>> {
    // Stable, so that the events of a customer keep their order.
    part.sort_by(|a, b| a.arrived.event.customer.cmp(&b.arrived.event.customer));
    let customer = |one: &One| one.arrived.event.customer.clone();
    let middle = customer(&part[part.len() / 2]);
    let at = part.partition_point(|one| one.arrived.event.customer < middle);
    let at =
        if at == 0 { part.partition_point(|one| one.arrived.event.customer <= middle) } else { at };
    // With one customer the events are divided, in the order in which they came.
    let at = if at == part.len() { part.len() / 2 } else { at };
    let second = part.split_off(at);
    [part, second].into_iter().filter(|part| !part.is_empty()).collect()
}

fn is_divisible(part: &[One]) -> bool {
    let mut customers = part.iter().map(|one| &one.arrived.event.customer);
    let first: Option<&CustomerKey> = customers.next();
    customers.any(|customer| Some(customer) != first)
}

/// The events of each caller.
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
