//! Commit of a batch: new events, customer states, assignments and history in one
//! transaction.
//!
//! [`commit`] chooses the strategy: lock-free ([`lock_free`]), with row locks
//! ([`locking`]), or following identity links ([`linking`]).

pub(crate) mod adaptive;
pub(crate) mod batch_cache;
pub(crate) mod cache;
pub(crate) mod contents;
pub(crate) mod fold;
pub(crate) mod linking;
pub(crate) mod lock_free;
mod locking;
pub(crate) mod pending;
pub(crate) mod precompute;
pub(crate) mod separate;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;
use std::{fmt, mem};

use crate::domain::event::CustomerEvent;
use crate::domain::fault::ValidationFaults;
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::service::ServiceError;
use crate::service::ingestion::commit::batch_cache::BatchCache;
use crate::service::ingestion::commit::contents::{ConflictPolicy, Conflicts, EventRefusal};
use crate::service::ingestion::commit::fold::{FoldTask, FoldedCustomer};
use crate::service::ingestion::{IngestionCore, links};
use crate::service::retry::RetryAttempts;
use crate::service::scoring::assignment::CustomerAnswer;
use crate::store::customers::events::ReceivedEvent;
use crate::store::{DedicatedDatabase, StoreError};
use crate::telemetry::labels::CommitPath;

/// An event and its result after the commit.
#[derive(Debug)]
pub(crate) struct EventVerdict {
    pub(crate) event: CustomerEvent,
    pub(crate) status: EventStatus,
}

/// Result of one event.
#[derive(Debug)]
pub(crate) enum EventStatus {
    /// Counted now, with the customer's new answer.
    Counted {
        answer: Arc<CustomerAnswer>,
        /// Its identity link is void: the source is a known customer.
        is_link_ignored: bool,
    },
    /// The event was already counted.
    Duplicate,
    /// Not counted: another event with this id was counted.
    Conflict {
        /// When that event was received.
        stored_at: Timestamp,
    },
    /// Not counted: its identity link is impossible.
    Refused(ValidationFaults),
    /// Not counted: another database session had its customer locked for too long.
    Locked,
}

/// A batch to commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IncomingBatch<'b> {
    pub(crate) events: &'b [ReceivedEvent],
    pub(crate) on_conflict: ConflictPolicy,
}

/// Reason why a batch cannot be committed as one. None of its events is committed.
#[derive(Debug)]
pub(crate) enum BatchFailure {
    Service(ServiceError),
    /// The events at these indices cannot be counted.
    Refused(BTreeMap<usize, EventRefusal>),
    /// The links of the batch together involve too many ids for one transaction.
    TooManyIds,
}

/// Result of one attempt at a commit.
#[derive(Debug)]
pub(crate) enum AttemptOutcome {
    Committed(CommittedBatch),
    /// Nothing was written: only the next, more expensive strategy can commit the batch.
    NeedsNextStrategy,
    /// Nothing was written: no strategy can commit the batch as one.
    Impossible(BatchFailure),
}

impl fmt::Display for BatchFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(error) => error.fmt(f),
            Self::Refused(events) => write!(f, "{} events cannot be counted", events.len()),
            Self::TooManyIds => f.write_str("the links involve too many ids"),
        }
    }
}

impl From<ServiceError> for BatchFailure {
    fn from(error: ServiceError) -> Self {
        Self::Service(error)
    }
}

impl From<StoreError> for BatchFailure {
    fn from(error: StoreError) -> Self {
        Self::Service(error.into())
    }
}

/// The answer to one caller: one verdict per event.
pub(crate) type BatchAnswer = Result<Vec<EventVerdict>, ServiceError>;

/// What a commit did with each event, in batch order.
#[derive(Debug)]
pub(crate) struct CommittedBatch {
    /// The answer after a new event; `None` for a duplicate or a conflict.
    pub(crate) answers: Vec<Option<Arc<CustomerAnswer>>>,
    pub(crate) conflicts: Conflicts,
    /// The surviving customer of an event, where that is not the id on the event.
    pub(crate) surviving_ids: HashMap<usize, CustomerKey>,
    /// Events with a link that is void: its source is a known customer.
    pub(crate) ignored_links: HashSet<usize>,
}

impl CommittedBatch {
    /// The result if none of `events` is new.
    pub(crate) fn nothing_new(events: usize, conflicts: Conflicts) -> Self {
        Self {
            answers: vec![None; events],
            conflicts,
            surviving_ids: HashMap::new(),
            ignored_links: HashSet::new(),
        }
    }

