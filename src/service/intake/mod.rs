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

mod ahead;
mod board;
mod cache;
mod commit;
mod fold;
mod hear;
mod known;
mod optimistic;
mod regroup;
mod replay;
mod shard;
mod trust;
mod unlink;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures_util::future::try_join_all;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::config;
use crate::domain::fault::Faults;
use crate::domain::id::{CustomerKey, MessageId};
use crate::domain::time::Timestamp;
use crate::domain::wire::{Limits, Message, native, segment};
use crate::service::clock::Clock;
use crate::service::failed::{FailedEvents, Refused, Source};
use crate::service::live::{Lineup, Live};
use crate::service::shadow::Shadows;
use crate::service::storage::Storage;
use crate::service::{ServiceError, random};
use crate::store::assignments::Assignment;
use crate::store::events::Arrived;
use crate::store::{Db, DedicatedDb};
use crate::telemetry::Metrics;
use crate::telemetry::labels;

pub use cache::CustomerCache;
use commit::Verdict;
use hear::Markers;
use known::Known;
pub use replay::{Replayed, Which};
use shard::Shards;
pub use shard::Worker;
use trust::Trust;
pub use unlink::Unlinked;

/// What a caller who finds the queue full is told: a commit takes milliseconds,
/// so a second is long enough.
const RETRY_AFTER_SECONDS: u64 = 1;
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
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub limits: Limits,
    pub shards: usize,
    /// About as many events make one transaction, at most.
    pub max_batch_events: usize,
    /// Events waiting for their commit, at most.
    pub max_waiting_events: usize,
    /// Of customers that need not be read again.
    pub cache_bytes: usize,
}

impl From<&config::Intake> for Settings {
    fn from(intake: &config::Intake) -> Self {
        Self {
            limits: Limits {
                max_future_millis: intake.max_future.as_millis().try_into().unwrap_or(i64::MAX),
                max_property_depth: intake.max_property_depth,
                max_event_bytes: intake.max_event_bytes,
            },
            shards: intake.shards,
            max_batch_events: intake.max_batch_events,
            max_waiting_events: intake.max_waiting_events,
            cache_bytes: intake.cache_bytes,
        }
    }
}

/// What a commit works with.
#[derive(Debug)]
pub(in crate::service::intake) struct Core {
    pub(in crate::service::intake) db: Db,
    pub(in crate::service::intake) live: Arc<Live>,
    pub(in crate::service::intake) shadows: Arc<Shadows>,
    pub(in crate::service::intake) clock: Clock,
    pub(in crate::service::intake) metrics: Arc<Metrics>,
    pub(in crate::service::intake) max_batch_events: usize,
    pub(in crate::service::intake) markers: Markers,
    pub(in crate::service::intake) cache: Arc<CustomerCache>,
    /// In commits without locks.
    pub(in crate::service::intake) trust: Trust,
}

/// The one way in for events.
#[derive(Debug)]
pub struct Intake {
    core: Arc<Core>,
    failed: Arc<FailedEvents>,
    settings: Settings,
    shards: Shards,
    /// For requests that are all or none: they have no shard.
    strict: DedicatedDb,
    room: Arc<Semaphore>,
    /// `None`: nothing watches the disk.
    storage: Option<Arc<Storage>>,
}

