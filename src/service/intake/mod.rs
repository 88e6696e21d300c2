//! Events in: each is counted once, its customer re-scored, all in one commit.

mod commit;

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

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
use crate::telemetry::Metrics;
use crate::telemetry::labels::{self, Decision};

/// What became of one event, after the commit.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Counted now; where its customer stands after it.
    Accepted { message_id: String, customer: CustomerKey, standing: Assignment },
    /// Counted before.
    Duplicate { message_id: String },
    /// Not counted, and why.
    Rejected { faults: Faults },
}

/// The one way in for events.
#[derive(Debug)]
pub struct Intake {
    pub(in crate::service::intake) db: Db,
    pub(in crate::service::intake) live: Arc<Live>,
    clock: Clock,
    limits: Limits,
    max_batch_events: usize,
    metrics: Arc<Metrics>,
}

impl Intake {
    pub fn new(
        db: Db,
        live: Arc<Live>,
        clock: Clock,
        limits: Limits,
        max_batch_events: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { db, live, clock, limits, max_batch_events, metrics }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Events per transaction: callers that stream gather this many.
    pub fn max_batch_events(&self) -> usize {
        self.max_batch_events
    }

    /// Checks one event in segmentd's own form.
    pub fn read(&self, value: &Value, received_at: Timestamp) -> Result<Event, Faults> {
        let event = native::parse(value, received_at, self.limits, new_id)?;
        admit(&self.live.lineup(), event)
    }

    /// Checks the messages of a body in Segment's form: one result for each, in
    /// order. Customers stand under the id their message names: a link between
    /// two ids is read and not followed.
    pub fn read_segment(
        &self,
        body: &segment::Body<'_>,
        received_at: Timestamp,
    ) -> Vec<Result<Event, Faults>> {
        let lineup = self.live.lineup();
        let messages = body.read(received_at, self.limits, new_id);
        messages.into_iter().map(|message| admit(&lineup, message?.event)).collect()
    }

    /// Counts events, in transactions of at most `max_batch_events`. One outcome
    /// for each, in order. After an error, what was committed before it stays
    /// counted: sending everything again is safe.
    pub async fn accept(
        &self,
        events: Vec<Result<Event, Faults>>,
        received_at: Timestamp,
    ) -> Result<Vec<Outcome>, ServiceError> {
        let mut outcomes = Vec::with_capacity(events.len());
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let batch: Vec<_> = events.by_ref().take(self.max_batch_events).collect();
            let started = Instant::now();
            let size = u32::try_from(batch.len()).unwrap_or(u32::MAX);
            self.metrics.intake.batch_events.observe(f64::from(size));
            let (of_batch, recorded) = commit::commit(self, batch, received_at).await?;
            self.metrics.intake.commit_seconds.observe(started.elapsed().as_secs_f64());
            self.count(&of_batch);
            let assignments = &self.metrics.intake.assignments;
            assignments.add(Decision::First, recorded.first);
            assignments.add(Decision::Moved, recorded.moved);
            assignments.add(Decision::Kept, recorded.kept);
            outcomes.extend(of_batch);
        }
        Ok(outcomes)
    }

    fn count(&self, outcomes: &[Outcome]) {
        let intake = &self.metrics.intake;
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

/// For an event whose sender gave it none.
fn new_id() -> Option<MessageId> {
    random::token::<16>().ok()?.parse().ok()
}

/// Drops what no feature reads, and refuses what none could.
fn admit(lineup: &Lineup, event: Event) -> Result<Event, Faults> {
    lineup.features.admit(event).map_err(|fault| Faults(vec![fault]))
}