    pub(crate) fn new(
        all: &[ReceivedEvent],
        folded: &[FoldedCustomer],
        conflicts: Conflicts,
    ) -> Self {
        let mut committed = Self::nothing_new(all.len(), conflicts);
        for FoldedCustomer { task: FoldTask { customer, events, .. }, answer, .. } in folded {
            for index in events {
                committed.answers[*index] = Some(Arc::clone(answer));
                if all[*index].event.customer != *customer {
                    committed.surviving_ids.insert(*index, customer.clone());
                }
            }
        }
        committed
    }

    /// One verdict per event of the committed batch.
    pub(crate) fn verdicts(self, events: Vec<ReceivedEvent>) -> impl Iterator<Item = EventVerdict> {
        let Self { answers, conflicts, mut surviving_ids, ignored_links } = self;
        events.into_iter().zip(answers).enumerate().map(
            move |(index, (ReceivedEvent { mut event, .. }, answer))| {
                if let Some(customer) = surviving_ids.remove(&index) {
                    event.customer = customer;
                }
                let status = match (answer, conflicts.get(&index)) {
                    (Some(answer), _) => {
                        let is_link_ignored = ignored_links.contains(&index);
                        EventStatus::Counted { answer, is_link_ignored }
                    }
                    (None, Some(stored_at)) => EventStatus::Conflict { stored_at: *stored_at },
                    (None, None) => EventStatus::Duplicate,
                };
                EventVerdict { event, status }
            },
        )
    }

    /// The customer of each new event.
    fn new_event_customers<'c>(
        &'c self,
        all: &'c [ReceivedEvent],
    ) -> impl Iterator<Item = &'c CustomerKey> {
        let new = self.answers.iter().enumerate().filter(|(_, new)| new.is_some());
        new.map(|(index, _)| self.surviving_ids.get(&index).unwrap_or(&all[index].event.customer))
    }
}

/// Commits a batch in one transaction. Of two events with one identity the first counts. All
/// events see the same deployment. Customers in `known` are not read from the
/// database.
pub(crate) async fn commit(
    core: &IngestionCore,
    db: &DedicatedDatabase,
    batch: IncomingBatch<'_>,
    mut known: BatchCache,
) -> Result<CommittedBatch, BatchFailure> {
    let events = batch.events;
    let started = Instant::now();
    let size = u32::try_from(events.len()).unwrap_or(u32::MAX);
    core.metrics.ingestion.batch_events.observe(f64::from(size));
    known.add_cached(&core.cache, events);
    let mut attempts = RetryAttempts::default();
    // Costs a statement only if the batch has links; most links are repeated.
    let linking = links::touches_links(db, &core.merged_ids, events).await?;
    let mut path = if linking { CommitPath::Linking } else { CommitPath::LockFree };
    let committed = loop {
        let outcome = match path {
            CommitPath::LockFree => {
                lock_free::attempt(core, db, batch, mem::take(&mut known)).await
            }
            CommitPath::Locking => locking::attempt(core, db, batch).await,
            CommitPath::Linking => attempt_linking(core, db, batch, attempts.has_lost()).await,
        };
        match outcome {
            Ok(AttemptOutcome::Committed(committed)) => break committed,
            // A strategy never falls back to a cheaper one.
            Ok(AttemptOutcome::NeedsNextStrategy) if path == CommitPath::LockFree => {
                path = CommitPath::Locking;
            }
            Ok(AttemptOutcome::NeedsNextStrategy) => path = CommitPath::Linking,
            Ok(AttemptOutcome::Impossible(failure)) => return Err(failure),
            Err(error) => attempts.record_failure(error)?,
        }
    };
    if path != CommitPath::LockFree {
        // Only the lock-free strategy updates the cache. The others may have written
        // surviving customers that are still cached.
        core.cache.invalidate(committed.new_event_customers(events));
    }
    core.shadows.offer_customers(committed.new_event_customers(events));
    core.metrics.ingestion.commits.add(path, 1);
    core.metrics.ingestion.commit_seconds.observe(started.elapsed().as_secs_f64());
    Ok(committed)
}

/// [`linking::attempt`], serialised within this process where links may be recorded.
async fn attempt_linking(
    core: &IngestionCore,
    db: &DedicatedDatabase,
    batch: IncomingBatch<'_>,
    is_exclusive: bool,
) -> Result<AttemptOutcome, StoreError> {
    let may_record = is_exclusive || batch.events.iter().any(|arrived| arrived.link.is_some());
    // The semaphore is never closed, so the permit is absent only where none is needed.
    let _permit = if may_record { core.linking.acquire().await.ok() } else { None };
    linking::attempt(core, db, batch, is_exclusive).await
}
