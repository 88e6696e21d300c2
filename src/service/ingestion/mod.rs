//! Events in: each is counted once, its customer re-scored, all in one commit.
//!
//! Requests share transactions. A customer belongs to one shard of this
//! process; what has gathered in a shard while its last commit was on its way is
//! committed next. So an idle service answers after one small transaction, a
//! loaded one works in large ones, and no two transactions of it ever meet at a
//! customer, which is why they take no locks as long as no other process is in the
//! way, and need not read whom they wrote before. A strict request has a transaction
//! of its own beside them; ids, then customers, are taken in order everywhere, so
//! nobody waits in a circle.

mod accept;
mod commit;
mod data_minimization;
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
use crate::config::EventNames;
use crate::domain::access::Sender;
use crate::domain::fault::Faults;
use crate::domain::id::CustomerKey;
use crate::domain::time::Timestamp;
use crate::domain::wire::{Limits, Message};
use crate::service::ServiceError;
use crate::service::clock::Clock;
use crate::service::failed_events::{FailedEvents, Refused};
use crate::service::health::clock_check::ClockCheck;
use crate::service::health::storage::Storage;
use crate::service::limits::event_quota::EventQuota;
use crate::service::limits::fair_share::{FairShare, Share};
use crate::service::limits::memory::Reservation;
use crate::service::limits::resource_user::ResourceUser;
use crate::service::models::shadow::Shadows;
use crate::service::scoring::deployment::Live;
use crate::store::customers::assignments::Assignment;
use crate::store::customers::events::Arrived;
use crate::store::database::time_limits::Purpose;
use crate::store::{Db, DedicatedDb};
use crate::telemetry::{Metrics, labels};

use commit::adaptive::Trust;
pub use commit::cache::CustomerCache;
use commit::{Ruling, Verdict};
use links::Markers;
pub use links::unlink::Unlinked;
use queue::locked_customers::Aside;
use queue::scheduler::Charge;
use queue::worker::Shards;
pub use queue::worker::Worker;
pub use replay::{Replayed, Which};

/// What a caller who finds the queue full is told: a commit takes milliseconds,
/// so a second is long enough.
const RETRY_AFTER_SECONDS: u64 = 1;
/// One part in so many of the events that may wait may wait for locked customers.
const SHARE_SET_ASIDE: usize = 4;
/// Requests that are all or none, committed at the same time; more of them wait.
const STRICT_CONNECTIONS: u32 = 2;

/// What became of one event, after the commit.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Counted now; whose it is, and where that customer stands after it.
    Accepted { message_id: String, customer: CustomerKey, standing: Arc<Assignment> },
    /// Counted before.
    Duplicate { message_id: String },
    /// Not counted, and why.
    Rejected { faults: Faults },
    /// Not counted, because others of its request were rejected and it was to be
    /// all or none.
    NotCounted { message_id: String },
    /// Not counted, because another session of the database had its customer locked for
    /// too long.
    Locked { message_id: String },
}

/// Checked events of one request, and the memory that is reserved for them until they
/// are committed.
#[derive(Debug)]
pub struct Received {
    pub items: Vec<Result<Message, Refused>>,
    pub memory: Option<Reservation>,
}

impl From<Vec<Result<Message, Refused>>> for Received {
    /// Events of this process itself, which needs no reservation.
    fn from(items: Vec<Result<Message, Refused>>) -> Self {
        Self { items, memory: None }
    }
}

/// What to do with a caller who comes while too many events are waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Tell it to come back: for requests.
    Refuse,
    /// Let it wait, and so its sender: for streams.
    Wait,
}

/// How intake works.
#[derive(Debug, Clone)]
pub struct Settings {
    pub limits: Limits,
    /// The names of events that are stored.
    pub event_names: EventNames,
    pub shards: usize,
    /// About as many events make one transaction, at most.
    pub max_batch_events: usize,
    /// Events waiting for their commit, at most.
    pub max_waiting_events: usize,
    /// Longest wait of an event for a customer that another session has locked.
    pub locked_wait: Duration,
    /// Of customers that need not be read again.
    pub cache_bytes: usize,
    pub events_per_request: usize,
    /// Events of one key; `None`: no quota.
    pub events_per_second_per_key: Option<u32>,
}

