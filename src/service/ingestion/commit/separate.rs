//! Fallback for a batch that cannot be committed as one: divide it, so that the events that
//! block do not delay the others.
//!
//! A commit that timed out on a lock of another session is divided. Events of customers
//! that are found to be locked are set aside
//! ([`locked_customers`](crate::service::ingestion::queue::locked_customers)), and the
//! rest are committed at once. Where no row is found locked (the lock is on a message id,
//! a new customer or on links), the batch is bisected, a bounded number of times.

use crate::domain::id::CustomerKey;
use crate::service::ServiceError;
use crate::service::error::ErrorChain;
use crate::service::ingestion::IngestionCore;
use crate::service::ingestion::commit::BatchFailure;
use crate::service::ingestion::commit::pending::{
    PendingEvent, commit_together, fail_all, refuse_events,
};
use crate::service::ingestion::queue::locked_customers::find_locked;
use crate::store::DedicatedDatabase;
use crate::telemetry::repeated_failures::count_failure;

/// Lock timeouts after which all remaining events are set aside. Each takes
/// `database.commit_lock_timeout_milliseconds`.
const MAX_LOCK_TIMEOUTS: usize = 6;

/// Commits these events, in several transactions if necessary. Every caller is answered.
pub(crate) async fn commit_separately(
    core: &IngestionCore,
    db: &DedicatedDatabase,
    events: Vec<PendingEvent>,
) {
    let mut parts = vec![events];
    let mut lock_timeouts = 0;
    while let Some(part) = parts.pop() {
        let part = core.locked_customers.set_aside(part);
        if part.is_empty() {
            continue;
        }
        match commit_together(core, db, part).await {
            Ok(()) => {}
            Err((BatchFailure::Refused(refused), part)) => {
                parts.push(refuse_events(part, &refused));
            }
            Err((BatchFailure::TooManyIds, part)) if part.len() > 1 => parts.extend(halves(part)),
            // A single link is always decided. Left is an event that ends too many links at
            // once.
            Err((BatchFailure::TooManyIds, part)) => fail_all(part, ServiceError::Locked),
            Err((BatchFailure::Service(ServiceError::Locked), part)) => {
                lock_timeouts += 1;
                let is_bisectable = lock_timeouts < MAX_LOCK_TIMEOUTS && has_two_customers(&part);
                match customers_to_set_aside(db, &part, is_bisectable).await {
                    Some(customers) => {
                        core.locked_customers.mark_locked(customers);
                        parts.push(part);
                    }
                    None => parts.extend(halves(part)),
                }
            }
            Err((BatchFailure::Service(error), part)) => {
                let callers = group_by_caller(part);
                if callers.len() > 1 && !matches!(error, ServiceError::Unavailable(_)) {
                    // The events of one caller must not fail those of another.
                    let reason = ErrorChain(&error).to_string();
                    if let Some(repeated) = count_failure("shared commit", &reason) {
                        tracing::warn!(
                            error = reason,
                            "a shared transaction failed; retrying one per caller{repeated}"
                        );
                    }
                    parts.extend(callers);
                } else {
                    fail_all(callers.into_iter().flatten().collect(), error);
                }
            }
        }
    }
}

/// The customers to treat as locked after a lock timeout; `None`: bisect the part instead.
async fn customers_to_set_aside(
    db: &DedicatedDatabase,
    part: &[PendingEvent],
    is_bisectable: bool,
) -> Option<Vec<CustomerKey>> {
    if let Ok(locked) = find_locked(db, part.iter().map(|event| &event.arrived)).await {
        if !locked.is_empty() {
            if let Some(repeated) = count_failure("commit", "locked customers") {
                tracing::warn!(
                    customers = locked.len(),
                    "another database session has customers locked; their events are set \
                     aside{repeated}"
                );
            }
            return Some(locked);
        }
        // Link-recording transactions wait for each other; the other events need not wait.
        let linking = part.iter().filter(|event| event.arrived.link.is_some());
        let linking: Vec<CustomerKey> =
            linking.map(|event| event.arrived.event.customer.clone()).collect();
        if !linking.is_empty() {
            return Some(linking);
        }
        if is_bisectable {
            return None;
        }
    }
    Some(part.iter().map(|event| event.arrived.event.customer.clone()).collect())
}

/// Bisects a batch so that each half has all events of its customers. A batch of one
/// customer is divided in arrival order.
fn halves(mut part: Vec<PendingEvent>) -> Vec<Vec<PendingEvent>> {
    // A stable sort retains the order of each customer's events.
    part.sort_by(|a, b| a.arrived.event.customer.cmp(&b.arrived.event.customer));
    let middle = part[part.len() / 2].arrived.event.customer.clone();
    let mut at = part.partition_point(|event| event.arrived.event.customer < middle);
    if at == 0 {
        // The middle customer begins the batch: divide behind its events instead.
        at = part.partition_point(|event| event.arrived.event.customer <= middle);
    }
    if at == part.len() {
        // One customer only: divide its events in arrival order.
        at = part.len() / 2;
    }
    let second = part.split_off(at);
    [part, second].into_iter().filter(|part| !part.is_empty()).collect()
}

fn has_two_customers(part: &[PendingEvent]) -> bool {
    let mut customers = part.iter().map(|event| &event.arrived.event.customer);
    let first: Option<&CustomerKey> = customers.next();
    customers.any(|customer| Some(customer) != first)
}

/// Groups the events by caller.
fn group_by_caller(part: Vec<PendingEvent>) -> Vec<Vec<PendingEvent>> {
    let mut callers: Vec<Vec<PendingEvent>> = Vec::new();
    for event in part {
        match callers.iter_mut().find(|caller| caller[0].has_caller_of(&event)) {
            Some(caller) => caller.push(event),
            None => callers.push(vec![event]),
        }
    }
    callers
}
