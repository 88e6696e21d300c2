//! Ingestion of events: deduplicate, fold into customer state, score and store, in one
//! transaction.
//!
//! Requests share transactions (group commit). A customer belongs to one shard of this
//! process. Events that gather in a shard while its previous commit is in progress form
//! the next batch. So an idle service answers after one small transaction, and a loaded
//! service works in large ones.
//!
//! Two shard commits of this process never touch the same customer. So they take no row
//! locks as long as no other process interferes (optimistic concurrency control), and
//! skip reading customers that this process wrote last. A strict request has a
//! transaction of its own beside the shards. Every transaction takes events first,
//! then customers, each in order, so transactions cannot deadlock.

mod accept;
mod commit;
mod conflicts;
mod data_minimization;
mod exposures;
mod links;
pub(crate) mod queue;
mod read;
mod replay;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::Semaphore;

use crate::config;
use crate::config::StoredEventNames;
use crate::domain::access::MessageIdNamespace;
use crate::domain::experiment::spec::Participation;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::domain::wire::{EventLimits, ParsedMessage};
use crate::service::ServiceError;
use crate::service::clock::TimeSource;
use crate::service::failed_events::{FailedEventStore, RejectedEvent};
use crate::service::health::clock_check::ClockCheck;
use crate::service::health::storage::StorageMonitor;
use crate::service::limits::fair_share::{FairShare, ResourceShare};
use crate::service::limits::memory::MemoryReservation;
use crate::service::limits::rate_limits::KeyRateLimiter;
use crate::service::limits::resource_user::ResourceUser;
use crate::service::models::shadow::ShadowModels;
use crate::service::scoring::assignment::CustomerAnswer;
use crate::service::scoring::serving::ServingState;
use crate::service::unused_events::UnusedEventCounter;
use crate::store::customers::events::ReceivedEvent;
use crate::store::database::time_limits::ConnectionPurpose;
use crate::store::{DatabaseHandle, DedicatedDatabase};
use crate::telemetry::{ServiceMetrics, labels};

use commit::adaptive::AdaptiveBackoff;
pub use commit::cache::CustomerCache;
use commit::{EventStatus, EventVerdict};
pub(crate) use conflicts::conflict_faults;
use links::MergedIdHints;
use links::shared_ids::SharedIdMonitor;
pub use links::unlink::UnlinkedCustomers;
use queue::locked_customers::LockedCustomers;
use queue::scheduler::QueueCharge;
use queue::worker::CommitQueue;
pub use queue::worker::CommitWorker;
pub use replay::{ReplayCounts, ReplaySelection};

/// `Retry-After` when the queue is full: a commit takes milliseconds, so a second is
/// enough.
const RETRY_AFTER_SECONDS: u64 = 1;
/// Divisor: events of locked customers may fill this fraction of the queue (1/4).
const SET_ASIDE_DIVISOR: usize = 4;
/// Strict (all-or-nothing) requests that commit at the same time; further ones wait.
const STRICT_CONNECTIONS: u32 = 2;

/// Result of one event after the commit.
#[derive(Debug, Clone)]
pub enum IngestionOutcome {
    /// Counted now. `customer` is the surviving customer, `answer` its new answer.
    Accepted {
        message_id: String,
        customer: CustomerKey,
        answer: Arc<CustomerAnswer>,
        /// The event does not link its ids: the anonymous id is that of a known customer.
        is_link_ignored: bool,
        /// Parts of the event that were left out.
        warnings: Vec<ValidationFault>,
        /// The experiments that the customer takes part in. `None` while no experiment runs, if
        /// exposures cannot be read, and where answers have no scores.
        experiments: Option<Vec<Participation>>,
    },
    /// The event was already counted.
    Duplicate { message_id: String },
    /// Not counted: another event with this id was counted, which was received at
    /// `stored_at`.
    Conflict { message_id: String, stored_at: Timestamp },
    /// Not counted, with the reasons.
    Rejected { faults: ValidationFaults },
    /// Not counted: another event of the same strict (all-or-nothing) request was
    /// rejected.
    NotCounted { message_id: String },
    /// Not counted: another database session had its customer locked for too long.
    Locked { message_id: String },
}