impl From<&config::Config> for Settings {
    fn from(config: &config::Config) -> Self {
        let (intake, requests) = (&config.intake, &config.limits);
        Self {
            limits: Limits {
                max_future_millis: intake.max_future.as_millis().try_into().unwrap_or(i64::MAX),
                max_property_depth: intake.max_property_depth,
                max_event_bytes: intake.max_event_bytes,
            },
            event_names: intake.event_names.clone(),
            shards: intake.shards,
            max_batch_events: intake.max_batch_events,
            max_waiting_events: intake.max_waiting_events,
            locked_wait: intake.locked_wait,
            cache_bytes: intake.cache_bytes,
            events_per_request: requests.events_per_request,
            events_per_second_per_key: requests.events_per_second_per_key,
        }
    }
}

/// What a commit works with.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) db: Db,
    pub(crate) live: Arc<Live>,
    pub(crate) shadows: Arc<Shadows>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) max_batch_events: usize,
    pub(crate) markers: Markers,
    pub(crate) cache: Arc<CustomerCache>,
    pub(crate) aside: Aside,
    /// The turn of this process to record links: its own commits wait for one another here,
    /// and not for a lock of the database, where a wait may end as in vain.
    pub(crate) linking: Semaphore,
    /// In commits without locks.
    pub(crate) trust: Trust,
}

/// The one way in for events.
#[derive(Debug)]
pub struct Intake {
    core: Arc<Core>,
    clock_check: Arc<ClockCheck>,
    failed: Arc<FailedEvents>,
    settings: Settings,
    shards: Shards,
    /// For requests that are all or none, which have no shard, and for what the links of
    /// public keys depend on.
    strict: DedicatedDb,
    /// Events that may wait for their commit, shared between keys.
    room: FairShare<ResourceUser>,
    quota: EventQuota,
    /// `None`: nothing watches the disk.
    storage: Option<Arc<Storage>>,
}

impl Intake {
    /// The way in, and the workers behind it: each must be run for as long as
    /// events may come.
    pub fn new(
        db: Db,
        (live, shadows): (Arc<Live>, Arc<Shadows>),
        clock_check: Arc<ClockCheck>,
        metrics: Arc<Metrics>,
        failed: Arc<FailedEvents>,
        settings: Settings,
    ) -> (Self, Vec<Worker>) {
        let clock = clock_check.clock().clone();
        let max_batch_events = settings.max_batch_events;
        let cache = Arc::new(CustomerCache::new(settings.cache_bytes, Arc::clone(&metrics)));
        let strict = db.dedicated_for(Purpose::Commit, STRICT_CONNECTIONS);
        let shards = settings.shards.max(1);
        let most_aside = (settings.max_waiting_events / SHARE_SET_ASIDE).max(1);
        let gauge = metrics.intake.set_aside.clone();
        let aside = Aside::new(settings.locked_wait, most_aside, shards, gauge);
        let core = Arc::new(Core {
            db,
            live,
            shadows,
            clock,
            metrics,
            max_batch_events,
            markers: Markers::default(),
            cache,
            aside,
            linking: Semaphore::new(1),
            trust: Trust::new(commit::lock_free::LOSS),
        });
        let (shards, workers) = queue::worker::new(&core, shards);
        let room = FairShare::new(settings.max_waiting_events);
        let quota = EventQuota::new(
            settings.events_per_second_per_key,
            settings.events_per_request,
            Arc::clone(&core.metrics),
        );
        let storage = None;
        let intake =
            Self { core, clock_check, failed, settings, shards, strict, room, quota, storage };
        (intake, workers)
    }

    /// Refuses events while the disk of `storage` has too little room for them.
    #[must_use]
    pub fn refusing_without_room_on(mut self, storage: Arc<Storage>) -> Self {
        self.storage = Some(storage);
        self
    }

    fn check_disk(&self) -> Result<(), ServiceError> {
        self.storage.as_ref().map_or(Ok(()), |storage| storage.check_room())
    }

    /// To be told of customers whom somebody else in this process has written.
    pub fn cache(&self) -> Arc<CustomerCache> {
        Arc::clone(&self.core.cache)
    }

    pub fn now(&self) -> Timestamp {
        self.core.clock.now()
    }