impl Intake {
    /// The way in, and the workers behind it: each must be run for as long as
    /// events may come.
    pub fn new(
        db: Db,
        (live, shadows): (Arc<Live>, Arc<Shadows>),
        clock: Clock,
        metrics: Arc<Metrics>,
        failed: Arc<FailedEvents>,
        settings: Settings,
    ) -> (Self, Vec<Worker>) {
        let max_batch_events = settings.max_batch_events;
        let cache = Arc::new(CustomerCache::new(settings.cache_bytes, Arc::clone(&metrics)));
        let strict = db.dedicated(STRICT_CONNECTIONS);
        let core = Arc::new(Core {
            db,
            live,
            shadows,
            clock,
            metrics,
            max_batch_events,
            markers: Markers::default(),
            cache,
            trust: Trust::new(optimistic::LOSS),
        });
        let (shards, workers) = shard::new(&core, settings.shards);
        let room = Arc::new(Semaphore::new(settings.max_waiting_events));
        (Self { core, failed, settings, shards, strict, room, storage: None }, workers)
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

    /// Events per transaction: callers that stream gather this many.
    pub fn max_batch_events(&self) -> usize {
        self.settings.max_batch_events
    }

    /// Checks one event in segmentd's own form.
    pub fn read(&self, raw: &[u8], received_at: Timestamp) -> Result<Message, Refused> {
        self.read_within(self.settings.limits, raw, received_at, new_id)
    }

    /// Checks the messages of a body in Segment's form: one result for each, in
    /// order.
    pub fn read_segment(
        &self,
        body: &segment::Body<'_>,
        received_at: Timestamp,
    ) -> Vec<Result<Message, Refused>> {
        let lineup = self.core.live.lineup();
        let limits = self.settings.limits;
        let messages = body.read(received_at, limits, new_id).into_iter().enumerate();
        let admitted = messages.map(|(index, message)| {
            message.and_then(|message| admit(&lineup, message)).map_err(|faults| {
                let kept = body.kept(index);
                if kept.len() > limits.max_event_bytes {
                    Refused::cut_short(faults, &kept)
                } else {
                    Refused::new(faults, &kept)
                }
            })
        });
        admitted.collect()
    }

    fn read_within(
        &self,
        limits: Limits,
        raw: &[u8],
        received_at: Timestamp,
        new_id: impl FnOnce() -> Option<MessageId>,
    ) -> Result<Message, Refused> {
        if raw.len() > limits.max_event_bytes {
            return Err(self.too_large(raw));
        }
        let read = || {
            let value: Value = serde_json::from_slice(raw)
                .map_err(|error| Faults::one("event", format!("cannot be read; {error}")))?;
            let message = native::parse(&value, received_at, limits, new_id)?;
            admit(&self.core.live.lineup(), message)
        };
        read().map_err(|faults| Refused::new(faults, raw))
    }

    /// What an event is answered that begins like this and is too large.
    pub fn too_large(&self, head: &[u8]) -> Refused {
        let most = self.settings.limits.max_event_bytes;
        let problem = format!("is larger than {most} bytes (intake.max_event_bytes)");
        Refused::cut_short(Faults::one("event", problem), head)
    }

    /// Counts events and keeps those that are refused; one outcome for each, in
    /// order. Events of different customers may be committed in different
    /// transactions: after an error some may be counted, and sending everything
    /// again is safe.
    pub async fn accept(
        &self,
        items: Vec<Result<Message, Refused>>,
        source: Source<'_>,
        received_at: Timestamp,
        when_full: WhenFull,
    ) -> Result<Vec<Outcome>, ServiceError> {
        self.check_disk()?;
        let mut events = Vec::with_capacity(items.len());
        let mut refused: Vec<Option<Refused>> = Vec::with_capacity(items.len());
        for item in items {
            refused.push(item.map(|message| events.push(arrived(message, received_at))).err());
        }
        let mut counted = self.commit(events, when_full).await?.into_iter();
        // Last, so that what is sent again because of an error is not kept twice.
        self.failed.keep(source, received_at, refused.iter().flatten()).await?;
        let outcomes = refused.into_iter().filter_map(|refused| match refused {
            Some(refused) => Some(self.reject(refused)),
            None => counted.next(),
        });
        Ok(outcomes.collect())
    }

    /// Counts all of these events, in one transaction, or none. Refused ones are
    /// not kept: nothing happened, and their sender has them.
    pub async fn accept_strict(
        &self,
        items: Vec<Result<Message, Refused>>,
        received_at: Timestamp,
    ) -> Result<Vec<Outcome>, ServiceError> {
        self.check_disk()?;
        let most = self.settings.max_batch_events;
        if items.len() > most {
            let problem = format!(
                "are {}; one transaction holds at most {most} (intake.max_batch_events)",
                items.len()
            );
            return Err(ServiceError::Invalid(Faults::one("events", problem)));
        }
        if items.iter().any(Result::is_err) {
            let outcomes: Vec<Outcome> = items
                .into_iter()
                .map(|item| match item {
                    Ok(Message { event, .. }) => {
                        Outcome::NotCounted { message_id: event.message_id.into() }
                    }
                    Err(refused) => self.reject(refused),
                })
                .collect();
            self.count(&outcomes);
            return Ok(outcomes);
        }
        let messages = items.into_iter().flatten();
        let events: Vec<Arrived> = messages.map(|message| arrived(message, received_at)).collect();
        let room = self.make_room(events.len(), WhenFull::Refuse).await?;
        let committed = commit::commit(&self.core, &self.strict, &events, Known::default()).await?;
        drop(room);
        let outcomes: Vec<Outcome> = committed.verdicts(events).map(Into::into).collect();
        self.count(&outcomes);
        Ok(outcomes)
    }

    /// Commits events, each in its customer's shard; one outcome each, in order.
    async fn commit(
        &self,
        events: Vec<Arrived>,
        when_full: WhenFull,
    ) -> Result<Vec<Outcome>, ServiceError> {
        let room = self.make_room(events.len(), when_full).await?;
        let mut outcomes: Vec<Option<Outcome>> = vec![None; events.len()];
        let mut parts: Vec<Part> = Vec::new();
        parts.resize_with(self.shards.count(), Part::default);
        for (place, arrived) in events.into_iter().enumerate() {
            let part = &mut parts[self.shard_of(&arrived.event.customer)];
            part.places.push(place);
            part.events.push(arrived);
        }
        let parts = parts.into_iter().enumerate().filter(|(_, part)| !part.events.is_empty());
        let commits = parts.map(|(shard, part)| async move {
            let verdicts = self.shards.commit(shard, part.events).await?;
            Ok::<_, ServiceError>(part.places.into_iter().zip(verdicts))
        });
        for (place, verdict) in try_join_all(commits).await?.into_iter().flatten() {
            outcomes[place] = Some(verdict.into());
        }
        drop(room);
        let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
        self.count(&outcomes);
        Ok(outcomes)
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
        events: usize,
        when_full: WhenFull,
    ) -> Result<tokio::sync::SemaphorePermit<'_>, ServiceError> {
        // More than there is room for at all gets all of it.
        let events = events.min(self.settings.max_waiting_events);
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        let room = match when_full {
            WhenFull::Refuse => self.room.try_acquire_many(events).ok(),
            WhenFull::Wait => self.room.acquire_many(events).await.ok(),
        };
        room.ok_or_else(|| {
            self.core.metrics.intake.refused.inc_by(u64::from(events));
            ServiceError::Busy { retry_after_seconds: RETRY_AFTER_SECONDS }
        })
    }