/// Validated events of one request, with the memory reserved for them until the commit.
#[derive(Debug)]
pub struct ReceivedMessages {
    pub messages: Vec<Result<ParsedMessage, RejectedEvent>>,
    pub reservation: Option<MemoryReservation>,
}

impl From<Vec<Result<ParsedMessage, RejectedEvent>>> for ReceivedMessages {
    /// Events that this process produces itself need no reservation.
    fn from(items: Vec<Result<ParsedMessage, RejectedEvent>>) -> Self {
        Self { messages: items, reservation: None }
    }
}

/// Back-pressure policy when too many events are queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullQueuePolicy {
    /// Refuse with 429 and `Retry-After`: for requests.
    Refuse,
    /// Wait, which slows the sender down: for streams.
    Wait,
}

/// Settings of ingestion.
#[derive(Debug, Clone)]
pub struct IngestionSettings {
    pub validation_limits: EventLimits,
    /// Which event names are stored.
    pub event_names: StoredEventNames,
    pub shards: usize,
    /// Approximate maximum of events in one transaction.
    pub max_batch_events: usize,
    /// Maximum of events queued for commit.
    pub max_waiting_events: usize,
    /// Longest wait of an event for a customer that another session has locked.
    pub max_locked_wait: Duration,
    /// Size of the customer cache, which saves reading a customer again.
    pub cache_bytes: usize,
    /// Maximum number of people who log in with one anonymous id before it is reported; 0: no limit.
    pub max_people_per_device: usize,
    pub events_per_request: usize,
}

impl From<&config::AppConfig> for IngestionSettings {
    fn from(config: &config::AppConfig) -> Self {
        let (ingestion, requests) = (&config.ingestion, &config.limits);
        Self {
            validation_limits: EventLimits {
                max_future_millis: ingestion.max_future.as_millis().try_into().unwrap_or(i64::MAX),
                max_property_depth: ingestion.max_property_depth,
                max_event_bytes: ingestion.max_event_bytes,
                sentinel_ids: ingestion.sentinel_ids.clone(),
            },
            event_names: ingestion.event_names.clone(),
            shards: ingestion.shards,
            max_batch_events: ingestion.max_batch_events,
            max_waiting_events: ingestion.max_waiting_events,
            max_locked_wait: ingestion.locked_wait,
            cache_bytes: ingestion.cache_bytes,
            max_people_per_device: ingestion.max_people_per_device,
            events_per_request: requests.events_per_request,
        }
    }
}

/// Shared dependencies of every commit.
#[derive(Debug)]
pub(crate) struct IngestionCore {
    pub(crate) db: DatabaseHandle,
    pub(crate) serving: Arc<ServingState>,
    pub(crate) shadows: Arc<ShadowModels>,
    pub(crate) clock: TimeSource,
    pub(crate) metrics: Arc<ServiceMetrics>,
    pub(crate) max_batch_events: usize,
    pub(crate) merged_ids: MergedIdHints,
    pub(crate) cache: Arc<CustomerCache>,
    pub(crate) locked_customers: LockedCustomers,
    /// Serialises link-recording commits of this process. They wait for each other here
    /// instead of at a database lock, where a wait can end in a lock timeout.
    pub(crate) linking: Semaphore,
    /// Adaptive back-off of the lock-free commit path.
    pub(crate) lock_free_backoff: AdaptiveBackoff,
}

/// Dependencies of ingestion.
#[derive(Debug)]
pub struct IngestionParts {
    pub db: DatabaseHandle,
    pub serving: Arc<ServingState>,
    pub shadows: Arc<ShadowModels>,
    pub clock_check: Arc<ClockCheck>,
    pub metrics: Arc<ServiceMetrics>,
    pub failed_events: Arc<FailedEventStore>,
    pub rate_limits: Arc<KeyRateLimiter>,
}

/// The ingestion service: the only entry point for events.
#[derive(Debug)]
pub struct IngestionService {
    core: Arc<IngestionCore>,
    clock_check: Arc<ClockCheck>,
    failed: Arc<FailedEventStore>,
    settings: IngestionSettings,
    shards: CommitQueue,
    /// Connections for strict requests, which have no shard, and for reading what decides
    /// the links of public keys.
    strict: DedicatedDatabase,
    /// Queue capacity in events, shared fairly between keys.
    capacity: FairShare<ResourceUser>,
    rate_limits: Arc<KeyRateLimiter>,
    shared_ids: SharedIdMonitor,
    unused_events: Arc<UnusedEventCounter>,
    /// `None`: free disk space is not monitored.
    storage: Option<Arc<StorageMonitor>>,
}