    /// No event is dated later than this.
    pub fn horizon(&self) -> Timestamp {
        self.now().plus_millis(self.settings.limits.max_future_millis)
    }

    /// Events that one request may hold.
    pub fn events_per_request(&self) -> usize {
        self.settings.events_per_request
    }

    /// Events per transaction: callers that stream gather this many.
    pub fn max_batch_events(&self) -> usize {
        self.settings.max_batch_events
    }

    /// Commits events, each in its customer's shard; one outcome each, in order.
    async fn commit(
        &self,
        user: ResourceUser,
        events: Vec<Arrived>,
        memory: Option<Reservation>,
        when_full: WhenFull,
    ) -> Result<Vec<Outcome>, ServiceError> {
        let room = self.make_room(user, events.len(), when_full).await?;
        let mut charge = Charge::new(room, memory, events.len());
        let mut outcomes: Vec<Option<Outcome>> = vec![None; events.len()];
        let mut parts: Vec<Part> = Vec::new();
        parts.resize_with(self.shards.count(), Part::default);
        for (place, arrived) in events.into_iter().enumerate() {
            let part = &mut parts[self.shard_of(&arrived.event.customer)];
            part.places.push(place);
            part.events.push(arrived);
        }
        let parts = parts.into_iter().enumerate().filter(|(_, part)| !part.events.is_empty());
        let commits = parts.map(|(shard, part)| {
            self.commit_part(user, shard, charge.split(part.events.len()), part)
        });
        for (place, verdict) in try_join_all(commits).await?.into_iter().flatten() {
            outcomes[place] = Some(verdict.into());
        }
        let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
        self.count(&outcomes);
        Ok(outcomes)
    }

    /// Commits the events of one shard; each verdict with its place in the request.
    async fn commit_part(
        &self,
        user: ResourceUser,
        shard: usize,
        charge: Charge,
        part: Part,
    ) -> Result<impl Iterator<Item = (usize, Verdict)> + use<>, ServiceError> {
        let verdicts = self.shards.commit(user, shard, part.events, charge).await?;
        Ok(part.places.into_iter().zip(verdicts))
    }

    fn shard_of(&self, customer: &CustomerKey) -> usize {
        let mut hasher = DefaultHasher::new();
        customer.hash(&mut hasher);
        // Below the number of shards, so it always fits.
        usize::try_from(hasher.finish() % self.shards.count() as u64).unwrap_or_default()
    }

    /// Room for so many events, all at once: a request is taken whole or not.
    async fn make_room(
        &self,
        user: ResourceUser,
        events: usize,
        when_full: WhenFull,
    ) -> Result<Share<ResourceUser>, ServiceError> {
        self.clock_check.admit(self.now())?;
        // A request of more events than half of the room counts as half of it: one that
        // waited for all of it would wait as long as any other key sends.
        let counted = events.min((self.settings.max_waiting_events / 2).max(1));
        if when_full == WhenFull::Wait {
            return Ok(self.room.acquire(user, counted).await);
        }
        self.room.try_acquire(user, counted).ok_or_else(|| {
            self.core.metrics.intake.refused.inc_by(events as u64);
            self.core.metrics.limits.refusals.add(labels::Limit::WaitingEvents, 1);
            ServiceError::OverLimit {
                detail: "too many events wait for their commit (intake.max_waiting_events)".into(),
                retry_after_seconds: RETRY_AFTER_SECONDS,
            }
        })
    }
}

/// The events of one request that belong to one shard, and their places in it.
#[derive(Debug, Default)]
struct Part {
    places: Vec<usize>,
    events: Vec<Arrived>,
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        let message_id = verdict.event.message_id.into();
        match verdict.ruling {
            Ruling::Counted(standing) => {
                Self::Accepted { message_id, customer: verdict.event.customer, standing }
            }
            Ruling::Duplicate => Self::Duplicate { message_id },
            Ruling::Refused(faults) => Self::Rejected { faults },
            Ruling::Locked => Self::Locked { message_id },
        }
    }
}

fn arrived(message: Message, received_at: Timestamp, sender: &Sender) -> Arrived {
    let Message { event, is_anonymous, link, raw: _ } = message;
    Arrived { sender: sender.clone(), event, is_anonymous, link, received_at }
}
