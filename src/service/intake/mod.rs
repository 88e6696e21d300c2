//! Events in: each is counted once, its customer re-scored, all in one commit.
//!
//! Requests share transactions. A customer belongs to one shard of this
//! process; a shard commits what has gathered while its last commit was on its
//! way. So an idle service answers after one small transaction, a loaded one
//! works in large ones, and no two shards ever wait for the same customer.

mod commit;
mod fold;
mod shard;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures_util::future::try_join_all;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::config;
use crate::domain::event::Event;
use crate::domain::fault::Faults;
use crate::domain::id::{CustomerKey, MessageId};
use crate::domain::time::Timestamp;
use crate::domain::wire::{Limits, native, segment};
use crate::service::clock::Clock;
use crate::service::live::{Lineup, Live};
use crate::service::{ServiceError, random};
use crate::store::Db;
use crate::store::assignments::Assignment;
use crate::store::events::Arrived;
use crate::telemetry::Metrics;
use crate::telemetry::labels;

pub use shard::Worker;
use shard::{Shard, Verdict};

/// What a caller who finds the queue full is told: a commit takes milliseconds,
/// so a second is long enough.
const RETRY_AFTER_SECONDS: u64 = 1;

/// What became of one event, after the commit.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Counted now; where its customer stands after it.
    Accepted { message_id: String, customer: CustomerKey, standing: Arc<Assignment> },
    /// Counted before.
    Duplicate { message_id: String },
    /// Not counted, and why.
    Rejected { faults: Faults },
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
        }
    }
}

/// What a commit works with.
#[derive(Debug)]
pub(in crate::service::intake) struct Core {
    pub(in crate::service::intake) db: Db,
    pub(in crate::service::intake) live: Arc<Live>,
    pub(in crate::service::intake) clock: Clock,
    pub(in crate::service::intake) metrics: Arc<Metrics>,
    pub(in crate::service::intake) max_batch_events: usize,
}

/// The one way in for events.
#[derive(Debug)]
pub struct Intake {
    core: Arc<Core>,
    settings: Settings,
    shards: Vec<Shard>,
    room: Arc<Semaphore>,
}

impl Intake {
    /// The way in, and the workers behind it: each must be run for as long as
    /// events may come.
    pub fn new(
        db: Db,
        live: Arc<Live>,
        clock: Clock,
        metrics: Arc<Metrics>,
        settings: Settings,
    ) -> (Self, Vec<Worker>) {
        let max_batch_events = settings.max_batch_events;
        let core = Arc::new(Core { db, live, clock, metrics, max_batch_events });
        let (shards, workers) =
            (0..settings.shards.max(1)).map(|_| shard::new(Arc::clone(&core))).unzip();
        let room = Arc::new(Semaphore::new(settings.max_waiting_events));
        (Self { core, settings, shards, room }, workers)
    }

    pub fn now(&self) -> Timestamp {
        self.core.clock.now()
    }

    /// Events per transaction: callers that stream gather this many.
    pub fn max_batch_events(&self) -> usize {
        self.settings.max_batch_events
    }

    /// Checks one event in segmentd's own form.
    pub fn read(&self, value: &Value, received_at: Timestamp) -> Result<Event, Faults> {
        let event = native::parse(value, received_at, self.settings.limits, new_id)?;
        admit(&self.core.live.lineup(), event)
    }

    /// Checks the messages of a body in Segment's form: one result for each, in
    /// order. Customers stand under the id their message names: a link between
    /// two ids is read and not followed.
    pub fn read_segment(
        &self,
        body: &segment::Body<'_>,
        received_at: Timestamp,
    ) -> Vec<Result<Event, Faults>> {
        let lineup = self.core.live.lineup();
        let messages = body.read(received_at, self.settings.limits, new_id);
        messages.into_iter().map(|message| admit(&lineup, message?.event)).collect()
    }

    /// Counts events; one outcome for each, in order. Events of different
    /// customers may be committed in different transactions: after an error
    /// some may be counted, and sending everything again is safe.
    pub async fn accept(
        &self,
        events: Vec<Result<Event, Faults>>,
        received_at: Timestamp,
        when_full: WhenFull,
    ) -> Result<Vec<Outcome>, ServiceError> {
        let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(events.len());
        let mut parts: Vec<Part> = self.shards.iter().map(|_| Part::default()).collect();
        for (place, event) in events.into_iter().enumerate() {
            outcomes.push(match event {
                Ok(event) => {
                    let part = &mut parts[self.shard_of(&event.customer)];
                    part.places.push(place);
                    part.events.push(Arrived { event, received_at });
                    None
                }
                Err(faults) => Some(Outcome::Rejected { faults }),
            });
        }
        let waiting: usize = parts.iter().map(|part| part.events.len()).sum();
        let room = self.make_room(waiting, when_full).await?;
        let commits = self.shards.iter().zip(parts).filter(|(_, part)| !part.events.is_empty());
        let commits = commits.map(|(shard, part)| async {
            let verdicts = shard.commit(part.events).await?;
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
        usize::try_from(hasher.finish() % self.shards.len() as u64).unwrap_or_default()
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
                Outcome::Rejected { .. } => labels::Outcome::Rejected,
            };
            intake.events.add(label, 1);
        }
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
fn admit(lineup: &Lineup, event: Event) -> Result<Event, Faults> {
    lineup.features.admit(event).map_err(|fault| Faults(vec![fault]))
}