impl IngestionService {
    /// The service and its commit workers. Each worker must run for as long as events may
    /// arrive.
    pub fn new(parts: IngestionParts, settings: IngestionSettings) -> (Self, Vec<CommitWorker>) {
        let IngestionParts {
            db,
            serving: live,
            shadows,
            clock_check,
            metrics,
            failed_events: failed,
            rate_limits,
        } = parts;
        let clock = clock_check.clock().clone();
        let unused_events = Arc::new(UnusedEventCounter::new(db.clone(), clock.clone()));
        let max_batch_events = settings.max_batch_events;
        let cache = Arc::new(CustomerCache::new(settings.cache_bytes, Arc::clone(&metrics)));
        let strict = db.dedicated_pool_for(ConnectionPurpose::Commit, STRICT_CONNECTIONS);
        let shards = settings.shards.max(1);
        let max_set_aside = (settings.max_waiting_events / SET_ASIDE_DIVISOR).max(1);
        let gauge = metrics.ingestion.deferred_events.clone();
        let locked_customers =
            LockedCustomers::new(settings.max_locked_wait, max_set_aside, shards, gauge);
        let core = Arc::new(IngestionCore {
            db,
            serving: live,
            shadows,
            clock,
            metrics,
            max_batch_events,
            merged_ids: MergedIdHints::default(),
            cache,
            locked_customers,
            linking: Semaphore::new(1),
            lock_free_backoff: AdaptiveBackoff::new(commit::lock_free::CONFLICT_COST),
        });
        let (shards, workers) = queue::worker::create(&core, shards);
        let capacity = FairShare::new(settings.max_waiting_events);
        let storage = None;
        let shared_ids = SharedIdMonitor::new(settings.max_people_per_device);
        let service = Self {
            core,
            clock_check,
            failed,
            settings,
            shards,
            strict,
            capacity,
            rate_limits,
            shared_ids,
            unused_events,
            storage,
        };
        (service, workers)
    }

    /// Adds the disk check: events are refused while the disk of `storage` is too full.
    #[must_use]
    pub(crate) fn with_storage_monitor(mut self, storage: Arc<StorageMonitor>) -> Self {
        self.storage = Some(storage);
        self
    }

    fn check_disk(&self) -> Result<(), ServiceError> {
        self.storage.as_ref().map_or(Ok(()), |storage| storage.check_disk_space())
    }

    /// The customer cache. Other writers in this process must invalidate the customers
    /// that they write (`CustomerCache::invalidate`).
    pub fn customer_cache(&self) -> Arc<CustomerCache> {
        Arc::clone(&self.core.cache)
    }

    /// The counts of accepted events that no feature uses.
    pub fn unused_events(&self) -> Arc<UnusedEventCounter> {
        Arc::clone(&self.unused_events)
    }

    pub fn now(&self) -> Timestamp {
        self.core.clock.now()
    }

    /// Latest timestamp that an accepted event may have.
    pub(crate) fn latest_allowed_timestamp(&self) -> Timestamp {
        self.now().plus_millis(self.settings.validation_limits.max_future_millis)
    }

    /// Maximum of events in one request.
    pub(crate) fn events_per_request(&self) -> usize {
        self.settings.events_per_request
    }

    /// Events per transaction: streaming callers gather batches of this size.
    pub(crate) fn max_batch_events(&self) -> usize {
        self.settings.max_batch_events
    }