    fn count(&self, outcomes: &[Outcome]) {
        let intake = &self.core.metrics.intake;
        for outcome in outcomes {
            let label = match outcome {
                Outcome::Accepted { standing, .. } => {
                    intake.outliers.inc_by(u64::from(standing.outlier));
                    labels::Outcome::Accepted
                }
                Outcome::Duplicate { .. } => labels::Outcome::Duplicate,
                Outcome::NotCounted { .. } => labels::Outcome::NotCounted,
                // Counted with what was wrong.
                Outcome::Rejected { .. } => continue,
            };
            intake.events.add(label, 1);
        }
    }

    fn reject(&self, refused: Refused) -> Outcome {
        let intake = &self.core.metrics.intake;
        intake.events.add(labels::Outcome::Rejected, 1);
        if let Some(first) = refused.faults.0.first() {
            intake.rejected.add(part(&first.path), 1);
        }
        Outcome::Rejected { faults: refused.faults }
    }
}

/// The events of one request that belong to one shard, and their places in it.
#[derive(Debug, Default)]
struct Part {
    places: Vec<usize>,
    events: Vec<Arrived>,
}

/// The part of an event that a fault's path names.
fn part(path: &str) -> labels::Part {
    match path.split_once('.').map_or(path, |(field, _)| field) {
        "event" => labels::Part::Event,
        "type" => labels::Part::Type,
        "name" | "category" => labels::Part::Name,
        "customer_id" | "anonymous_id" | "userId" | "anonymousId" | "previousId" => {
            labels::Part::CustomerId
        }
        "message_id" | "messageId" => labels::Part::MessageId,
        "timestamp" | "sent_at" | "originalTimestamp" | "sentAt" => labels::Part::Timestamp,
        "properties" | "traits" => labels::Part::Property,
        _ => labels::Part::Unknown,
    }
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        let message_id = verdict.event.message_id.into();
        match verdict.standing {
            Some(standing) => {
                Self::Accepted { message_id, customer: verdict.event.customer, standing }
            }
            None => Self::Duplicate { message_id },
        }
    }
}

/// For an event whose sender gave it none.
fn new_id() -> Option<MessageId> {
    random::token::<16>().ok()?.parse().ok()
}

/// Drops what no feature reads, and refuses what none could.
fn admit(lineup: &Lineup, Message { event, link }: Message) -> Result<Message, Faults> {
    let event = lineup.features.admit(event).map_err(|fault| Faults(vec![fault]))?;
    Ok(Message { event, link })
}

fn arrived(Message { event, link }: Message, received_at: Timestamp) -> Arrived {
    Arrived { event, link, received_at }
}