    /// Commits events, each in its customer's shard. Returns one outcome per event, in
    /// order.
    async fn commit(
        &self,
        user: ResourceUser,
        events: Vec<ReceivedEvent>,
        memory: Option<MemoryReservation>,
        when_full: FullQueuePolicy,
    ) -> Result<Vec<IngestionOutcome>, ServiceError> {
        let share = self.reserve_capacity(user, events.len(), when_full).await?;
        let mut charge = QueueCharge::new(share, memory, events.len());
        let mut outcomes: Vec<Option<IngestionOutcome>> = vec![None; events.len()];
        let mut parts: Vec<ShardPart> = Vec::new();
        parts.resize_with(self.shards.count(), ShardPart::default);
        // Outcomes are returned in request order although each shard commits on its own.
        for (index, arrived) in events.into_iter().enumerate() {
            let part = &mut parts[self.shard_of(&arrived.event.customer)];
            part.indices.push(index);
            part.events.push(arrived);
        }
        let parts = parts.into_iter().enumerate().filter(|(_, part)| !part.events.is_empty());
        let commits = parts.map(|(shard, part)| {
            self.commit_part(user, shard, charge.split(part.events.len()), part)
        });
        for (index, verdict) in try_join_all(commits).await?.into_iter().flatten() {
            outcomes[index] = Some(verdict.into());
        }
        let outcomes: Vec<IngestionOutcome> = outcomes.into_iter().flatten().collect();
        self.count_outcomes(&outcomes);
        Ok(outcomes)
    }

    /// Commits the events of one shard. Returns each verdict with its index in the
    /// request.
    async fn commit_part(
        &self,
        user: ResourceUser,
        shard: usize,
        charge: QueueCharge,
        part: ShardPart,
    ) -> Result<impl Iterator<Item = (usize, EventVerdict)> + use<>, ServiceError> {
        let verdicts = self.shards.commit(user, shard, part.events, charge).await?;
        Ok(part.indices.into_iter().zip(verdicts))
    }

    fn shard_of(&self, customer: &CustomerKey) -> usize {
        let mut hasher = DefaultHasher::new();
        customer.hash(&mut hasher);
        // The remainder is below the number of shards, so the conversion never fails.
        usize::try_from(hasher.finish() % self.shards.count() as u64).unwrap_or_default()
    }

    /// Reserves queue capacity for all events of a request, or for none.
    async fn reserve_capacity(
        &self,
        user: ResourceUser,
        events: usize,
        when_full: FullQueuePolicy,
    ) -> Result<ResourceShare<ResourceUser>, ServiceError> {
        self.clock_check.check_event_time(self.now())?;
        // A request larger than half the queue counts as half of it. A request that
        // waited for the whole queue would wait for as long as any other key sends.
        let counted = events.min((self.settings.max_waiting_events / 2).max(1));
        if when_full == FullQueuePolicy::Wait {
            return Ok(self.capacity.acquire(user, counted).await);
        }
        self.capacity.try_acquire(user, counted).ok_or_else(|| {
            self.core.metrics.ingestion.refused_events.inc_by(events as u64);
            self.core.metrics.limits.refusals.add(labels::RefusingLimit::WaitingEvents, 1);
            ServiceError::OverLimit {
                detail: "too many events wait for their commit (ingestion.max_waiting_events)"
                    .into(),
                retry_after_seconds: RETRY_AFTER_SECONDS,
            }
        })
    }
}

/// The events of one request that belong to one shard, and their indices in the request.
#[derive(Debug, Default)]
struct ShardPart {
    indices: Vec<usize>,
    events: Vec<ReceivedEvent>,
}

impl From<EventVerdict> for IngestionOutcome {
    fn from(verdict: EventVerdict) -> Self {
        let message_id = verdict.event.message_id.into();
        match verdict.status {
            EventStatus::Counted { answer, is_link_ignored } => Self::Accepted {
                message_id,
                customer: verdict.event.customer,
                answer,
                is_link_ignored,
                warnings: Vec::new(),
                experiments: None,
            },
            EventStatus::Duplicate => Self::Duplicate { message_id },
            EventStatus::Conflict { stored_at } => Self::Conflict { message_id, stored_at },
            EventStatus::Refused(faults) => Self::Rejected { faults },
            EventStatus::Locked => Self::Locked { message_id },
        }
    }
}

fn arrived(
    message: ParsedMessage,
    received_at: Timestamp,
    sender: &MessageIdNamespace,
) -> ReceivedEvent {
    let ParsedMessage { event, content, is_anonymous, link, .. } = message;
    ReceivedEvent { sender: sender.clone(), event, content, is_anonymous, link, received_at }
}
